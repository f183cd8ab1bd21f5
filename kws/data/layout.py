"""Where a data set is, whether it is complete (found from names and sizes, without reading a clip), installing it."""

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from shlex import quote
from typing import TypedDict

from kws.config import SPEECH_COMMANDS_WORDS, suggestion
from kws.data.clips import (
    LISTS,
    NOISE_FOLDER,
    Listing,
    Splits,
    clip_name,
    list_folder,
    list_paths,
    official_split,
    read_list,
    some,
    word_folders,
    word_of,
)  # fmt: skip
from kws.errors import KwsError
from kws.files import lock, write_json
from kws.formatting import one_line

FOLDERS = {
    "speech_commands": "speech_commands_v0.02",
    "test_set": "speech_commands_test_set_v0.02",  # of the twelve-label task
    "synthetic": "speech_commands_synthetic",
    "synthetic_unknown": "speech_commands_synthetic_unknown",  # words that train _unknown_
}
LIST_LINES = (9981, 11005)  # of the full set's lists
MARKER = ".kws-complete"  # written last: a folder without it was made by others
# Clips of each word in the full set; 105,829 in all (P. Warden, arXiv:1804.03209, and a count of yes and no).
CLIPS = dict(zip(SPEECH_COMMANDS_WORDS, (
    1664, 2014, 2064, 2031, 2128, 3917, 3787, 4052, 1579, 1557, 3728, 3880, 2054, 2113, 1575, 3801, 2100, 3934,
    3941, 3745, 3845, 3890, 3778, 3998, 2022, 3860, 3872, 3727, 1759, 3880, 3723, 1592, 2123, 4044, 4052,
), strict=True))  # fmt: skip
SMALLEST_WAV = 46  # header and one sample
OFFICIAL_NAME = re.compile(r"[0-9a-f]{8}_nohash_\d+\.\w+")


class Marker(TypedDict, total=False):
    """What kws recorded of a data set that it downloaded or generated: words, clips of each, and their source."""

    words: list[str]
    clips: dict[str, int]
    sha256: str  # of the archive
    recipe: int  # this and the next are of a synthetic corpus
    seed: int
    espeak: str


def dataset_folder(data_dir: str | Path, data: str) -> Path:
    """Return the absolute folder of a data set below `data_dir`, whether it exists or not."""
    return Path(os.path.abspath(os.path.expanduser(data_dir))) / "SpeechCommands" / FOLDERS[data]


def locate(data_dir: str | Path, data: str, words: Sequence[str]) -> Path:
    """Return the folder below `data_dir` with most of `words`: dataset_folder, or one that has WORD or SPLIT/WORD.

    That may be `data_dir` itself, its train/audio or audio (Kaggle), or its data (Hugging Face).
    """
    place = dataset_folder(data_dir, data)
    others = [place.parents[1] / name for name in (".", "train/audio", "audio", "data") if data == "speech_commands"]
    return max((place, *others), key=lambda folder: len({*words} & {*_words_in(folder)}))


def _words_in(folder: Path) -> list[str]:
    try:
        return [word for word in word_folders(folder) if word != NOISE_FOLDER]
    except OSError:  # no folder, or unreadable
        return []


def part_folder(folder: Path) -> Path:
    """Return where a data set is built before it is complete."""
    return folder.with_name(f".{folder.name}.part")


def find(data_dir: str | Path, data: str, words: Sequence[str]) -> tuple[Path, Listing]:
    """Return the folder of a data set below `data_dir`, and its files. Raises KwsError unless it has all of `words`."""
    folder = locate(data_dir, data, words)
    if not folder.is_dir():
        if data == "speech_commands":
            check_words(words)
        command = fix_command(folder, words)
        raise KwsError(f"data: {folder} does not exist; run: {command}, or set the right folder with --data_dir")
    return folder, check_complete(folder, words)


def check_complete(folder: Path, words: Sequence[str]) -> Listing:
    """Return the Listing of a folder. Raises KwsError, with the fix, unless it has all clips of `words`.

    That is: each word has clips, every clip that the lists name for these words exists and is not empty, and each word
    has as many clips as the marker says, or as the full set has where the lists are the full set's.
    """
    found = diagnose(folder, words)
    if isinstance(found, Listing):
        return found
    if folder.name == FOLDERS["speech_commands"] and {*_words_in(folder)} <= {*CLIPS}:
        check_words(words)  # no download has a misspelt word
    raise KwsError(f"data: {folder} {'; '.join(found)}")


