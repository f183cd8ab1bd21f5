"""The Study: question, configurations, comparisons and recommendation, which the page and the W&B report show.

Selection uses validation accuracy, never accuracy on the official test set.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kws import metrics
from kws.analysis import statistics
from kws.analysis.decision import MARGIN, Decision, decide, mean_accuracy
from kws.analysis.grouping import group_by_study, missing_configurations, varied_settings
from kws.analysis.records import SPLITS, Excluded, Results, RunRecord
from kws.analysis.statistics import Answers, Difference, Estimate, Plan, Speakers
from kws.data.clips import speaker
from kws.formatting import value_text
from kws.training.provenance import Code
from kws.training.run_folder import Predictions

if TYPE_CHECKING:
    from kws.data.corpus import DataInfo

FEWEST_SEEDS = 3
LAST_EPOCHS = 5  # stability is the standard deviation of validation accuracy over these

Table = tuple[dict[str, Answers], Speakers]  # see _tabulate


@dataclass(frozen=True, eq=False)
class Configuration:
    """All runs with the same values of the scientific parameters; they differ in the seed alone."""

    values: dict[str, Any]  # of the scientific parameters
    runs: list[RunRecord]
    answers: Answers  # of each run (row) for the clips that the choice uses: those of validation, see Study.chosen_on
    test_answers: Answers
    val: Estimate  # of accuracy on the clips that the choice uses
    test: Estimate  # of test/accuracy
    epoch_s: Estimate  # of time/epoch_s_median, seconds; NaN if the study's runs are not comparable in it
    stability: Estimate  # of `last_epochs_spread`, a fraction
    params: float
    flops: float

    @property
    def label(self) -> str:
        return ", ".join(f"{name} {value_text(value)}" for name, value in self.values.items()) or "all runs"

    @property
    def short_label(self) -> str:
        return ", ".join(value_text(value) for value in self.values.values()) or "all runs"

    def rows(self, seeds: Sequence[int]) -> list[int]:
        """Return the rows of these seeds in its answers, or all rows if there are too few seeds to compare."""
        numbers = {run.seed: row for row, run in enumerate(self.runs)}
        return [numbers[seed] for seed in seeds] if len(seeds) >= FEWEST_SEEDS else list(numbers.values())

    def mean_accuracy(self, seeds: Sequence[int]) -> float:
        """Return the mean accuracy on the clips that the choice uses over `rows(seeds)`."""
        return mean_accuracy(self.answers[self.rows(seeds)])


@dataclass(frozen=True)
class Comparison:
    """A configuration minus the recommended one (or the best, if none is recommended), over the shared seeds."""

    configuration: Configuration
    val: Difference  # on the clips that the choice uses; Holm-corrected over the study's comparisons, as is `test`
    test: Difference
    is_worse: bool  # significantly, in `val`


@dataclass(frozen=True, eq=False)
class Study:
    """One question and its runs, all on the same data."""

    name: str
    variant: dict[str, Any]  # settings that distinguish it from other studies of its name, such as {"epochs": 3}
    question: str
    method: str  # of its sweep files; "" without one
    parameters: list[str]  # scientific: the settings with several values, except the seed
    configurations: list[Configuration]
    runs: list[RunRecord]
    seeds: list[int]
    data_info: "DataInfo"
    missing: list[str]  # configurations of the sweep file without a finished run
    excluded: list[Excluded]
    sweep_metrics: set[str]  # that its sweep files optimise
    compared: list[Configuration]  # the configurations with enough seeds, or all of them
    shared_seeds: list[int]  # that all compared configurations have: comparisons use these
    margin: float  # of accuracy, below which a loss counts as none
    test_speakers: Speakers
    decision: Decision | None  # its numbers are positions in `compared`; None with too few seeds
    best: Configuration  # highest mean on the clips that the choice uses
    recommended: Configuration  # the best so far if none is recommended
    comparisons: list[Comparison]  # [] with too few seeds
    plan: Plan | None  # what would decide an undecided study

    @property
    def title(self) -> str:
        return ", ".join([self.name, *(f"{name} {value_text(value)}" for name, value in self.variant.items())])

    @property
    def code(self) -> Code:
        """The code that made the study's runs: see kws.analysis.load."""
        return self.runs[0].code

    @property
    def synthetic(self) -> bool:
        return bool(self.data_info.get("synthetic"))

    @property
    def is_search(self) -> bool:
        return self.method in ("random", "bayes") or len(self.parameters) > 2

    @property
    def recommends(self) -> bool:
        """Whether one configuration is recommended."""
        return self.decision is not None and self.decision.verdict != "undecided"

    @property
    def resplit(self) -> bool:
        """Whether each seed holds out other speakers: validation and test clips of a seed then count alike."""
        return all(run.config["resplit"] for run in self.runs)

    @property
    def chosen_on(self) -> str:
        """The clips that the choice uses, as an adjective: validation, or held-out (validation and test)."""
        return "held-out" if self.resplit else "validation"

    @property
    def key(self) -> str:
        """A short unique name for anchors and file names."""
        letters = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "-" for c in self.name[:40])
        identity = (self.name, self.data_info["fingerprint"], *self.variant.items())
        digest = hashlib.sha256(repr(identity).encode()).hexdigest()
        return f"{letters}-{digest[:6]}"

    @property
    def chosen_run(self) -> RunRecord:
        """The run of the recommended configuration that is best on validation: the model to deploy."""
        accuracy, loss = metrics.BEST_VAL_ACCURACY, metrics.BEST_VAL_LOSS
        return max(self.recommended.runs, key=lambda run: (run.summary[accuracy], -run.summary.get(loss, math.inf)))


