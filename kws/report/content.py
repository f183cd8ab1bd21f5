"""What the page, report.md and the W&B report share: facts of a study, rows of its tables, and the methods."""

import math
from collections.abc import Iterable

from kws.analysis.narrative import split_sizes
from kws.analysis.statistics import Difference, Estimate
from kws.analysis.study import FEWEST_SEEDS, LAST_EPOCHS, SIGNIFICANT, Comparison, Configuration, Study
from kws.formatting import count, p_text, percent, percentage_points, seconds

METHODS = f"""
Configurations are chosen by validation accuracy; test accuracy is only reported. A configuration is significantly
different from the best one if the paired t-test over the seeds that all share, Holm-corrected over the study's
comparisons, gives p below {SIGNIFICANT}; with fewer than {FEWEST_SEEDS} shared seeds nothing is recommended. Since
the best configuration is selected among several, its own mean is slightly optimistic. Intervals of an accuracy are
Student's t on the arcsine scale, with a standard deviation of at least half a clip: they estimate the mean of many
more seeds on the same clips, not the accuracy for other speakers. Test clips are compared with McNemar's exact test
over seeds: it counts the clips that one configuration classified correctly in more seeds than the other. Stability is
the standard deviation of validation accuracy over a run's last {LAST_EPOCHS} epochs. Test accuracy is that of the
epoch with the best validation accuracy. FLOPs are twice the multiply-accumulates of the network for one clip (one
second), without the log-mel layer.
"""
Cell = str | tuple[str, str]  # a text, with a note to show below it or in parentheses
# A head that ends in # belongs to a column of numbers.
COMPARISON_HEADS = (
    "configuration", "seeds#", "validation accuracy#", "test accuracy#", "parameters#", "FLOPs per clip#", "epoch#",
)  # fmt: skip


def comparison_rows(configurations: Iterable[Configuration]) -> list[list[Cell]]:
    """Return one row per configuration, with the columns COMPARISON_HEADS."""
    return [
        [item.label, str(item.val.n), _estimate(item.val), _estimate(item.test)]
        + [count(item.params), count(item.flops), seconds(item.epoch_s.mean)]
        for item in configurations
    ]


def difference_heads(best: str) -> tuple[str, ...]:
    return f"minus {best}", "pairs#", "validation, points#", "test, points#", "test clips more often correct#"


def difference_rows(study: Study) -> list[list[Cell]]:
    """Return one row per comparison with the best configuration, with the columns difference_heads."""
    return [
        [item.configuration.label, str(item.val.n), _difference(item.val), _difference(item.test), clips_text(item)]
        for item in study.comparisons
    ]


def _estimate(item: Estimate) -> Cell:
    if math.isnan(item.sd):
        return percent(item.mean)
    return f"{percentage_points(item.mean)} ± {percentage_points(item.sd)} %", _interval(item)


def _difference(item: Difference) -> Cell:
    return percentage_points(item.mean, sign=True), f"{_interval(item)}, {p_text(item.p_holm)}"


def _interval(item: Estimate | Difference) -> str:
    return f"{percentage_points(item.low)} to {percentage_points(item.high)}"


def clips_text(comparison: Comparison) -> str:
    """Return the test on the clips of a Comparison as text."""
    if comparison.clips is None:
        return "not the same clips"
    only_configuration, only_best, p = comparison.clips
    return f"{only_configuration} against {only_best}, {p_text(p)}"


def is_marked(study: Study, configuration: Configuration) -> bool:
    """Whether the configuration is marked as the recommended one."""
    return study.recommends and configuration is study.recommended


def facts(study: Study) -> dict[str, str]:
    """Return {fact: text} of the study's data, runs and machine."""
    config = study.runs[0].config
    corpus = "synthetic speech (espeak-ng)" if study.synthetic else "Speech Commands v0.02, real recordings"
    resplit = "; training and validation speakers re-split by seed, official test set not used"
    versions = [run.config["versions"] for run in study.runs if isinstance(run.config.get("versions"), dict)]
    pythons = sorted({str(item["python"]) for item in versions if "python" in item})
    return {
        "Data": f"{corpus}: {', '.join(f'“{label}”' for label in study.runs[0].labels)}",
        "Training, validation and test clips": ", ".join(split_sizes(study, key) for key in ("train", "val", "test"))
        + (resplit if config.get("resplit") else ""),
        "Runs": f"{len(study.runs)} finished; configurations: {len(study.configurations)}; seeds: {len(study.seeds)}",
        "Machine": f"{_distinct(study, 'host')} ({_distinct(study, 'device_name')})",
        "Code": f"{study.code}, Python {' and '.join(pythons) or 'unknown'}",
        "Data fingerprint": str(study.data_info["fingerprint"])[:16],
    }


def _distinct(study: Study, key: str) -> str:
    return ", ".join(sorted({str(run.config[key]) for run in study.runs if run.config.get(key)})) or "not recorded"
