"""The data set: the clips of the chosen words, split and verified, read once, then mapped from the cache."""

import hashlib
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, BinaryIO, TypedDict
from unicodedata import normalize

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws.data.audio import LONGEST_NOISE_S, N_SAMPLES, pad, read_audio, read_clip, to_float
from kws.data.clips import NOISE_FOLDER, SPEAKER, Listing, list_folder, list_paths, split_clips, word_folders, word_of
from kws.data.layout import FOLDERS, corpus_name, find, verify_splits
from kws.data.torchaudio_import import torchaudio
from kws.errors import KwsError
from kws.files import write_atomically
from kws.formatting import one_line

CACHE_FORMAT = 5
LENGTH_BYTES = 8  # of the size of the JSON text at the end of a cache
TIMED_CLIPS, LONG_S = 1000, 5  # a notice says so if more seconds than LONG_S are left after the first TIMED_CLIPS

Notify = Callable[[str], None]  # called with one-line notices for the user


class SpeechCommandsWords(torchaudio.datasets.SPEECHCOMMANDS):  # type: ignore[misc]  # torchaudio has no types
    """The clips of `words` in one subset of Speech Commands, split as torchaudio's data set class does.

    Items are torchaudio's (waveform, sample_rate, word, speaker, utterance), but read by soundfile, since
    torchaudio.load needs torchcodec and a system FFmpeg, and zero-padded to (1, 16000) in [-1, 1).

    The split is that of split_clips: older releases of torchaudio compared "data/no/x.wav" from the folder with
    "./data/no/x.wav" from the lists, and so trained on the validation and test clips of a relative root.
    """

    _walker: list[str]

    def __init__(
        self,
        root: str | Path,
        subset: str,
        words: Sequence[str] = ("no", "yes"),
        folder: str = FOLDERS["speech_commands"],
    ) -> None:
        super().__init__(os.path.abspath(root), url=folder)
        place = Path(self._path)
        clips = split_clips(place, list_folder(place, words).clips, words).clips[subset]
        self._walker = [str(place / clip) for clip in clips if "_nohash_" in clip]  # whose names have all that items do

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
    """Clips of one split: waveforms (clips, 16000) int16, labels (clips,) float32, clips' paths and speakers."""

    waveforms: Tensor
    labels: Tensor
    clips: list[str]
    speaker_of: list[str] = field(default_factory=list)  # "" where it is unknown

    @property
    def speakers(self) -> set[str]:
        return {*self.speaker_of} - {""}


class DataInfo(TypedDict):
    """What a run's record says of its data: what they are, clips per split, known speakers, and their folder."""

    fingerprint: str
    corpus: str
    synthetic: bool
    train: int
    val: int
    test: int
    speakers: int
    folder: str
    test_set: str  # where the test clips are from: "lists" of the corpus, or the "official" test set
    held_out_words: list[str]  # other words of validation that training lacks
    synthetic_unknown: int  # synthetic clips of other words, for training


@dataclass
class Corpus:
    """The splits, the background noise (samples,) int16, the fingerprint (a hash of all samples), and their origin."""

    training: Split
    validation: Split
    testing: Split
    noise: Tensor
    fingerprint: str
    folder: Path
    name: str = "recordings"
    noise_lengths: list[int] = field(default_factory=list)  # of the recordings that the noise consists of, in order
    test_set: str = "lists"
    held_out_words: list[str] = field(default_factory=list)
    synthetic_unknown: int = 0

    def info(self, synthetic: bool) -> DataInfo:
        """Return what a run's record says of its data."""
        return {
            "fingerprint": self.fingerprint,
            "corpus": self.name,
            "synthetic": synthetic,
            "train": len(self.training.clips),
            "val": len(self.validation.clips),
            "test": len(self.testing.clips),
            "speakers": len(self.training.speakers | self.validation.speakers | self.testing.speakers),
            "folder": str(self.folder),
            "test_set": self.test_set,
            "held_out_words": self.held_out_words,
            "synthetic_unknown": self.synthetic_unknown,
        }


Loaded = tuple[dict[str, Any], Sequence[Tensor]]  # what _write_samples returns; samples of the splits and the noise
_kept: dict[Path, Loaded] = {}  # by path of the cache