def studies(results: Results, margin: float = MARGIN) -> list[Study]:
    """Return the studies of `results` in order of their first run; `margin`: the loss of accuracy that is accepted."""
    return [_study(variant, runs, results, margin) for variant, runs in group_by_study(results.runs, results.sweeps)]


def _study(variant: dict[str, Any], runs: list[RunRecord], results: Results, margin: float) -> Study:
    name = runs[0].study
    parameters = [key for key in varied_settings(runs) if key != "seed"]
    sweeps = [results.sweeps[key] for key in dict.fromkeys(run.sweep_id for run in runs) if key in results.sweeps]
    description = next((str(sweep["description"]) for sweep in sweeps if sweep.get("description")), "")
    data_info = runs[0].data_info
    resplit = all(run.config["resplit"] for run in runs)
    choice = _tabulate(runs, lambda run: run.val_predictions | (run.predictions if resplit else {}))
    test = _tabulate(runs, lambda run: run.predictions)
    configurations = _configurations(runs, parameters, choice, test)
    if len(concurrent_jobs(runs)) > 1:  # the jobs of a machine slow each other down
        configurations = [replace(item, epoch_s=statistics.mean_interval([math.nan])) for item in configurations]
    enough = [item for item in configurations if len(item.runs) >= FEWEST_SEEDS]
    compared = enough if len(enough) > 1 else configurations
    shared_seeds = sorted(set.intersection(*({run.seed for run in item.runs} for item in compared)))
    best = recommended = max(compared, key=lambda item: (item.mean_accuracy(shared_seeds), -item.flops))
    decision, comparisons, plan = None, [], None
    if len(compared) > 1 and len(shared_seeds) >= FEWEST_SEEDS and choice[1].any():  # two speakers
        answers = [item.answers[item.rows(shared_seeds)] for item in compared]
        decision = decide([item.flops for item in compared], answers, choice[1], margin)
        recommended = compared[decision.chosen]
        comparisons = _comparisons(decision, compared, shared_seeds, test[1])
        if decision.verdict == "undecided" and decision.blocked:
            which, better, _ = decision.blocked
            clips = sum(data_info[split] for split in (SPLITS if resplit else SPLITS[:2]))
            made = len(shared_seeds) if resplit else 0
            plan = statistics.plan(answers[better], answers[which], choice[1], margin, clips, made)
    return Study(
        name=name,
        variant=variant,
        question=_question(description, parameters),
        method=next((sweep.get("method", "") for sweep in sweeps), ""),
        parameters=parameters,
        configurations=configurations,
        runs=runs,
        seeds=sorted({run.seed for run in runs}),
        data_info=data_info,
        missing=[text for sweep in sweeps for text in missing_configurations(sweep, runs)],
        excluded=[item for item in results.excluded if item.study in ("", name)],
        sweep_metrics={str(sweep["metric"].get("name")) for sweep in sweeps if isinstance(sweep.get("metric"), dict)},
        compared=compared,
        shared_seeds=shared_seeds,
        margin=margin,
        test_speakers=test[1],
        decision=decision,
        best=best,
        recommended=recommended,
        comparisons=comparisons,
        plan=plan,
    )


