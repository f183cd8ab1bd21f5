"""The model card: what a run's model is, how accurate it is and what it costs, as Markdown and as figures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kws import metrics
from kws.config import SILENCE, UNKNOWN, labels_of
from kws.formatting import count, one_line, percent
from kws.training.run_folder import TEST, Prediction, read_config, read_predictions, read_summary

MEASURED = (metrics.TEST_ACCURACY, metrics.TEST_ERRORS, metrics.PARAMS, metrics.MACS, metrics.FLOPS)
RECORDED = ("run_id", "study", "seed", "code_version")


class ModelCard(NamedTuple):
    """The card's text, and its figures as values for JSON, under the names of the run's summary and record."""

    text: str
    figures: dict[str, Any]


def model_card(folder: Path) -> ModelCard:
    """Return the model card of the finished run in `folder`. Raises KwsError where its files cannot be read."""
    config, summary = read_config(folder), read_summary(folder)
    tested = list(read_predictions(folder)[TEST].values())
    return ModelCard(_text_of(config, summary, tested), _figures(config, summary, tested))


def _figures(config: Mapping[str, Any], summary: Mapping[str, Any], tested: Sequence[Prediction]) -> dict[str, Any]:
    labels, data = labels_of(config), config.get("data_info") or {}
    figures = {name: summary[name] for name in (*MEASURED, metrics.FRONTEND_MACS) if name in summary}
    if tested:
        correct = sum(prediction.is_correct for prediction in tested)
        figures["accuracy_interval_95"] = [*wilson(correct, len(tested))]
        recalls = {metrics.recall(label): _recall(tested, number) for number, label in enumerate(labels)}
        figures |= {name: recall for name, recall in recalls.items() if not math.isnan(recall)}
    return {
        "labels": [*labels],
        "data": {name: data.get(name) for name in ("corpus", "synthetic", "fingerprint", "train", "val", "test")},
        **{name: config.get(name) for name in RECORDED},
        **figures,
    }


def _recall(tested: Sequence[Prediction], label: int) -> float:
    """Return the share of a label's clips that were predicted as it, NaN if there are none."""
    of_label = [prediction.is_correct for prediction in tested if prediction.label == label]
    return sum(of_label) / len(of_label) if of_label else math.nan


def _text_of(config: Mapping[str, Any], summary: Mapping[str, Any], tested: Sequence[Prediction]) -> str:
    labels, data = labels_of(config), config.get("data_info") or {}
    speech = data.get("corpus") or ("synthetic speech" if data.get("synthetic") else "recordings")
    held_out = "held-out speakers" if config.get("resplit") else "test clips"
    splits = (("training", "train"), ("validation", "val"), ("test", "test"))
    sizes = (f"{name} {_whole(data.get(key))}" for name, key in splits)
    clips = f"clips for {', '.join(sizes)}"
    lines = [
        f"# Keyword-spotting model {_text(config.get('run_name'))}",
        "",
        f"- Answers: one of {', '.join(map(_text, labels))} for one second of sound (16 kHz, mono).",
        f"- Data: {_text(speech)}; {clips}; {_whole(data.get('speakers'))} speakers; fingerprint "
        f"{_text(data.get('fingerprint'))}.",
        f"- Run: {_text(config.get('run_id'))} of study {_text(config.get('study'))}, seed {config.get('seed')}, code "
        f"{_text(config.get('code_version'))}, "
        + ", ".join(f"{_text(name)} {_text(version)}" for name, version in (config.get("versions") or {}).items())
        + ".",
        f"- Costs per second of sound: {_whole(summary.get(metrics.PARAMS))} parameters, "
        f"{_whole(summary.get(metrics.MACS))} multiply-accumulates in the network and "
        f"{_whole(summary.get(metrics.FRONTEND_MACS))} in the log-mel layer (ptflops).",
    ]
    if tested:
        correct = sum(prediction.is_correct for prediction in tested)
        low, high = wilson(correct, len(tested))
        lines += [
            f"- Accuracy: {percent(correct / len(tested))} of {len(tested):,} {held_out}; 95 % interval "
            f"{percent(low)} to {percent(high)}, as if clips were independent (Wilson). "
            "`kws report` gives the interval for other speakers.",
            "",
            f"| spoken | {' | '.join(f'predicted {_text(label)}' for label in labels)} | recall |",
            "|---|" + "---:|" * (len(labels) + 1),
        ]
        for number, label in enumerate(labels):
            of_label = [prediction.predicted for prediction in tested if prediction.label == number]
            counts = (f"{of_label.count(other):,}" for other in range(len(labels)))
            lines.append(f"| {_text(label)} | {' | '.join(counts)} | {percent(_recall(tested, number))} |")
    lines += ["", "Limits:", ""]
    if UNKNOWN not in labels and SILENCE not in labels:
        lines.append("- Every sound is answered with a keyword: there is no label for other words, noise or silence.")
    elif UNKNOWN not in labels or SILENCE not in labels:
        missing = "other words" if UNKNOWN not in labels else "silence and noise"
        lines.append(f"- There is no label for {missing}: they are answered with another label.")
    if data.get("synthetic"):
        lines.append("- Trained and tested on synthetic speech: the accuracy says little about real voices.")
    lines += [
        "- English words, one per clip. Accents, microphones, rooms and noises that the data lack are untested.",
        "- A probability is not calibrated: choose a threshold on your own recordings.",
        "",
    ]
    return "\n".join(lines)


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a share."""
    z = 1.959964
    centre, share = (correct + z**2 / 2) / (n + z**2), correct / n
    half = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return centre - half, centre + half


def _whole(number: object) -> str:
    return count(number) if isinstance(number, (int, float)) else "unknown"


def _text(value: object) -> str:
    """Return text of a record for a table cell: no line break and no markup."""
    return one_line(value, 60).replace("|", "/").replace("<", "‹").replace("`", "'")