def load(
    data_dir: str | Path,
    data: str = "speech_commands",
    words: Sequence[str] = ("no", "yes"),
    notify: Notify = lambda line: None,
    keep: bool = False,
    speaker_from: str = SPEAKER,
    others: bool = False,
) -> Corpus:
    """Return the Corpus of `words` below `data_dir`, mapped from the cache unless the files have changed since.

    The cache is rebuilt when a file's name, size or time changed. keep: hold the samples for later calls, in this
    process and in those forked from it, until the files change. Raises KwsError, naming the files, where data are
    missing, incomplete or wrong. others: also all other words of the folder, with the label after those of `words`.
    """
    folder, listing = find(data_dir, data, words)
    if others:
        listing = list_folder(folder, sorted({*words, *(word for word in word_folders(folder) if word[0] != "_")}))
    lists = [path.read_bytes() for path in list_paths(folder)]
    signature = hashlib.sha256(repr((words, speaker_from, others, listing, lists)).encode(errors="replace")).hexdigest()
    cache = _cache_path(folder, (*words, *["others"] * others))

    def write(file: BinaryIO) -> dict[str, Any]:
        content = _write_samples(file, folder, listing, words, speaker_from, notify)
        return content | {"format": CACHE_FORMAT, "signature": signature}

    loaded = _kept.get(cache)
    if loaded is None or loaded[0]["signature"] != signature:
        loaded = _read_cache(cache, signature, notify)
    if loaded is None:
        _write_cache(cache, write, notify)
        loaded = _read_cache(cache, signature, lambda line: None)
    if loaded is None:  # a run does not depend on the cache: without it, each start reads the clips into memory
        buffer = io.BytesIO()
        content = write(buffer)
        loaded = content, torch.split(torch.frombuffer(buffer.getbuffer(), dtype=torch.int16), _sizes(content))
    if keep:
        _kept[cache] = loaded
    content, samples = loaded
    for notice in content["notices"]:
        notify(f"{folder}: {notice}")
    splits: dict[str, Any] = {}
    label_of = {word: label for label, word in enumerate(words)}
    for (name, clips), waveforms in zip(content["clips"].items(), samples, strict=False):
        labels = torch.tensor([label_of.get(word_of(clip), len(words)) for clip in clips], dtype=torch.float32)
        splits[name] = Split(
            waveforms.view(-1, N_SAMPLES), labels, clips, [content["speakers"][clip] for clip in clips]
        )
    about = {name: content[name] for name in ("fingerprint", "name", "noise_lengths")}
    return Corpus(**splits, noise=samples[-1], folder=folder, **about)


def cache_folder() -> Path:
    """Return where loaded corpora are cached: $KWS_CACHE, else $XDG_CACHE_HOME/kws, else ~/.cache/kws."""
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "kws")
    path = os.path.expanduser(os.environ.get("KWS_CACHE") or default)
    if path.startswith("~"):  # no home; not tempfile.tempdir, which each trial of a sweep has for itself
        return Path(os.environ.get("TMPDIR") or "/tmp") / f"kws-cache-{os.getuid()}"
    return Path(path)