def concurrent_jobs(runs: Iterable[RunRecord]) -> list[str]:
    """Return the numbers of jobs that ran at once, "unknown" where it was not recorded."""
    return sorted({str(run.config.get("concurrent_jobs") or "unknown") for run in runs})


def _question(description: str, parameters: list[str]) -> str:
    text = " ".join(description.split()).removeprefix("Question:").strip()
    if "?" in text:
        text = text[: text.index("?") + 1]
        return text[0].upper() + text[1:]
    if text:
        return text.split(". ")[0]
    if parameters:
        return f"What {'does' if len(parameters) == 1 else 'do'} {' and '.join(parameters)} change?"
    return "How accurate is this configuration?"


def _tabulate(runs: list[RunRecord], of: Callable[[RunRecord], Predictions]) -> Table:
    """Return ({run id: its answers (clips,)}, the speakers of these clips) for the predictions `of` each run."""
    predictions = {run.run_id: of(run) for run in runs}
    clips = sorted(set().union(*predictions.values()))
    columns = {clip: column for column, clip in enumerate(clips)}
    answers = {run_id: np.full(len(clips), math.nan) for run_id in predictions}
    for run_id, found in predictions.items():
        answers[run_id][[columns[clip] for clip in found]] = [prediction.is_correct for prediction in found.values()]
    pattern = runs[0].config["speaker_from"]
    return answers, np.unique([speaker(clip, pattern) or clip for clip in clips], return_inverse=True)[1]


def _configurations(runs: list[RunRecord], parameters: list[str], choice: Table, test: Table) -> list[Configuration]:
    """Return the Configurations of `runs`, ordered by their values."""
    groups: dict[tuple[Any, ...], list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        groups.setdefault(tuple(run.config.get(key) for key in parameters), []).append(run)
    return [
        _configuration(dict(zip(parameters, values, strict=True)), groups[values], choice, test)
        for values in sorted(groups)
    ]


def _configuration(values: dict[str, Any], runs: list[RunRecord], choice: Table, test: Table) -> Configuration:
    first = runs[0].summary
    answers, test_answers = (np.stack([table[0][run.run_id] for run in runs]) for table in (choice, test))
    val, of_test = (statistics.accuracy_interval(*item) for item in ((answers, choice[1]), (test_answers, test[1])))
    if len(runs) == 1:  # the interval is that of one model, not of its settings
        val, of_test = (replace(item, low=math.nan, high=math.nan) for item in (val, of_test))
    return Configuration(
        values=values,
        runs=runs,
        answers=answers,
        test_answers=test_answers,
        val=val,
        test=of_test,
        epoch_s=statistics.mean_interval([run.summary[metrics.EPOCH_S_MEDIAN] for run in runs]),
        stability=statistics.mean_interval([last_epochs_spread(run) for run in runs]),
        params=first[metrics.PARAMS],
        flops=first[metrics.FLOPS],
    )


def last_epochs_spread(run: RunRecord) -> float:
    """Return the standard deviation of validation accuracy over the run's last epochs (NaN for one epoch)."""
    last = run.history.get(metrics.VAL_ACCURACY, [])[-LAST_EPOCHS:]
    return float(np.std(last, ddof=1)) if len(last) > 1 else math.nan


def _comparisons(
    decision: Decision, compared: list[Configuration], seeds: list[int], test_speakers: Speakers
) -> list[Comparison]:
    others = list(decision.comparisons)
    reference, *rest = (compared[number] for number in (decision.chosen, *others))
    reference_answers, *answers = (item.test_answers[item.rows(seeds)] for item in (reference, *rest))
    test = statistics.differences(reference_answers, answers, test_speakers)
    return [
        Comparison(item, decision.comparisons[number], of_test, decision.is_worse(number))
        for number, item, of_test in zip(others, rest, test, strict=True)
    ]
