"""The Study: question, configurations, comparisons and recommendation, which the page and the W&B report show.

Selection uses validation accuracy, never test accuracy.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kws import metrics
from kws.analysis import statistics
from kws.analysis.grouping import group_by_study, missing_configurations, varied_settings
from kws.analysis.records import Excluded, Results, RunRecord
from kws.analysis.statistics import Difference, Estimate
from kws.formatting import value_text
from kws.training.provenance import Code

if TYPE_CHECKING:
    from kws.data.corpus import DataInfo

SIGNIFICANT = 0.05
FEWEST_SEEDS = 3
LAST_EPOCHS = 5  # stability is the standard deviation of validation accuracy over these

Verdict = Literal["clear winner", "cheapest of equals", "too few seeds", "one seed", "nothing compared"]


@dataclass(frozen=True)
class Configuration:
    """All runs with the same values of the scientific parameters; they differ in the seed alone."""

    values: dict[str, Any]  # of the scientific parameters
    runs: list[RunRecord]
    val: Estimate  # of best/val_accuracy
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

    def by_seed(self, metric: str) -> dict[int, float]:
        return {run.seed: run.summary[metric] for run in self.runs}

    def mean_val_accuracy(self, shared_seeds: Sequence[int]) -> float:
        """Return the mean validation accuracy over `shared_seeds`, or over all its seeds if those are too few.

        It is rounded so that equal error counts give equal means in any order of summation.
        """
        values = self.by_seed(metrics.BEST_VAL_ACCURACY)
        seeds = shared_seeds if len(shared_seeds) >= FEWEST_SEEDS else list(values)
        return round(sum(values[seed] for seed in seeds) / len(seeds), 9)


@dataclass(frozen=True)
class Comparison:
    """A configuration minus the one that is best on validation, over the shared seeds."""

    configuration: Configuration
    val: Difference  # Holm-corrected over the study's comparisons, as is `test`
    test: Difference
    # Test clips (only this configuration correct, only the best correct, p); None if the test clips differ.
    clips: tuple[int, int, float] | None

    @property
    def is_worse(self) -> bool:
        """Whether the configuration is significantly worse than the best one on validation."""
        return self.val.p_holm < SIGNIFICANT and self.val.mean < 0


@dataclass(frozen=True)
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
    best: Configuration  # on validation
    recommended: Configuration
    verdict: Verdict
    comparisons: list[Comparison]

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
        """Whether there are enough seeds for a recommendation."""
        return self.verdict in ("clear winner", "cheapest of equals")

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


def studies(results: Results) -> list[Study]:
    """Return the studies of `results` in order of their first run."""
    return [_study(variant, runs, results) for variant, runs in group_by_study(results.runs, results.sweeps)]


def _study(variant: dict[str, Any], runs: list[RunRecord], results: Results) -> Study:
    name = runs[0].study
    parameters = [key for key in varied_settings(runs) if key != "seed"]
    sweeps = [results.sweeps[key] for key in dict.fromkeys(run.sweep_id for run in runs) if key in results.sweeps]
    description = next((str(sweep["description"]) for sweep in sweeps if sweep.get("description")), "")
    data_info = runs[0].data_info
    configurations = _configurations(runs, parameters, data_info)
    if len(concurrent_jobs(runs)) > 1:  # the jobs of a machine slow each other down
        configurations = [replace(item, epoch_s=statistics.mean_interval([math.nan])) for item in configurations]
    enough = [item for item in configurations if len(item.runs) >= FEWEST_SEEDS]
    compared = enough if len(enough) > 1 else configurations
    shared_seeds = sorted(set.intersection(*({run.seed for run in item.runs} for item in compared)))
    best = max(compared, key=lambda item: (item.mean_val_accuracy(shared_seeds), -item.flops))
    comparisons = _comparisons([item for item in compared if item is not best], best, shared_seeds, data_info)
    verdict, recommended = _recommend(best, comparisons, shared_seeds)
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
        best=best,
        recommended=recommended,
        verdict=verdict,
        comparisons=comparisons,
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


def _configurations(runs: list[RunRecord], parameters: list[str], data_info: "DataInfo") -> list[Configuration]:
    """Return the Configurations of `runs`, ordered by their values."""
    groups: dict[tuple[Any, ...], list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        groups.setdefault(tuple(run.config.get(key) for key in parameters), []).append(run)
    return [
        _configuration(dict(zip(parameters, values, strict=True)), groups[values], data_info)
        for values in sorted(groups)
    ]


def _configuration(values: dict[str, Any], runs: list[RunRecord], data_info: "DataInfo") -> Configuration:
    def summary(metric: str) -> list[float]:
        return [run.summary[metric] for run in runs]

    first = runs[0].summary
    return Configuration(
        values=values,
        runs=runs,
        val=statistics.accuracy_interval(summary(metrics.BEST_VAL_ACCURACY), data_info["val"]),
        test=statistics.accuracy_interval(summary(metrics.TEST_ACCURACY), data_info["test"]),
        epoch_s=statistics.mean_interval(summary(metrics.EPOCH_S_MEDIAN)),
        stability=statistics.mean_interval([last_epochs_spread(run) for run in runs]),
        params=first[metrics.PARAMS],
        flops=first[metrics.FLOPS],
    )


def last_epochs_spread(run: RunRecord) -> float:
    """Return the standard deviation of validation accuracy over the run's last epochs (NaN for one epoch)."""
    last = run.history.get(metrics.VAL_ACCURACY, [])[-LAST_EPOCHS:]
    return float(np.std(last, ddof=1)) if len(last) > 1 else math.nan