def _write_samples(
    file: BinaryIO, folder: Path, listing: Listing, words: Sequence[str], speaker_from: str, notify: Notify
) -> dict[str, Any]:
    """Write the samples of the splits' clips and of the noise; return what they are, with a hash of all of them.

    A file that cannot be read is an error in a folder with lists, which say what it has; elsewhere it is left out.
    """
    has_lists = bool(list_paths(folder))
    left_out = {"no audio that kws reads": listing.others} if listing.others else {}
    changes: Counter[str] = Counter()
    digest = hashlib.sha256()
    began, files_read, files = time.monotonic(), 0, len(listing.clips)

    def copy(path: str, read: Callable[[Path, list[str]], NDArray[np.int16]], size: int = 0) -> bool:
        """Write a file's samples, zero-padded to `size`; return whether it could be read."""
        nonlocal files_read
        files_read += 1
        if files_read == TIMED_CLIPS:
            left = (time.monotonic() - began) * (files / files_read - 1)
            if left > LONG_S:
                notify(f"{folder}: reading {files:,} clips takes about {left:.0f} s; later runs read the cache instead")
        changed: list[str] = []
        try:
            samples = read(folder / path, changed)
        except KwsError as error:
            if has_lists:
                raise
            reason = str(error).removeprefix(f"{folder / path}: ").partition(";")[0]
            left_out.setdefault(reason, []).append(path)
            return False
        samples = np.pad(samples, (0, max(0, size - len(samples))))
        digest.update(samples.data)
        file.write(samples.data)
        changes.update(["files converted", *changed] if changed else ())
        return True

    splits = split_clips(folder, listing.clips, words, speaker_from)
    verify_splits(splits, folder, words)
    for name, clips in splits.clips.items():
        digest.update(normalize("NFC", "\n".join([name, *clips, ""])).encode(errors="surrogateescape"))
        splits.clips[name] = [clip for clip in clips if copy(clip, read_clip, N_SAMPLES)]
    ends = [file.tell()]
    for path in listing.words[NOISE_FOLDER]:
        if copy(path, lambda path, changed: read_audio(path, LONGEST_NOISE_S, changed)):
            ends.append(file.tell())
    counts = [f"{count:,} {what}" for what, count in changes.items()]
    notices = [f"{counts[0]} ({', '.join(counts[1:])})"] if counts else []
    if left_out:
        reasons = [f"{reason} ({len(paths):,}, such as {one_line(paths[0])})" for reason, paths in left_out.items()]
        notices = ["; ".join([*notices, f"{sum(map(len, left_out.values())):,} files left out: {', '.join(reasons)}"])]
        verify_splits(splits, folder, words, notices[0])
    unknown = [clip for clips in splits.clips.values() for clip in clips if not splits.speakers[clip]]
    if unknown:
        notices.append(
            f"{len(unknown):,} clips name no speaker, such as {one_line(unknown[0])}, so a speaker may be in several "
            "splits; --speaker_from says where in a file's name the speaker is"
        )
    if len(ends) == 1:
        file.write(np.random.default_rng(0).normal(0, 3000, 60 * N_SAMPLES).astype(np.int16).data)
        ends.append(file.tell())
        notices.append(f"there is no recording in {NOISE_FOLDER}: augmentation uses generated white noise")
    return {
        "clips": splits.clips,
        "speakers": splits.speakers,
        "fingerprint": digest.hexdigest()[:16],
        "name": corpus_name(folder, splits),
        "noise_lengths": [(end - start) // 2 for start, end in pairwise(ends)],
        "notices": notices,
    }


def _cache_path(folder: Path, words: Sequence[str]) -> Path:
    place = hashlib.sha256(repr((str(folder.resolve()), *words)).encode()).hexdigest()[:12]
    return cache_folder() / f"{folder.name[:40]}-{'-'.join(words)[:40]}-{place}.samples"


def _sizes(content: dict[str, Any]) -> list[int]:
    """Return the number of samples of each split and of the noise."""
    return [*(N_SAMPLES * len(clips) for clips in content["clips"].values()), sum(content["noise_lengths"])]


def _read_cache(path: Path, signature: str, notify: Notify) -> Loaded | None:
    """Map the cache, None unless it has this signature: each split of its own, which is unmapped when it is dropped."""
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file:
            end = file.seek(-LENGTH_BYTES, os.SEEK_END)
            start = end - int.from_bytes(file.read(), "little")
            file.seek(start)
            content = json.loads(file.read(end - start))
            if (content["format"], content["signature"]) != (CACHE_FORMAT, signature):
                return None
            sizes = _sizes(content)
            places = zip(accumulate([0, *sizes[:-1]]), sizes, strict=True)
            # Mode c is private: a write would not change the file.
            maps = [np.memmap(file, np.int16, "c", 2 * first, size) for first, size in places]
        return content, [torch.from_numpy(samples) for samples in maps]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        notify(f"cache {path} is damaged ({type(error).__name__}); reading the clips again")
        return None


def _write_cache(path: Path, write: Callable[[BinaryIO], dict[str, Any]], notify: Notify) -> None:
    """Write the samples, what they are as JSON, and the size of that text; a notice says why that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary, open(temporary, "wb") as file:
            text = json.dumps(write(file)).encode()
            file.write(text + len(text).to_bytes(LENGTH_BYTES, "little"))
    except OSError as error:
        notify(
            f"cannot write the cache {path} ({error.strerror or one_line(error)}); set KWS_CACHE to a writable folder"
        )
