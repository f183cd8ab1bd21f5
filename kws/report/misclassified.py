"""The most frequently misclassified test clips of a study: how often, how confidently, their audio and log-mel."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.analysis.study import Study, is_right
from kws.data.audio import FULL_SCALE, N_SAMPLES, SAMPLE_RATE, read_clip
from kws.data.layout import dataset_folder
from kws.errors import KwsError

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

    The audio is looked for in `data_dir` (the folder that holds SpeechCommands/), else where the runs found it.
    """
    runs = [run for run in study.runs if run.predictions]
    seen: dict[str, list[tuple[int, float]]] = {}
    for run in runs:
        for clip, prediction in run.predictions.items():
            seen.setdefault(clip, []).append(prediction)
    errors = {clip: sum(not is_right(prediction) for prediction in found) for clip, found in seen.items()}
    wrong = {clip: number for clip, number in errors.items() if number}
    if not wrong:
        return [], 0, len(seen)

    def right_probability(clip: str) -> float:
        return sum(p if label else 1 - p for label, p in seen[clip]) / len(seen[clip])

    worst = sorted(wrong, key=lambda clip: (-wrong[clip], right_probability(clip), clip))[:MOST_CLIPS]
    words = runs[0].config["words"]
    folder = _folder(study, data_dir)
    clips = []
    for clip in worst:
        label = seen[clip][0][0]
        numbers = (wrong[clip], len(seen[clip]), right_probability(clip))
        clips.append(Clip(clip, words[label], words[1 - label], *numbers, *_media(folder, clip)))
    return clips, len(wrong), len(seen)


def _folder(study: Study, data_dir: str | Path | None) -> Path:
    if data_dir:
        return dataset_folder(data_dir, "synthetic" if study.synthetic else "speech_commands")
    return Path(study.data_info.get("folder") or "unknown")


def _media(folder: Path, clip: str) -> tuple[str, str]:
    """Return WAV and PNG of the clip as base64 text, "" for both if it is unavailable."""
    import soundfile

    path = folder / clip
    # Clip names come from a run's files, and these from anyone: nothing outside the data set is read.
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        return "", ""
    try:
        samples = read_clip(path)
    except KwsError:
        return "", ""
    wav = io.BytesIO()
    soundfile.write(wav, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return base64.b64encode(wav.getvalue()).decode(), base64.b64encode(_picture(samples)).decode()


def _picture(samples: NDArray[np.int16]) -> bytes:
    """Return the log-mel of the clip (64 bands) as a PNG, low bands at the bottom."""
    import torch
    from PIL import Image

    from kws.model.features import LogMelFilterBanks

    waveform = torch.zeros(N_SAMPLES)
    waveform[: len(samples)] = torch.from_numpy(samples).float() / FULL_SCALE
    log_mel = LogMelFilterBanks(n_mels=64)(waveform).numpy()
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
