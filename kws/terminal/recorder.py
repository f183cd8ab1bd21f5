"""Recording one's own clips at a terminal: countdown, level, playback, and a key for each clip."""

import os
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from kws.errors import KwsError
from kws.inference import record
from kws.inference.microphone import play
from kws.terminal.progress import console
from kws.terminal.tables import line


def session(folder: Path, words: Sequence[str], clips: int, name: str | None) -> None:
    """Record until there are `clips` clips of each word by the speaker `name` in `folder`, or q is pressed.

    Asks for the name if it is None. Raises KwsError.
    """
    if clips < 1:
        raise KwsError(f"--clips: is {clips}, but must be at least 1")
    if not (console.is_terminal and sys.stdin is not None and sys.stdin.isatty()):
        raise KwsError("kws record: needs a terminal for its questions; run it in one")
    if name is None:
        try:
            name = console.input("Speaker's name (only a hash of it is stored): ", markup=False)
        except EOFError:
            name = ""
    if not name.strip():
        raise KwsError("--speaker: is empty; give a name, the same one each time")
    speaker = record.speaker_hash(name)
    there = {word: len(record.numbers(folder, word, speaker)) for word in words}
    missing = [(word, n) for n in range(clips) for word in words if n >= there[word]]
    with _single_keys():
        for word, n in missing:
            if not _clip(folder, word, speaker, f"{word}, clip {n + 1} of {clips}:"):
                break
    counts = ", ".join(f"{len(record.numbers(folder, word, speaker))} of {word}" for word in words)
    line(f"speaker {speaker}: {counts} in {folder}")
    line(f"check    kws data --root {quote(str(folder))} --words={','.join(words)}")


def _clip(folder: Path, word: str, speaker: str, title: str) -> bool:
    """Record a clip until it is kept. Returns whether to continue."""
    key = "r"
    while True:
        if key == "r":
            console.print(f"\n{title}", end="", markup=False)
            samples = record.record_clip(lambda n: console.print(f" {n}" if n else f'  say "{word}"', end=""))
            console.print()
            problem = record.problem(samples)
            console.print(problem or play(samples) or "recorded", markup=False)
        elif key == "p":
            console.print(play(samples) or "played", markup=False)
        elif key == "k":
            record.write_clip(folder, word, speaker, samples)
            return True
        elif key == "q":
            return False
        key = _key("r" if problem else "k")


def _key(default: str) -> str:
    """Return the key that is pressed after the question, not before; Enter is the default."""
    termios.tcflush(sys.stdin, termios.TCIFLUSH)
    console.print(f"k keeps it, r records it again, p plays it, q ends (Enter: {default})", markup=False)
    pressed = os.read(sys.stdin.fileno(), 1).decode(errors="replace")
    if pressed in ("\r", "\n"):
        return default
    return pressed.lower() or "q"  # nothing is read from a closed terminal


@contextmanager
def _single_keys() -> Iterator[None]:
    """Let the terminal pass on each key at once."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
