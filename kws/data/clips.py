"""The clips of a folder: the files of its words, who speaks in them, and the split of each."""

import codecs
import hashlib
import os
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from kws.errors import KwsError
from kws.formatting import one_line

SPLITS = ("training", "validation", "testing")
LISTS = ("validation_list.txt", "testing_list.txt")
NOISE_FOLDER = "_background_noise_"
# Folders of Hugging Face's data sets: train/WORD, test/WORD.
SPLIT_FOLDERS = dict.fromkeys(("train", "training"), "training")
SPLIT_FOLDERS |= dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
SPLIT_FOLDERS |= dict.fromkeys(("test", "testing", "eval", "evaluation"), "testing")
AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3")
# Like names that begin with a dot, made by macOS, Windows and NAS systems; README.md is in the official noise folder.
IGNORED = ("thumbs.db", "desktop.ini", "@eadir", "__macosx", "readme.md")
SPEAKER = "(.+?)_nohash_"  # in the names of Speech Commands: 0132a06d_nohash_1.wav


class Listing(NamedTuple):
    """What a folder has of some words: {path: (bytes, time of change)} of each word and of the noise; other files."""

    words: dict[str, dict[str, tuple[int, int]]]
    others: list[str]

    @property
    def clips(self) -> list[str]:
        return [clip for word, files in self.words.items() if word != NOISE_FOLDER for clip in files]


def word_of(clip: str) -> str:
    """Return the word of a clip: yes of yes/0132a06d_nohash_1.wav. It is composed (NFC), as `words` are."""
    return normalize("NFC", clip.split("/")[-2])


def clip_name(clip: str) -> str:
    """Return WORD/NAME of a clip, composed, without the suffix: a list may name a .wav that is now a .flac or .WAV."""
    return normalize("NFC", os.path.splitext("/".join(clip.split("/")[-2:]))[0])


def word_folders(folder: Path) -> dict[str, list[str]]:
    """Return {word: paths} of the folders WORD and SPLIT/WORD in a folder. Raises OSError."""
    places = [entry.name for entry in _entries(folder) if entry.is_dir()]
    for split in [name for name in places if name.lower() in SPLIT_FOLDERS]:
        places += [f"{split}/{entry.name}" for entry in _entries(folder / split) if entry.is_dir()]
    words: dict[str, list[str]] = {}
    for place in places:
        words.setdefault(word_of(f"/{place}/"), []).append(place)
    return words


def list_folder(folder: Path, words: Sequence[str]) -> Listing:
    """Return what a folder has of `words`, in the order of words and paths. Raises OSError."""
    places = word_folders(folder)
    listing = Listing({word: {} for word in sorted({*words, NOISE_FOLDER})}, [])
    for word, files in listing.words.items():
        for place in places.get(word, ()):
            for entry in _entries(folder / place):
                path = f"{place}/{entry.name}"
                if entry.name.lower().endswith(AUDIO) and entry.is_file():
                    files[path] = (entry.stat().st_size, entry.stat().st_mtime_ns)
                else:
                    listing.others.append(path)
    return listing


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        kept = [entry for entry in entries if entry.name[0] != "." and entry.name.lower() not in IGNORED]
    return sorted(kept, key=lambda entry: normalize("NFC", entry.name))


def list_paths(folder: Path) -> list[Path]:
    """Return the lists that exist: they are in the folder, or beside Kaggle's train/audio."""
    place = folder.parent if folder.name == "audio" else folder
    return [place / name for name in LISTS if (place / name).is_file()]


def read_list(path: Path) -> dict[str, str]:
    """Return {clip_name: line} of a list. Raises KwsError at a line that is none or that comes twice."""
    content, lines = path.read_bytes(), {}
    utf16 = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as Notepad and PowerShell save
    try:
        text = content.decode("utf-16" if utf16 else "utf-8").replace("\ufeff", "")
    except UnicodeDecodeError:
        raise KwsError(f"data: {path} is not UTF-8 text; save it as UTF-8") from None
    for line in filter(None, map(str.strip, text.splitlines())):
        clip = line.replace("\\", "/").removeprefix("./")
        if clip.count("/") != 1 or clip.startswith(("/", ".")) or not clip.isprintable():
            raise KwsError(f"data: {path.name} of {path.parent} has {one_line(line)!r}, not WORD/CLIP.wav; correct it")
        if clip_name(clip) in lines:
            raise KwsError(f"data: {path.name} of {path.parent} has {one_line(line)} twice; correct it")
        lines[clip_name(clip)] = clip
    return lines