def _comparisons(
    others: list[Configuration], best: Configuration, seeds: list[int], data_info: "DataInfo"
) -> list[Comparison]:
    def differences(metric: str, clips: int) -> list[Difference]:
        of_best = {seed: best.by_seed(metric)[seed] for seed in seeds}
        found = [statistics.paired_difference(of_best, other.by_seed(metric), 1 / clips) for other in others]
        corrected = statistics.holm([item.p for item in found])
        return [replace(item, p_holm=p) for item, p in zip(found, corrected, strict=True)]

    val = differences(metrics.BEST_VAL_ACCURACY, data_info["val"])
    test = differences(metrics.TEST_ACCURACY, data_info["test"])
    clips = [_compare_clips(other, best, seeds) for other in others]
    return [Comparison(*item) for item in zip(others, val, test, clips, strict=True)]


def _compare_clips(
    configuration: Configuration, best: Configuration, seeds: list[int]
) -> tuple[int, int, float] | None:
    """Return McNemar's test on the test clips, which may differ by seed; None if the configurations' clips differ."""
    correct: dict[str, list[int]] = {}  # clip -> number of seeds for which (the configuration, the best) is correct
    for seed in seeds:
        pair = [next(run.predictions for run in item.runs if run.seed == seed) for item in (configuration, best)]
        if not pair[0] or set(pair[0]) != set(pair[1]):
            return None
        for clip in pair[0]:
            counts = correct.setdefault(clip, [0, 0])
            for index, predictions in enumerate(pair):
                counts[index] += predictions[clip].is_correct
    return statistics.mcnemar(*zip(*correct.values(), strict=True)) if correct else None


def _recommend(
    best: Configuration, comparisons: list[Comparison], shared_seeds: list[int]
) -> tuple[Verdict, Configuration]:
    """Return the verdict and the configuration to use: the cheapest that is not significantly worse than the best."""
    if not comparisons:
        return "nothing compared", best
    if max(len(item.runs) for item in (best, *(other.configuration for other in comparisons))) == 1:
        return "one seed", best
    if len(shared_seeds) < FEWEST_SEEDS:
        return "too few seeds", best
    equals = [best, *(item.configuration for item in comparisons if not item.is_worse)]
    cheapest = min(equals, key=lambda item: (item.flops, -item.mean_val_accuracy(shared_seeds)))
    return ("clear winner" if len(equals) == 1 else "cheapest of equals"), cheapest
