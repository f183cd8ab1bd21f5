"""The data set: two words of Speech Commands, split by its own lists, verified, loaded once into memory."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch

from kws.data.audio import N_SAMPLES, pad, read_clip, read_wav, to_float
from kws.data.layout import FOLDERS, LISTS, NOISE_FOLDER, find, fix_hint, speaker
from kws.data.torchaudio_import import torchaudio
from kws.errors import KwsError
from kws.files import write_atomically
from kws.formatting import one_line

MARGIN = 1600  # silence kept on both sides of a clip: room to shift it by up to 100 ms
SPLITS = ("training", "validation", "testing")
CACHE_FORMAT = 2

_kept = {}  # what load was told to keep, by the place of its cache


class SpeechCommandsWords(torchaudio.datasets.SPEECHCOMMANDS):
    """The clips of `words` in one subset of Speech Commands, as torchaudio's data set class splits them.

    Items are torchaudio's (waveform, sample_rate, word, speaker, utterance), but read by soundfile, since
    torchaudio.load needs torchcodec and a system FFmpeg, and zero-padded to (1, 16000) in [-1, 1).

    `root` is made absolute first: older releases of torchaudio compared "data/no/x.wav" from the folder with
    "./data/no/x.wav" from the lists, and so trained on the validation and test clips of a relative root.
    """

    def __init__(self, root, subset, words=("no", "yes"), folder=FOLDERS["speech_commands"]):
        super().__init__(os.path.abspath(root), url=folder, subset=subset)
        self._walker = sorted(path for path in self._walker if Path(path).parent.name in words)

    @property
    def clips(self):
        """Paths of the clips relative to the data set's folder, such as yes/0132a06d_nohash_1.wav, in order."""
        return [Path(path).relative_to(self._path).as_posix() for path in self._walker]

    def __getitem__(self, n):
        _, sample_rate, word, speaker, utterance = self.get_metadata(n)
        waveform = to_float(torch.from_numpy(read_clip(self._walker[n])))
        return pad(waveform)[None], sample_rate, word, speaker, utterance


@dataclass
class Split:
    """Clips of one split: padded (clips, MARGIN + 16000 + MARGIN) int16, labels (clips,) float32, clips' paths."""

    padded: torch.Tensor
    labels: torch.Tensor
    clips: list

    @property
    def waveforms(self):
        """The clips without the margins: (clips, 16000) int16, a view."""
        return self.padded[:, MARGIN:-MARGIN]

    @property
    def speakers(self):
        return {speaker(clip) for clip in self.clips}


class DataInfo(TypedDict):
    """What a run's record says of its data: clips per split, speakers in all, and where they were read."""

    fingerprint: str
    synthetic: bool
    train: int
    val: int
    test: int
    speakers: int
    folder: str


@dataclass
class Corpus:
    """The splits, the background noise (samples,) int16, and what names these data: the fingerprint of all samples."""

    training: Split
    validation: Split
    testing: Split
    noise: torch.Tensor
    fingerprint: str
    folder: Path

    def info(self, synthetic: bool) -> DataInfo:
        """Return what a run's record says of its data."""
        splits = (self.training, self.validation, self.testing)
        return {
            "fingerprint": self.fingerprint,
            "synthetic": synthetic,
            "train": len(self.training.clips),
            "val": len(self.validation.clips),
            "test": len(self.testing.clips),
            "speakers": len(set().union(*(split.speakers for split in splits))),
            "folder": str(self.folder),
        }


def load(data_dir, data="speech_commands", words=("no", "yes"), notify=None, keep=False):
    """Return the Corpus of `words` below `data_dir`, from the cache where that still fits the files.

    The cache is rebuilt when a file's name, size or time changed. keep: hold the samples for later calls, in this
    process and in those forked from it, for as long as the files stand. Raises KwsError where data are missing, half
    there or wrong, with the names of the files.
    """
    folder = find(data_dir, data, words)
    root = folder.parent.parent
    _check_lists(folder)
    signature = _signature(folder, words)
    cache = _cache_path(folder, words)
    content = _kept.get(cache)
    if content is None or content["signature"] != signature:
        content = _read_cache(cache, signature, notify)
    if content is None:
        content = _read_corpus(root, folder, words)
        content |= {"format": CACHE_FORMAT, "signature": signature}
        _write_cache(cache, content, notify)
    splits = {}
    for name in SPLITS:
        labels = torch.tensor([words.index(clip.split("/")[0]) for clip in content["clips"][name]], dtype=torch.float32)
        splits[name] = Split(content["padded"][name], labels, content["clips"][name])
    _verify(splits, folder, words, fix_hint(data, root))
    if keep:
        _kept[cache] = content
    return Corpus(**splits, noise=content["noise"], fingerprint=content["fingerprint"], folder=folder)


