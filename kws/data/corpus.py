"""The data set: two words of Speech Commands, split by its own lists, verified, loaded into memory once."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from kws.data.audio import N_SAMPLES, pad, read_clip, read_wav, to_float
from kws.data.layout import FOLDERS, LISTS, NOISE_FOLDER, find, fix_command, speaker
from kws.data.torchaudio_import import torchaudio
from kws.errors import KwsError
from kws.files import write_atomically
from kws.formatting import one_line

SPEECH_COMMANDS = FOLDERS["speech_commands"]
SPLITS = ("training", "validation", "testing")
CACHE_FORMAT = 3

Notify = Callable[[str], None]  # called with one-line notices for the user


class SpeechCommandsWords(torchaudio.datasets.SPEECHCOMMANDS):  # type: ignore[misc]  # torchaudio has no types
    """The clips of `words` in one subset of Speech Commands, as torchaudio's data set class splits them.

    Items are torchaudio's (waveform, sample_rate, word, speaker, utterance), but read by soundfile, since
    torchaudio.load needs torchcodec and a system FFmpeg, and zero-padded to (1, 16000) in [-1, 1).

    `root` is made absolute first: older releases of torchaudio compared "data/no/x.wav" from the folder with
    "./data/no/x.wav" from the lists, and so trained on the validation and test clips of a relative root.
    """

    _walker: list[str]

    def __init__(
        self, root: str | Path, subset: str, words: Sequence[str] = ("no", "yes"), folder: str = SPEECH_COMMANDS
    ) -> None:
        super().__init__(os.path.abspath(root), url=folder, subset=subset)
        self._walker = sorted(path for path in self._walker if Path(path).parent.name in words)

    @property
    def clips(self) -> list[str]:
        """Paths of the clips relative to the data set's folder, such as yes/0132a06d_nohash_1.wav, in order."""
        return [Path(path).relative_to(self._path).as_posix() for path in self._walker]

    def __getitem__(self, n: int) -> tuple[Tensor, int, str, str, int]:
        _, sample_rate, word, speaker, utterance = self.get_metadata(n)
        waveform = to_float(torch.from_numpy(read_clip(self._walker[n])))
        return pad(waveform)[None], sample_rate, word, speaker, utterance


@dataclass
class Split:
    """Clips of one split: waveforms (clips, 16000) int16, labels (clips,) float32, clips' paths."""

    waveforms: Tensor
    labels: Tensor
    clips: list[str]

    @property
    def speakers(self) -> set[str]:
        return {speaker(clip) for clip in self.clips}


class DataInfo(TypedDict):
    """What a run's record says of its data: clips per split, speakers in all, and the data set's folder."""

    fingerprint: str
    synthetic: bool
    train: int
    val: int
    test: int
    speakers: int
    folder: str


@dataclass
class Corpus:
    """The splits, the background noise (samples,) int16, and the fingerprint: a hash of all samples."""

    training: Split
    validation: Split
    testing: Split
    noise: Tensor
    fingerprint: str
    folder: Path

    def info(self, synthetic: bool) -> DataInfo:
        """Return what a run's record says of its data."""
        return {
            "fingerprint": self.fingerprint,
            "synthetic": synthetic,
            "train": len(self.training.clips),
            "val": len(self.validation.clips),
            "test": len(self.testing.clips),
            "speakers": len(self.training.speakers | self.validation.speakers | self.testing.speakers),
            "folder": str(self.folder),
        }


class _Content(TypedDict):
    """A corpus as it is cached; the signature is of the files that it was read from."""

    format: int
    signature: str
    waveforms: dict[str, Tensor]
    clips: dict[str, list[str]]
    noise: Tensor
    fingerprint: str


_kept: dict[Path, _Content] = {}  # by path of the cache


def load(
    data_dir: str | Path,
    data: str = "speech_commands",
    words: Sequence[str] = ("no", "yes"),
    notify: Notify | None = None,
    keep: bool = False,
) -> Corpus:
    """Return the Corpus of `words` below `data_dir`, from the cache unless the files have changed since.

    The cache is rebuilt when a file's name, size or time changed. keep: hold the samples for later calls, in this
    process and in those forked from it, until the files change. Raises KwsError, naming the files, where data are
    missing, incomplete or wrong.
    """
    folder = find(data_dir, data, words)
    _check_lists(folder)
    signature = _signature(folder, words)
    cache = _cache_path(folder, words)
    content = _kept.get(cache)
    if content is None or content["signature"] != signature:
        content = _read_cache(cache, signature, notify)
    if content is None:
        content = _read_corpus(folder, words, signature)
        _write_cache(cache, content, notify)
    splits = {}
    for name in SPLITS:
        clips = content["clips"][name]
        labels = torch.tensor([words.index(clip.split("/")[0]) for clip in clips], dtype=torch.float32)
        splits[name] = Split(content["waveforms"][name], labels, clips)
    _verify(splits, folder, words)
    if keep:
        _kept[cache] = content
    return Corpus(**splits, noise=content["noise"], fingerprint=content["fingerprint"], folder=folder)


