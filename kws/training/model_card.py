"""The model card: what a run's model is, how accurate it is and what it costs, as Markdown."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kws import metrics
from kws.config import SILENCE, UNKNOWN, labels_of
from kws.formatting import count, one_line, percent
from kws.training.run_folder import TEST, Prediction, read_config, read_predictions, read_summary


def model_card(folder: Path) -> str:
    """Return the model card of the finished run in `folder`. Raises KwsError where its files cannot be read."""
    return card(read_config(folder), read_summary(folder), list(read_predictions(folder)[TEST].values()))


def card(config: Mapping[str, Any], summary: Mapping[str, Any], tested: Sequence[Prediction]) -> str:
    """Return the model card for a run's recorded config, its summary and its predictions for the test clips."""
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
            f"| spoken | {' | '.join(f'predicted {_text(label)}' for label in labels)} |",
            "|---|" + "---:|" * len(labels),
        ]
        for number, label in enumerate(labels):
            of_label = [prediction.predicted for prediction in tested if prediction.label == number]
            counts = (f"{of_label.count(other):,}" for other in range(len(labels)))
            lines.append(f"| {_text(label)} | {' | '.join(counts)} |")
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