def _read_corpus(root, folder, words):
    """Read every clip and noise recording into tensors; the fingerprint is over all of their samples and names."""
    digest = hashlib.sha256()
    padded, clips = {}, {}
    for name in SPLITS:
        words_in = SpeechCommandsWords(root, name, words, folder.name)
        clips[name] = words_in.clips
        padded[name] = torch.zeros(len(words_in), MARGIN + N_SAMPLES + MARGIN, dtype=torch.int16)
        digest.update("\n".join([name, *clips[name], ""]).encode())
        for row, clip in zip(padded[name][:, MARGIN:-MARGIN], clips[name], strict=True):
            samples = torch.from_numpy(read_clip(str(folder / clip)))
            row[: len(samples)] = samples
            digest.update(row.numpy())
    recordings = [torch.from_numpy(read_wav(str(path))) for path in sorted((folder / NOISE_FOLDER).glob("*.wav"))]
    noise = torch.cat(recordings) if recordings else torch.zeros(0, dtype=torch.int16)
    digest.update(noise.numpy())
    return {"padded": padded, "clips": clips, "noise": noise, "fingerprint": digest.hexdigest()[:16]}


def _check_lists(folder):
    for name in LISTS:
        seen = set()
        for line in (folder / name).read_text(encoding="utf-8", errors="replace").split():
            if line.count("/") != 1 or line.startswith(("/", ".")):
                raise KwsError(f"data: {name} of {folder} names {one_line(line)!r}, not WORD/CLIP.wav; mend it")
            if line in seen:
                raise KwsError(f"data: {name} of {folder} names {one_line(line)} twice; mend it")
            seen.add(line)


def _verify(splits, folder, words, hint):
    for name, split in splits.items():
        for label, word in enumerate(words):
            if not (split.labels == label).any():
                raise KwsError(f"data: {folder} has no {name} clip of {word!r}; {hint}")
    for first, second in (("training", "validation"), ("training", "testing"), ("validation", "testing")):
        a, b = splits[first], splits[second]
        same = sorted(set(a.clips) & set(b.clips))
        if same:
            raise KwsError(
                f"data: {len(same)} clips stand in {first} and {second}: {_some(same)}; mend the lists of {folder}"
            )
        both = a.speakers & b.speakers
        if both:
            files = [clip for split in (a, b) for clip in split.clips if speaker(clip) in both]
            raise KwsError(
                f"data: {len(both)} speakers stand in {first} and {second}: {_some(files)}; mend the lists of {folder}"
            )


def _some(names, limit=4):
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _signature(folder, words):
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


def cache_folder():
    """Return where loaded corpora are kept: $KWS_CACHE, else $XDG_CACHE_HOME/kws, else ~/.cache/kws."""
    if os.environ.get("KWS_CACHE"):
        return Path(os.environ["KWS_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "kws"
    try:
        return Path.home() / ".cache" / "kws"
    except RuntimeError:  # no home; a sweep's cells have a tempfile.tempdir each, but this is for all of them
        return Path(os.environ.get("TMPDIR") or "/tmp") / f"kws-cache-{os.getuid()}"


def _cache_path(folder, words):
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return cache_folder() / f"{folder.name}-{'-'.join(words)}-{place}.pt"


def _read_cache(path, signature, notify):
    if not path.is_file():
        return None
    try:
        content = torch.load(path, weights_only=True)
        fits = content["format"] == CACHE_FORMAT and content["signature"] == signature
    except Exception as error:  # torch.load raises many kinds for a damaged file; the clips themselves are still there
        if notify:
            notify(f"cache {path} is damaged ({type(error).__name__}); reading the clips again")
        return None
    return content if fits else None


def _write_cache(path, content, notify):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary:
            with open(temporary, "wb") as file:  # given a path, torch hides why a write failed
                torch.save(content, file)
    except (OSError, RuntimeError) as error:
        # The run does not depend on it: without a cache the next start reads the clips again.
        if notify:
            # Torch raises an error of its own over the disk's.
            cause = (isinstance(error, RuntimeError) and error.__context__) or error
            reason = getattr(cause, "strerror", None) or one_line(cause)
            notify(f"cannot keep a cache at {path} ({reason}); set KWS_CACHE to a folder that can be written")
