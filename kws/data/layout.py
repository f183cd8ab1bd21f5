"""Where a data set is, whether it is complete (found from names and sizes, without reading a clip), installing it."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote
from typing import TypedDict

from kws.config import SPEECH_COMMANDS_WORDS, suggestion
from kws.errors import KwsError
from kws.files import lock, write_json
from kws.formatting import one_line

FOLDERS = {"speech_commands": "speech_commands_v0.02", "synthetic": "speech_commands_synthetic"}
FOLDERS["synthetic_unknown"] = "speech_commands_synthetic_unknown"  # words that train _unknown_
LISTS = ("validation_list.txt", "testing_list.txt")
LIST_LINES = (9981, 11005)  # of the full set's lists
NOISE_FOLDER = "_background_noise_"
MARKER = ".kws-complete"  # written last: a folder without it was made by others
OLD_SYNTHETIC_MARKER = ".complete"  # of synthetic corpora generated before MARKER served both data sets
# Clips of each word in the full set; 105,829 in all (P. Warden, arXiv:1804.03209, and a count of yes and no).
CLIPS = dict(zip(SPEECH_COMMANDS_WORDS, (
    1664, 2014, 2064, 2031, 2128, 3917, 3787, 4052, 1579, 1557, 3728, 3880, 2054, 2113, 1575, 3801, 2100, 3934,
    3941, 3745, 3845, 3890, 3778, 3998, 2022, 3860, 3872, 3727, 1759, 3880, 3723, 1592, 2123, 4044, 4052,
), strict=True))  # fmt: skip
SMALLEST_WAV = 46  # header and one sample


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


def part_folder(folder: Path) -> Path:
    """Return where a data set is built before it is complete."""
    return folder.with_name(f".{folder.name}.part")


def find(data_dir: str | Path, data: str, words: Sequence[str]) -> Path:
    """Return the absolute folder of a data set below `data_dir`. Raises KwsError unless it has all clips of `words`."""
    folder = dataset_folder(data_dir, data)
    if not folder.is_dir():
        command = fix_command(folder, words)
        raise KwsError(f"data: {folder} does not exist; run: {command}, or set the right folder with --data_dir")
    check_complete(folder, words)
    return folder


def check_complete(folder: Path, words: Sequence[str]) -> None:
    """Raise KwsError, with the command that fixes it, unless `folder` has all clips of `words`.

    That is: both lists exist, every clip that they name for these words exists and is not empty, and each word has as
    many clips as the marker says, or as the full set has where the lists are the full set's.
    """
    problem = diagnose(folder, words)
    if problem:
        if folder.name == FOLDERS["speech_commands"]:
            check_words(words)  # no download has a misspelt word
        text, command = problem
        raise KwsError(f"data: {folder} {text}; run: {command}")


def check_words(words: Sequence[str]) -> None:
    """Raise KwsError where Speech Commands has no such word."""
    for word in words:
        if word not in CLIPS:
            hint = suggestion(word, CLIPS, "its words are")
            raise KwsError(f"words: Speech Commands has no {one_line(word)!r}; {hint}")


def diagnose(folder: Path, words: Sequence[str]) -> tuple[str, str] | None:
    """Return (the problem with the data in `folder`, the command that fixes it), None if they are complete."""
    command = fix_command(folder, words)
    if not os.path.isdir(folder):  # also where its parent cannot be read
        built = os.path.exists(part_folder(folder))
        return "is missing (download incomplete)" if built else "does not exist", command
    marker = read_marker(folder)
    try:
        problem = find_problem(folder, words, marker)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    if problem is None:
        return None
    if marker is None:  # made by others: kws does not replace it
        command = f"mv {quote(str(folder))} {quote(f'{folder}.incomplete')} && {command}"
    return f"is incomplete: {problem}", command


def read_marker(folder: Path) -> Marker | None:
    """Return the marker of a folder that kws made, {} if it is unreadable, None if there is none."""
    for name in (MARKER, OLD_SYNTHETIC_MARKER):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
            if name == OLD_SYNTHETIC_MARKER:  # has the number of all clips
                content["clips"] = clips_per_word(content["words"], content["clips"])
            marker: Marker = content
            return marker if all(isinstance(marker["clips"][word], int) for word in marker["words"]) else {}
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}
    return None


def clips_per_word(words: Sequence[str], clips: int) -> dict[str, int]:
    """Return how many of a synthetic corpus' `clips` each word has: they take turns."""
    return {word: -(-(clips - turn) // len(words)) for turn, word in enumerate(words)}


def find_problem(folder: Path, words: Sequence[str], marker: Marker | None) -> str | None:
    """Return what is missing of the clips of `words` in a folder with this marker, None where nothing is."""
    if marker == {}:
        return f"{MARKER} is damaged"
    listed: list[str] = []
    full = True
    for name, lines in zip(LISTS, LIST_LINES, strict=True):
        if not (folder / name).is_file():
            return f"there is no {name}"
        names = (folder / name).read_text(encoding="utf-8", errors="replace").split()
        full = full and len(names) == lines
        listed += names
    for word in words:
        if marker and word not in marker["words"]:
            return f"it has {', '.join(marker['words'])}, not {word}"
        sizes = wav_sizes(folder / word)
        empty = [name for name, size in sizes.items() if size < SMALLEST_WAV]
        missing = [name for name in listed if name.startswith(f"{word}/") and name[len(word) + 1 :] not in sizes]
        expected = marker["clips"][word] if marker else CLIPS.get(word) if full else None
        if not sizes:
            return f"there is no clip of {word!r}"
        if empty:
            return f"{len(empty)} clips of {word!r} are empty, such as {one_line(empty[0])}"
        if missing:
            return f"{len(missing)} listed clips are missing, such as {one_line(missing[0])}"
        if expected not in (None, len(sizes)):
            return f"{word!r} has {len(sizes):,} clips of {expected:,}"
    if (full or marker) and not wav_sizes(folder / NOISE_FOLDER):
        return f"there is no recording in {NOISE_FOLDER}"
    return None


def wav_sizes(folder: Path) -> dict[str, int]:
    """Return {name: bytes} of the WAV files in a folder; empty where there is no folder."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(".wav")}


def speaker(clip: str) -> str:
    """Return the speaker's hash in a clip's name: 0132a06d of yes/0132a06d_nohash_1.wav."""
    return clip.rpartition("/")[2].partition("_nohash_")[0]


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