def check_words(words: Sequence[str]) -> None:
    """Raise KwsError where Speech Commands has no such word."""
    for word in words:
        if word not in CLIPS:
            hint = suggestion(word, CLIPS, "set the folder of your own WORD/*.wav with --data_dir; its words are")
            raise KwsError(f"words: Speech Commands has no {one_line(word)!r}; {hint}")


def diagnose(folder: Path, words: Sequence[str]) -> Listing | tuple[str, str]:
    """Return the Listing of the data in `folder` if they are complete, else (the problem, its fix)."""
    command = fix_command(folder, words)
    if not os.path.isdir(folder):  # also where its parent cannot be read
        built = os.path.exists(part_folder(folder))
        return "is missing (download incomplete)" if built else "does not exist", f"run: {command}"
    marker = read_marker(folder)
    try:
        listing = list_folder(folder, words)
    except OSError as error:
        return f"cannot be read ({error.strerror}: {error.filename})", "correct that"
    problem = find_problem(folder, words, marker, listing)
    if problem is None:
        return listing
    if marker is None and not _seems_official(folder, listing):  # the user's own
        absent = [word for word in words if not listing.words[word]]
        hint = "correct the lists, or remove both: clips are then split by speaker"
        return f"is incomplete: {problem}", suggestion(
            absent[0], _words_in(folder), "its words are"
        ) if absent else hint
    if marker is None:  # made by others: kws does not replace it
        command = f"mv {quote(str(folder))} {quote(f'{folder}.incomplete')} && {command}"
    return f"is incomplete: {problem}", f"run: {command}"


def _seems_official(folder: Path, listing: Listing) -> bool:
    """Whether a folder is where a download is and has nothing else: no other words, no clips with other names."""
    if folder.name == FOLDERS["synthetic"]:
        return True
    names = [clip.rpartition("/")[2] for clip in listing.clips]
    in_place = folder.name == FOLDERS["speech_commands"] and {*_words_in(folder)} <= {*CLIPS}
    return in_place and all(map(OFFICIAL_NAME.fullmatch, names))


