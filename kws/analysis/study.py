"""The study object: what was asked, what was tried, what came out, and what to recommend.

The page and the W&B report are two renderings of it. Choices are made on validation accuracy, never on test.
"""

import hashlib
import math
from dataclasses import dataclass, field, replace

import numpy as np

from kws import metrics
from kws.analysis.grouping import missing_configurations, split_by_sweep
from kws.analysis.statistics import accuracy_interval, holm, mcnemar, mean_interval, paired_difference
from kws.config import IDENTITY_SETTINGS
from kws.formatting import value_text

SIGNIFICANT = 0.05
FEWEST_SEEDS = 3
LAST_EPOCHS = 5  # stability is the spread of validation accuracy over these


@dataclass
class Configuration:
    """All runs with the same values of the scientific parameters; they differ in the seed alone."""

    values: dict
    runs: list
    val: object  # Estimate of best/val_accuracy
    test: object  # Estimate of test/accuracy
    epoch_s: object  # Estimate of time/epoch_s_median, seconds
    stability: object  # Estimate of the standard deviation over a run's last epochs, as a fraction
    params: int
    macs: int
    flops: int
    frontend_macs: int

    @property
    def label(self):
        return ", ".join(f"{name} {value_text(value)}" for name, value in self.values.items()) or "all runs"

    @property
    def short_label(self):
        return ", ".join(value_text(value) for value in self.values.values()) or "all runs"

    def by_seed(self, key):
        return {run.seed: run.summary[key] for run in self.runs}


@dataclass(frozen=True)
class Comparison:
    """A configuration against the one that is best on validation: differences are configuration - best over equal seeds."""

    configuration: Configuration
    val: object  # Difference, Holm-corrected over the study's comparisons
    test: object
    clips: (
        tuple | None
    )  # (only this configuration right, only the best right, p) on the test clips; None: not the same clips


@dataclass
class Study:
    """One question and its runs, all on the same data."""

    name: str
    variant: dict  # settings that tell it from others of its name, such as {"epochs": 3}
    question: str
    description: str
    method: str
    parameters: list  # scientific: the settings with several values, the seed aside
    configurations: list
    runs: list
    seeds: list
    data_info: dict
    missing: list  # names of configurations that the sweep file asks for and no run gives
    excluded: list
    metrics: set  # that its sweep files optimise
    compared: list = field(default_factory=list)  # the configurations with seeds enough, or all of them
    shared_seeds: list = field(
        default_factory=list
    )  # that all compared configurations have: comparisons are over these
    best: Configuration = None  # on validation
    recommended: Configuration = None
    verdict: str = ""  # clear winner, cheapest of equals, too few seeds, one seed, nothing compared
    comparisons: list = field(default_factory=list)

    @property
    def title(self):
        return ", ".join([self.name, *(f"{name} {value_text(value)}" for name, value in self.variant.items())])

    @property
    def synthetic(self):
        return bool(self.data_info.get("synthetic"))

    @property
    def is_search(self):
        return self.method in ("random", "bayes") or len(self.parameters) > 2

    @property
    def recommends(self):
        """Whether there were seeds enough for a recommendation."""
        return self.verdict in ("clear winner", "cheapest of equals")

    @property
    def key(self):
        """A short name of its own: for anchors and file names."""
        letters = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "-" for c in self.name[:40])
        identity = (self.name, self.data_info["fingerprint"], *self.variant.items())
        digest = hashlib.sha256(repr(identity).encode()).hexdigest()
        return f"{letters}-{digest[:6]}"

    @property
    def chosen_run(self):
        """The run of the recommended configuration that is best on validation: the model to take away."""
        return max(self.recommended.runs, key=lambda run: (run.summary[metrics.BEST_VAL_ACCURACY], -_val_loss(run)))


def _val_loss(run):
    return run.summary.get(metrics.BEST_VAL_LOSS, math.inf)


def studies(results):
    """Return the Study objects of a Results, in order of their start.

    There is one for every study name, data set, and choice of what the sweep files keep fixed.
    """
    groups = {}
    for run in results.runs:
        key = (run.study, run.data_info["fingerprint"], bool(run.data_info.get("synthetic")))
        groups.setdefault(key, []).append(run)
    return [
        _study(name, variant, part, results)
        for (name, _, _), runs in groups.items()
        for variant, part in split_by_sweep(runs, results.sweeps)
    ]


def _study(name, variant, runs, results):
    varied = [key for key in IDENTITY_SETTINGS if len({repr(run.config.get(key)) for run in runs}) > 1]
    parameters = [key for key in varied if key != "seed"]
    sweeps = [results.sweeps[key] for key in dict.fromkeys(run.sweep_id for run in runs) if key in results.sweeps]
    grouped = {}
    for run in runs:
        grouped.setdefault(tuple(run.config.get(key) for key in parameters), []).append(run)
    data_info = runs[0].data_info
    configurations = [
        _cell(dict(zip(parameters, values, strict=True)), grouped[values], data_info)
        for values in sorted(grouped, key=_order)
    ]
    description = next((str(sweep["description"]) for sweep in sweeps if sweep.get("description")), "")
    study = Study(
        name=name,
        variant=variant,
        question=_question(description, parameters),
        description=" ".join(description.split()),
        method=next((sweep.get("method", "") for sweep in sweeps), ""),
        parameters=parameters,
        configurations=configurations,
        runs=runs,
        seeds=sorted({run.seed for run in runs}),
        data_info=data_info,
        missing=[text for sweep in sweeps for text in missing_configurations(sweep, runs)],
        excluded=[item for item in results.excluded if item.study in ("", name)],
        metrics={str(sweep["metric"].get("name")) for sweep in sweeps if isinstance(sweep.get("metric"), dict)},
    )
    _compare(study)
    return study