def cache_folder() -> Path:
    """Return where loaded corpora are cached: $KWS_CACHE, else $XDG_CACHE_HOME/kws, else ~/.cache/kws."""
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "kws")
    path = os.path.expanduser(os.environ.get("KWS_CACHE") or default)
    if path.startswith("~"):  # no home; not tempfile.tempdir, which each trial of a sweep has for itself
        return Path(os.environ.get("TMPDIR") or "/tmp") / f"kws-cache-{os.getuid()}"
    return Path(path)


def _read_corpus(folder: Path, words: Sequence[str], signature: str) -> _Content:
    """Read every clip and noise recording into tensors; the fingerprint covers all of their samples and names."""
    digest = hashlib.sha256()
    waveforms, clips = {}, {}
    for name in SPLITS:
        clips[name] = SpeechCommandsWords(folder.parent.parent, name, words, folder.name).clips
        waveforms[name] = torch.zeros(len(clips[name]), N_SAMPLES, dtype=torch.int16)
        digest.update("\n".join([name, *clips[name], ""]).encode())
        for row, clip in zip(waveforms[name], clips[name], strict=True):
            samples = torch.from_numpy(read_clip(folder / clip))
            row[: len(samples)] = samples
            digest.update(row.numpy().data)
    recordings = [torch.from_numpy(read_wav(path)) for path in sorted((folder / NOISE_FOLDER).glob("*.wav"))]
    noise = torch.cat(recordings) if recordings else torch.zeros(0, dtype=torch.int16)
    digest.update(noise.numpy().data)
    return {
        "format": CACHE_FORMAT,
        "signature": signature,
        "waveforms": waveforms,
        "clips": clips,
        "noise": noise,
        "fingerprint": digest.hexdigest()[:16],
    }


def _check_lists(folder: Path) -> None:
    for name in LISTS:
        seen = set()
        for line in (folder / name).read_text(encoding="utf-8", errors="replace").split():
            if line.count("/") != 1 or line.startswith(("/", ".")):
                raise KwsError(f"data: {name} of {folder} has {one_line(line)!r}, not WORD/CLIP.wav; correct it")
            if line in seen:
                raise KwsError(f"data: {name} of {folder} has {one_line(line)} twice; correct it")
            seen.add(line)


def _verify(splits: dict[str, Split], folder: Path, words: Sequence[str]) -> None:
    for name, split in splits.items():
        for label, word in enumerate(words):
            if not (split.labels == label).any():
                raise KwsError(f"data: {folder} has no {name} clip of {word!r}; run: {fix_command(folder, words)}")
    for (first, a), (second, b) in combinations(splits.items(), 2):
        where = f"in {first} and {second}"
        same = sorted(set(a.clips) & set(b.clips))
        if same:
            raise KwsError(f"data: {len(same)} clips appear {where}: {_some(same)}; correct the lists of {folder}")
        both = a.speakers & b.speakers
        if both:
            files = [clip for clip in a.clips + b.clips if speaker(clip) in both]
            raise KwsError(f"data: {len(both)} speakers appear {where}: {_some(files)}; correct the lists of {folder}")


def _some(names: list[str], limit: int = 4) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _signature(folder: Path, words: Sequence[str]) -> str:
    """Return a hash over name, size and time of every file that the corpus is read from: cheap at every start."""
    digest = hashlib.sha256(repr(words).encode())
    for name in (*words, NOISE_FOLDER):
        if (folder / name).is_dir():
            with os.scandir(folder / name) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    status = entry.stat()
                    line = f"{name}/{entry.name} {status.st_size} {status.st_mtime_ns}\n"
                    digest.update(line.encode(errors="replace"))
    for name in LISTS:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def _cache_path(folder: Path, words: Sequence[str]) -> Path:
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return cache_folder() / f"{folder.name}-{'-'.join(words)}-{place}.pt"


def _read_cache(path: Path, signature: str, notify: Notify | None) -> _Content | None:
    if not path.is_file():
        return None
    try:
        content: _Content = torch.load(path, weights_only=True)
        return content if (content["format"], content["signature"]) == (CACHE_FORMAT, signature) else None
    except Exception as error:  # torch.load raises many kinds at a damaged file; the clips are read instead
        if notify:
            notify(f"cache {path} is damaged ({type(error).__name__}); reading the clips again")
        return None


def _write_cache(path: Path, content: _Content, notify: Notify | None) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary, open(temporary, "wb") as file:  # given a path, torch hides the reason
            torch.save(content, file)
    except (OSError, RuntimeError) as error:
        # A run does not depend on it: without a cache the next start reads the clips again.
        if notify:
            # Torch raises an error of its own from the disk's.
            cause = (isinstance(error, RuntimeError) and error.__context__) or error
            reason = getattr(cause, "strerror", None) or one_line(cause)
            notify(f"cannot write the cache {path} ({reason}); set KWS_CACHE to a writable folder")
