"""What the page, report.md and the W&B report share: facts of a study, rows of its tables, and the methods."""

import math
from collections.abc import Iterable

from kws import metrics
from kws.analysis.decision import SIGNIFICANT
from kws.analysis.narrative import split_sizes
from kws.analysis.records import RunRecord
from kws.analysis.statistics import Difference, Estimate
from kws.analysis.study import FEWEST_SEEDS, LAST_EPOCHS, Configuration, Study
from kws.formatting import count, p_text, percent, percentage_points, seconds

METHODS = f"""
Configurations are chosen by validation accuracy, or, if each seed re-splits the speakers, by the accuracy on its
held-out clips: validation and test. Test accuracy is only reported. Going down in cost from the highest mean, a
configuration is recommended as long as the 95 % interval of its difference to every other one lies above minus the
margin; the tests have a fixed order and stop at the first failure, so they need no correction. With fewer than
{FEWEST_SEEDS} shared seeds nothing is recommended. A difference is significant if its p, Holm-corrected over the
study's comparisons, is below {SIGNIFICANT}. Intervals and p-values are for other seeds and other speakers: the variance
of a mean is that over seeds plus that over speakers (crossed), with Student's t. The interval of an accuracy is
Wilson's, with the number of independent clips that this variance corresponds to. In simulations the intervals covered
the truth in about 95 % of the cases. Stability is the standard deviation of validation accuracy over a run's last
{LAST_EPOCHS} epochs. Test accuracy is that of the epoch with the best validation accuracy. FLOPs are twice the
multiply-accumulates of the network for one clip (one second), without the log-mel layer.
"""
Cell = str | tuple[str, str]  # a text, with a note to show below it or in parentheses


# A head that ends in # belongs to a column of numbers.
def comparison_heads(study: Study) -> tuple[str, ...]:
    accuracies = (f"{study.chosen_on} accuracy#", "test accuracy#")
    return ("configuration", "seeds#", *accuracies, "parameters#", "FLOPs per clip#", "epoch#")


def comparison_rows(configurations: Iterable[Configuration]) -> list[list[Cell]]:
    """Return one row per configuration, with the columns comparison_heads."""
    return [
        [item.label, str(item.val.n), _estimate(item.val), _estimate(item.test)]
        + [count(item.params), count(item.flops), seconds(item.epoch_s.mean)]
        for item in configurations
    ]


def difference_heads(study: Study) -> tuple[str, ...]:
    heads = (f"minus {study.recommended.label}", "pairs#", f"{study.chosen_on}, points#", "test, points#")
    return heads[:3] if study.resplit else heads


def difference_rows(study: Study) -> list[list[Cell]]:
    """Return one row per comparison with the recommended (or best) configuration, with the columns difference_heads."""
    return [
        [item.configuration.label, str(item.val.n), _difference(item.val)]
        + ([] if study.resplit else [_difference(item.test)])  # part of the held-out clips
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


def is_marked(study: Study, configuration: Configuration) -> bool:
    """Whether the configuration is marked as the recommended one."""
    return study.recommends and configuration is study.recommended


def facts(study: Study) -> dict[str, str]:
    """Return {fact: text} of the study's data, runs and machine."""
    config = study.runs[0].config
    corpus = study.data_info.get("corpus", "synthetic speech" if study.synthetic else "recordings")
    resplit = "; training and validation speakers re-split by seed, official test set not used"
    versions = [run.config["versions"] for run in study.runs if isinstance(run.config.get("versions"), dict)]
    pythons = sorted({str(item["python"]) for item in versions if "python" in item})
    return {
        **({"Study": study.title} if study.variant else {}),
        "Data": f"{corpus}: {', '.join(f'“{label}”' for label in study.runs[0].labels)}",
        "Training, validation and test clips": ", ".join(split_sizes(study, key) for key in ("train", "val", "test"))
        + (resplit if config.get("resplit") else ""),
        **_other_labels(study),
        "Choice": f"{study.chosen_on} accuracy, margin {percentage_points(study.margin)} points",
        "Runs": f"{len(study.runs)} finished; configurations: {len(study.configurations)}; seeds: {len(study.seeds)}",
        "Machine": f"{_distinct(study, 'host')} ({_distinct(study, 'device_name')})",
        "Code": f"{study.code}, Python {' and '.join(pythons) or 'unknown'}",
        "Data fingerprint": str(study.data_info["fingerprint"])[:16],
    }


def _other_labels(study: Study) -> dict[str, str]:
    """Return the facts of a study with the labels _unknown_ or _silence_."""
    info = study.data_info
    synthetic = sorted({run.data_info.get("synthetic_unknown", 0) for run in study.runs})
    held_out = {", ".join(run.data_info.get("held_out_words", [])) for run in study.runs} - {""}
    found = {
        "Test set": "the official one of the twelve-label task" if info.get("test_set") == "official" else "",
        "Validation words not in training": "others for each seed" if len(held_out) > 1 else "".join(held_out),
        "Synthetic clips of other words in training": " or ".join(map(str, synthetic)) if any(synthetic) else "",
    }
    return {fact: text for fact, text in found.items() if text}


def recalls(run: RunRecord) -> str:
    """Return macro F1 and each label's recall of a run as text, "" for two labels."""
    if metrics.TEST_F1 not in run.summary:
        return ""
    shares = [f"{label} {percent(run.summary.get(metrics.recall(label), math.nan))}" for label in run.labels]
    return f"Macro F1 is {run.summary[metrics.TEST_F1]:.3f}; recall: {', '.join(shares)}."


def _distinct(study: Study, key: str) -> str:
    return ", ".join(sorted({str(run.config[key]) for run in study.runs if run.config.get(key)})) or "not recorded"