def read_marker(folder: Path) -> Marker | None:
    """Return the marker of a folder that kws made, {} if it is unreadable, None if there is none."""
    try:
        marker: Marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return marker if all(isinstance(marker["clips"][word], int) for word in marker["words"]) else {}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def clips_per_word(words: Sequence[str], clips: int) -> dict[str, int]:
    """Return how many of a synthetic corpus' `clips` each word has: they take turns."""
    return {word: -(-(clips - turn) // len(words)) for turn, word in enumerate(words)}


def find_problem(folder: Path, words: Sequence[str], marker: Marker | None, listing: Listing) -> str | None:
    """Return what is missing of the clips of `words` in a folder with this marker, None where nothing is."""
    if marker == {}:
        return f"{MARKER} is damaged"
    for word in words:
        if marker and word not in marker["words"] and (word in CLIPS or not listing.words[word]):
            return f"it has {', '.join(marker['words'])}, not {word}"
        if not listing.words[word]:
            unread = [path for path in listing.others if word_of(path) == word]
            hint = f"; kws does not read files such as {one_line(unread[0])}" if unread else ""
            return f"there is no clip of {word!r}{hint}"
    lists = {path.name: read_list(path) for path in list_paths(folder)}
    absent = [name for name in LISTS if name not in lists]
    if absent and (lists or marker or _seems_official(folder, listing)):
        return f"there is no {absent[0]}"
    full = [len(lines) for lines in lists.values()] == list(LIST_LINES)
    listed = {name: line for lines in lists.values() for name, line in lines.items()}
    names = {*map(clip_name, listing.clips)}
    for word in words:
        clips = listing.words[word]
        empty = [clip for clip, (size, _) in clips.items() if size < SMALLEST_WAV]
        if empty and lists:
            return f"{len(empty)} clips of {word!r} are empty, such as {one_line(empty[0].rpartition('/')[2])}"
        missing = [line for name, line in listed.items() if name.startswith(f"{word}/") and name not in names]
        if missing:
            return f"{len(missing)} listed clips are missing, such as {one_line(missing[0])}"
        expected = marker["clips"].get(word) if marker else CLIPS.get(word) if full else None
        if expected and len(clips) < expected:
            return f"{word!r} has {len(clips):,} clips of {expected:,}"
    if (full or marker) and not listing.words[NOISE_FOLDER]:
        return f"there is no recording in {NOISE_FOLDER}"
    return None


def corpus_name(folder: Path, splits: Splits) -> str:
    """Return what the recordings are: Speech Commands only where words, names of clips and splits are its own."""
    if folder.name == FOLDERS["synthetic"]:
        return "synthetic speech (espeak-ng)"
    official = splits.given and all(
        word_of(clip) in CLIPS and OFFICIAL_NAME.fullmatch(clip.rpartition("/")[2])
        and official_split(splits.speakers[clip]) == name
        for name, clips in splits.clips.items()
        for clip in clips
    )  # fmt: skip
    version = " v0.02" if folder.name == FOLDERS["speech_commands"] else ""
    return f"Speech Commands{version}" if official else f"recordings in {one_line(folder.name)}"


def verify_splits(splits: Splits, folder: Path, words: Sequence[str], reason: str = "") -> None:
    """Raise KwsError where a split has no clip of a word, or two splits have clips of one speaker."""
    for name, clips in splits.clips.items():
        present = {*map(word_of, clips)}
        absent = [word for word in words if word not in present]
        if absent:
            official = {*words} <= {*CLIPS} and folder.name in FOLDERS.values()
            own = "add recordings of more speakers, or split by file: --speaker_from=.+"
            fix = reason or (f"run: {fix_command(folder, words)}" if official else own)
            raise KwsError(f"data: {folder} has no {name} clip of {absent[0]!r}; {fix}")
    for (first, a), (second, b) in combinations(splits.clips.items(), 2):
        both = {splits.speakers[clip] for clip in a} & {splits.speakers[clip] for clip in b} - {""}
        if both:
            files = some([clip for clip in a + b if splits.speakers[clip] in both])
            where = f"in {first} and {second}: {files}"
            raise KwsError(f"data: {len(both)} speakers appear {where}; correct the lists of {folder}")


def fix_command(folder: Path, words: Sequence[str]) -> str:
    """Return the command that downloads or generates the data set of this folder with `words`."""
    parts = ["kws data"]
    if folder.name == FOLDERS["synthetic"]:
        parts.append("--synthetic")
    parts.append(f"--root {quote(str(folder.parent.parent))}")
    archive = folder.parent.parent / f"{folder.name}.tar.gz"
    if archive.is_file():  # where torchaudio leaves it
        parts.append(f"--archive {quote(str(archive))}")
    if set(words) != {"no", "yes"}:
        parts.append(f"--words={','.join(words)}")
    return " ".join(parts)


def install(
    folder: Path, is_complete: Callable[[Path], bool], fill: Callable[[Path, Path], Marker], wait: bool
) -> None:
    """Replace `folder` by what fill(folder, new empty folder) writes, unless `folder` is complete by then.

    The new folder is built beside its place, marked with what `fill` returns, then renamed; on an exception it is
    removed and `folder` stays as it was. Links in `folder` are resolved. A lock, which the kernel releases when the
    process ends, excludes other processes. Raises KwsError if another holds it, unless `wait`, and on any OSError.
    """
    place = folder.resolve()
    part, old = part_folder(place), place.with_name(f".{place.name}.old")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with open(place.with_name(f".{place.name}.lock"), "a") as file:
            try:
                lock(file, "--root", wait)
            except BlockingIOError:
                raise KwsError(f"{place}: another process is downloading it; wait until it ends") from None
            if read_marker(part) and not place.exists():  # complete: killed before the last rename
                os.rename(part, place)
            if is_complete(place):
                return
            for left in (part, old):
                shutil.rmtree(left, ignore_errors=True)
            part.mkdir()
            try:
                marker = fill(place, part)
                os.sync()  # the marker means that the clips are on the disk
                write_json(part / MARKER, marker)
            except BaseException:
                shutil.rmtree(part, ignore_errors=True)
                raise
            if place.exists():
                os.rename(place, old)
            os.rename(part, place)
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise KwsError(
            f"{folder.parent}: cannot be written ({error.strerror or one_line(error)}); fix that, or choose another "
            "folder with --root"
        ) from error