def _order(values):
    return tuple((0, value, "") if isinstance(value, (int, float)) else (1, 0, str(value)) for value in values)


def _question(description, parameters):
    text = " ".join(description.split()).removeprefix("Question:").strip()
    if "?" in text:
        text = text[: text.index("?") + 1]
        return text[0].upper() + text[1:]
    if text:
        return text.split(". ")[0]
    if parameters:
        return f"What {'does' if len(parameters) == 1 else 'do'} {' and '.join(parameters)} change?"
    return "How well does this configuration do?"


def _cell(values, runs, data_info):
    runs = sorted(runs, key=lambda run: run.seed)

    def summary(key):
        return [run.summary[key] for run in runs]

    first = runs[0].summary
    return Configuration(
        values=values,
        runs=runs,
        val=accuracy_interval(summary(metrics.BEST_VAL_ACCURACY), max(data_info["val"], 1)),
        test=accuracy_interval(summary(metrics.TEST_ACCURACY), max(data_info["test"], 1)),
        epoch_s=mean_interval(summary(metrics.EPOCH_S_MEDIAN)),
        stability=mean_interval([last_epochs_spread(run) for run in runs]),
        params=first[metrics.PARAMS],
        macs=first.get(metrics.MACS, first[metrics.FLOPS] / 2),
        flops=first[metrics.FLOPS],
        frontend_macs=first.get(metrics.FRONTEND_MACS, 0),
    )


def last_epochs_spread(run):
    """Return the standard deviation of validation accuracy over the run's last epochs (NaN for one epoch)."""
    last = run.history.get(metrics.VAL_ACCURACY, [])[-LAST_EPOCHS:]
    return float(np.std(last, ddof=1)) if len(last) > 1 else math.nan


def _compare(study):
    enough = [configuration for configuration in study.configurations if configuration.val.n >= FEWEST_SEEDS]
    study.compared = enough if len(enough) > 1 else study.configurations
    seeds = set.intersection(*({run.seed for run in configuration.runs} for configuration in study.compared))
    study.shared_seeds = sorted(seeds)
    study.best = max(
        study.compared, key=lambda configuration: (shared_mean(study, configuration), -configuration.flops)
    )
    study.recommended = study.best
    others = [configuration for configuration in study.compared if configuration is not study.best]
    comparisons = [
        _comparison(configuration, study.best, study.data_info, study.shared_seeds) for configuration in others
    ]
    for kind in ("val", "test"):
        corrected = holm([getattr(item, kind).p for item in comparisons])
        comparisons = [
            replace(item, **{kind: replace(getattr(item, kind), p_holm=p)})
            for item, p in zip(comparisons, corrected, strict=True)
        ]
    study.comparisons = comparisons
    if not comparisons:
        study.verdict = "nothing compared"
    elif max(configuration.val.n for configuration in study.configurations) == 1:
        study.verdict = "one seed"
    elif len(study.shared_seeds) < FEWEST_SEEDS:
        study.verdict = "too few seeds"
    else:
        equals = [study.best, *(item.configuration for item in comparisons if not is_worse(item))]
        study.recommended = min(
            equals, key=lambda configuration: (configuration.flops, -shared_mean(study, configuration))
        )
        study.verdict = "clear winner" if len(equals) == 1 else "cheapest of equals"


def shared_mean(study, configuration):
    """Return a compared configuration's mean validation accuracy over the shared seeds; over its own where there are too few.

    Rounded, so that as many errors are the same mean, in whatever order they were added.
    """
    values = configuration.by_seed(metrics.BEST_VAL_ACCURACY)
    seeds = study.shared_seeds if len(study.shared_seeds) >= FEWEST_SEEDS else list(values)
    return round(sum(values[seed] for seed in seeds) / len(seeds), 9)


def is_worse(comparison):
    """Whether the configuration can be told from the best one on validation."""
    return comparison.val.p_holm < SIGNIFICANT and comparison.val.mean < 0


def _comparison(configuration, best, data_info, seeds):
    def difference(key, clips):
        ours, theirs = (
            {seed: values[seed] for seed in seeds} for values in (best.by_seed(key), configuration.by_seed(key))
        )
        return paired_difference(ours, theirs, 1 / max(clips, 1))

    return Comparison(
        configuration=configuration,
        val=difference(metrics.BEST_VAL_ACCURACY, data_info["val"]),
        test=difference(metrics.TEST_ACCURACY, data_info["test"]),
        clips=_on_clips(configuration, best, seeds),
    )


def _on_clips(configuration, best, seeds):
    """Compare two configurations clip by clip. Seeds may have test clips of their own, but both configurations must have the same."""
    right = {}  # clip -> seeds in which (the configuration, the best) was right
    for seed in seeds:
        runs = [next(run for run in either.runs if run.seed == seed) for either in (configuration, best)]
        if not runs[0].predictions or set(runs[0].predictions) != set(runs[1].predictions):
            return None
        for clip in runs[0].predictions:
            counts = right.setdefault(clip, [0, 0])
            for place, run in enumerate(runs):
                counts[place] += is_right(run.predictions[clip])
    return mcnemar(*zip(*right.values(), strict=True)) if right else None


def is_right(prediction):
    """Whether a (label, probability of label 1) is on the right side of one half."""
    label, probability = prediction
    return (probability > 0.5) == bool(label)
