"""The most frequently misclassified test clips of a study: how often, how confidently, their audio and log-mel."""

import base64
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kws.analysis.study import Study
from kws.config import SETTINGS, Config, resolve
from kws.data.audio import SAMPLE_RATE, to_float
from kws.errors import KwsError
from kws.training.run_folder import Prediction

if TYPE_CHECKING:
    from torch import Tensor

MOST_CLIPS = 12
# Eight colours of matplotlib's map of this name, between which the picture's are interpolated.
MAGMA = (
    (0, 0, 4), (34, 17, 80), (95, 24, 127), (152, 45, 128), (211, 67, 110), (248, 118, 92), (254, 187, 129),
    (252, 253, 191),
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """A misclassified test clip; `wav` and `picture` are base64 text, empty if the data set is unavailable."""

    path: str  # relative to the data set's folder
    word: str
    predicted: str
    wrong: int  # number of runs that misclassified it
    runs: int
    probability: float  # of the correct word, mean over runs
    wav: str = ""
    picture: str = ""  # PNG of the log-mel


def misclassified(study: Study, data_dir: str | Path | None = None) -> tuple[list[Clip], int, int]:
    """Return (clips, number misclassified by at least one run, number tested), at most a dozen clips, worst first.

    Their audio is that of the data set below `data_dir`, else of the configured one: see _samples.
    """
    seen: dict[str, list[Prediction]] = {}
    for run in study.runs:
        for clip, prediction in run.predictions.items():
            seen.setdefault(clip, []).append(prediction)
    errors = {clip: sum(not prediction.is_correct for prediction in found) for clip, found in seen.items()}
    wrong = {clip: number for clip, number in errors.items() if number}
    if not wrong:
        return [], 0, len(seen)

    def right_probability(clip: str) -> float:
        return sum(item.probabilities[item.label] for item in seen[clip]) / len(seen[clip])

    worst = sorted(wrong, key=lambda clip: (-wrong[clip], right_probability(clip), clip))[:MOST_CLIPS]
    labels = study.runs[0].labels
    samples = _samples(study, data_dir)
    clips = []
    for clip in worst:
        label = seen[clip][0].label
        # What most of the runs that misclassified it predicted.
        predicted = Counter(item.predicted for item in seen[clip] if not item.is_correct).most_common(1)[0][0]
        numbers = (wrong[clip], len(seen[clip]), right_probability(clip))
        clips.append(Clip(clip, labels[label], labels[predicted], *numbers, *_media(samples.get(clip))))
    return clips, len(wrong), len(seen)


def _samples(study: Study, data_dir: str | Path | None) -> dict[str, "Tensor"]:
    """Return {clip: its samples (16000,) int16, zero-padded} of the data set below `data_dir`, {} if it is unavailable.

    Without `data_dir` it is the configured data set ($KWS_DATA or data), if its fingerprint is that of the study's.
    Runs may come from anyone and reports are made to be shared: no path in a run's files is ever opened.
    """
    from kws.data.labels import load_labelled

    settings = {name: value for name, value in study.runs[0].config.items() if name in SETTINGS}
    try:
        place = {"data_dir": str(data_dir or Config().data_dir)}
        corpus = load_labelled(resolve((study.name, settings | place)), keep=True)
    except KwsError:
        return {}
    if not data_dir and corpus.fingerprint != study.data_info["fingerprint"]:
        return {}
    splits = (corpus.training, corpus.validation, corpus.testing)
    return {clip: samples for split in splits for clip, samples in zip(split.clips, split.waveforms, strict=True)}


def _media(samples: "Tensor | None") -> tuple[str, str]:
    """Return WAV and PNG of a clip (time,) int16 as base64 text, "" for both if it is unavailable."""
    import soundfile

    if samples is None:
        return "", ""
    wav = io.BytesIO()
    soundfile.write(wav, np.trim_zeros(samples.numpy(), "b"), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return base64.b64encode(wav.getvalue()).decode(), base64.b64encode(_picture(samples)).decode()


def _picture(samples: "Tensor") -> bytes:
    """Return the log-mel of the clip (64 bands) as a PNG, low bands at the bottom."""
    from PIL import Image

    from kws.model.features import LogMelFilterBanks

    log_mel = LogMelFilterBanks(n_mels=64)(to_float(samples)).numpy()
    # The darkest colour is 14 nats below the loudest, or the lowest value of the layer if that is higher.
    top = log_mel.max()
    low = max(top - 14, log_mel.min())
    shade = np.clip((log_mel - low) / max(top - low, 1e-9), 0, 1) * 255
    image = Image.fromarray(shade[::-1].astype(np.uint8))
    anchors = np.linspace(0, 255, len(MAGMA))
    palette = np.stack([np.interp(np.arange(256), anchors, channel) for channel in zip(*MAGMA, strict=True)], axis=1)
    image.putpalette(palette.round().astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