def speaker(clip: str, speaker_from: str = SPEAKER) -> str:
    """Return the speaker of a clip, "" if its name has none: see `split_clips`."""
    match = re.search(speaker_from, clip_name(clip).partition("/")[2])
    return (match[min(1, match.re.groups)] or "") if match else ""


class Splits(NamedTuple):
    """The clips of each split, the speaker of each clip ("" if unknown), whether lists or folders give all splits."""

    clips: dict[str, list[str]]
    speakers: dict[str, str]
    given: bool


def split_clips(folder: Path, clips: Sequence[str], words: Sequence[str], speaker_from: str = SPEAKER) -> Splits:
    """Return the Splits of the clips of a folder.

    A folder's lists decide, else the clip's folder SPLIT/WORD. If validation or testing is left without clips, it gets
    the speakers whose hashes are in its tenth, as in Speech Commands; if that leaves a split without a word, the tenth
    with the lowest hashes. A clip of an unknown speaker counts as a speaker. All other clips are for training.

    Args:
        speaker_from: regular expression, searched in a file's name without suffix; its first group is the speaker.

    Raises:
        KwsError: a wrong line in a list, or a clip in both lists.
    """
    names = {clip: clip_name(clip) for clip in clips}
    speakers = {clip: speaker(clip, speaker_from) for clip in clips}
    lists = [read_list(path) for path in list_paths(folder)]
    both = [clip for clip, name in names.items() if lists and all(name in lines for lines in lists)]
    if both:
        where = f"in validation and testing: {some(both)}"
        raise KwsError(f"data: {len(both)} clips appear {where}; correct the lists of {folder}")
    splits = {clip: SPLIT_FOLDERS[clip.split("/")[0].lower()] for clip in clips if clip.count("/") == 2}
    if lists:
        listed = {name: split for split, lines in zip(SPLITS[1:], lists, strict=True) for name in lines}
        splits = {clip: listed.get(name, "training") for clip, name in names.items()}
    missing = [] if lists else [split for split in SPLITS[1:] if split not in splits.values()]
    if missing:
        rest = [clip for clip in clips if splits.get(clip, "training") == "training"]
        keys = {clip: speakers[clip] or names[clip] for clip in rest}
        for rule in (_by_hash, _by_rank):
            split_of = rule(sorted({*keys.values()}, key=_hash), missing)
            splits |= {clip: split_of.get(key, "training") for clip, key in keys.items()}
            if len({(split, word_of(clip)) for clip, split in splits.items()}) == len(SPLITS) * len(words):
                break
    by_split = {split: [clip for clip in clips if splits[clip] == split] for split in SPLITS}
    return Splits(by_split, speakers, not missing)


def official_split(speaker: str) -> str:
    """Return the split of a speaker by the rule of Speech Commands: by the hash alone, whoever else there is."""
    share = _hash(speaker)
    return "validation" if share < 0.1 else "testing" if share < 0.2 else "training"


def _hash(key: str) -> float:
    return int(hashlib.sha1(os.fsencode(key)).hexdigest(), 16) % 2**27 / (2**27 - 1)


def _by_hash(keys: list[str], missing: list[str]) -> dict[str, str]:
    return {key: official_split(key) for key in keys if official_split(key) in missing}


def _by_rank(keys: list[str], missing: list[str]) -> dict[str, str]:
    """Return {key: split}: the first keys, a tenth for each split; clips of unknown speakers take turns by words."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(key.rpartition("/")[0], []).append(key)
    turns = [key for row in zip_longest(*groups.values()) for key in row if key]
    size = max(len(groups), round(len(turns) / 10))
    return {key: split for n, split in enumerate(missing) for key in turns[n * size : (n + 1) * size]}


def some(names: Sequence[str], limit: int = 4) -> str:
    return ", ".join(map(one_line, names[:limit])) + (f" and {len(names) - limit} more" if len(names) > limit else "")
