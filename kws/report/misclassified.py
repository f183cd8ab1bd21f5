"""The test clips that a study's runs misclassified most often: how often, how surely, how they sound and look."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from kws.analysis.study import is_right
from kws.data.audio import N_SAMPLES, SAMPLE_RATE, read_clip
from kws.data.layout import FOLDERS
from kws.errors import KwsError

MOST_CLIPS = 12


@dataclass(frozen=True)
class Clip:
    """A misclassified test clip; `wav` and `picture` are base64 text, empty where the data are not at hand."""

    path: str  # below the data set's folder
    word: str
    heard: str
    wrong: int  # runs that erred
    runs: int
    probability: float  # that the runs gave the right word, in the mean
    wav: str = ""
    picture: str = ""  # PNG of the log-mel


def misclassified(study, data_dir=None):
    """Return (clips, how many test clips at least one run misclassified, how many were tested), the dozen worst first.

    The sound is looked for below `data_dir` (the folder that holds SpeechCommands/), else where the runs found it.
    """
    runs = [run for run in study.runs if run.predictions]
    wrong, seen = {}, {}
    for run in runs:
        for clip, prediction in run.predictions.items():
            seen.setdefault(clip, []).append(prediction)
            if not is_right(prediction):
                wrong[clip] = wrong.get(clip, 0) + 1
    if not wrong:
        return [], 0, len(seen)

    def right_probability(clip):
        return sum(p if label else 1 - p for label, p in seen[clip]) / len(seen[clip])

    worst = sorted(wrong, key=lambda clip: (-wrong[clip], right_probability(clip), clip))[:MOST_CLIPS]
    words = runs[0].config["words"]
    folder = _folder(study, data_dir)
    clips = []
    for clip in worst:
        label = seen[clip][0][0]
        media = _media(folder, clip)
        counts = (wrong[clip], len(seen[clip]), right_probability(clip))
        clips.append(Clip(clip, words[label], words[1 - label], *counts, *media))
    return clips, len(wrong), len(seen)


def _folder(study, data_dir):
    if data_dir:
        return (
            Path(data_dir).expanduser()
            / "SpeechCommands"
            / FOLDERS["synthetic" if study.synthetic else "speech_commands"]
        )
    return Path(study.data_info.get("folder") or "nowhere")


def _media(folder, clip):
    path = folder / clip
    # A run's own files name the clip, and a run may come from anyone: nothing outside the data set is read.
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        return "", ""
    try:
        samples = read_clip(path)
    except KwsError:
        return "", ""
    return _wav(samples), _picture(samples)


def _wav(samples):
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode()


def _picture(samples):
    """Return the log-mel of the clip (64 bands) as a PNG, low bands at the bottom."""
    import matplotlib.image
    import torch

    from kws.model.features import LogMelFilterBanks

    waveform = torch.zeros(N_SAMPLES)
    waveform[: len(samples)] = torch.from_numpy(samples).float() / 32768
    log_mel = LogMelFilterBanks(n_mels=64)(waveform).numpy()
    buffer = io.BytesIO()
    # Dark is 14 nats below the loudest, or the floor of the layer where that is higher.
    top = log_mel.max()
    matplotlib.image.imsave(
        buffer,
        log_mel,
        vmin=max(top - 14, log_mel.min()),
        vmax=top,
        cmap="magma",
        origin="lower",
        format="png",
    )
    return base64.b64encode(buffer.getvalue()).decode()
