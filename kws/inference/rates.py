"""How well keywords are detected in recordings that are labelled: misses, and false alarms per hour, by threshold."""

import csv
import math
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from kws.data.audio import SAMPLE_RATE
from kws.errors import KwsError
from kws.formatting import one_line
from kws.inference.listen import Detection, Moment, detect, moments
from kws.inference.predict import Predictor
from kws.inference.recording import Samples, read_blocks, shown

MATCH_S = 1.0  # farthest a detection may be from the middle of its word
# From 0.3 to 0.9999, denser towards 1: ten for each tenfold fall of 1 - threshold.
THRESHOLDS = [round(1 - 0.7 * 10 ** (-n / 10), 4) for n in range(39)]
COLUMNS = ("file", "time", "label")


class Keyword(NamedTuple):
    """A word that is said in a recording: its middle in seconds, and the line that says so."""

    time_s: float
    word: str
    line: int = 0


class Evaluated(NamedTuple):
    """A recording: what the model says of it, the keywords that are in it, and its length."""

    moments: list[Moment]
    keywords: list[Keyword]
    seconds: float


class Rates(NamedTuple):
    """Missed keywords, and false alarms in so many hours, at a threshold."""

    threshold: float
    keywords: int
    missed: int
    hours: float
    false_alarms: int

    @property
    def miss_rate(self) -> float:
        return self.missed / self.keywords if self.keywords else math.nan

    @property
    def false_alarms_per_hour(self) -> float:
        return self.false_alarms / self.hours

    def as_dict(self) -> dict[str, float | None]:
        """Return fields and rates for JSON; the miss rate is None without keywords."""
        rate = self.miss_rate if self.keywords else None
        return {**self._asdict(), "miss_rate": rate, "false_alarms_per_hour": self.false_alarms_per_hour}


def evaluate(predictor: Predictor, blocks: Iterator[Samples], keywords: list[Keyword]) -> Evaluated:
    """Run the model on a recording, once for all thresholds."""
    samples = 0

    def counted() -> Iterator[Samples]:
        nonlocal samples
        for block in blocks:
            samples += len(block)
            yield block

    found = [*moments(predictor, counted())]
    return Evaluated(found, sorted(keywords), samples / SAMPLE_RATE)


def evaluate_files(
    predictor: Predictor, files: Sequence[str], labels: str, notify: Callable[[str], None]
) -> list[Evaluated]:
    """Return the evaluation of recordings whose keywords the file `labels` names. Raises KwsError."""
    keywords = read_labels(labels, files, predictor.config.words)
    evaluated = []
    for file in files:
        notices: list[str] = []
        one = evaluate(predictor, read_blocks(file, notices), keywords[os.path.realpath(file)])
        for notice in notices:
            notify(f"{shown(file)}: {notice}")
        if one.keywords and one.keywords[-1].time_s > one.seconds:
            time_s, _, line = one.keywords[-1]
            end = f"{shown(file)} ends at {one.seconds:.1f} s"
            raise KwsError(f"{shown(labels)}, line {line}: time is {time_s:g} s, but {end}; correct it")
        evaluated.append(one)
    return evaluated


def read_labels(path: str, files: Sequence[str], words: Sequence[str]) -> dict[str, list[Keyword]]:
    """Return the keywords of each of `files`, by its real path. Raises KwsError, naming the line.

    A file in `path` is found from the folder of `path` or from the working directory.
    """
    found: dict[str, list[Keyword]] = {os.path.realpath(file): [] for file in files}
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            lines = (line.replace("\0", " ") for line in text)  # no path has a NUL
            rows = csv.DictReader(lines, skipinitialspace=True)
            if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
                raise KwsError(f"{shown(path)}, line 1: has no column {missing[0]}; begin with {','.join(COLUMNS)}")
            for row in rows:
                where = f"{shown(path)}, line {rows.line_num}"
                if None in row or None in row.values():
                    raise KwsError(f"{where}: has more or fewer fields than line 1; correct it")
                file, time, word = (row[name].strip() for name in COLUMNS)
                places = (os.path.realpath(place) for place in (Path(path).parent / file, file))
                place = next((place for place in places if place in found), None)
                if place is None:
                    raise KwsError(f"{where}: {one_line(file)!r} is not a recording given; correct it, or give it too")
                if word not in words:
                    known = ", ".join(words)
                    raise KwsError(f"{where}: {one_line(word)!r} is not a keyword of the model ({known}); correct it")
                try:
                    time_s = float(time)
                except ValueError:
                    time_s = math.nan
                if not 0 <= time_s < math.inf:
                    raise KwsError(f"{where}: time is {one_line(time)!r}, not seconds such as 12.5; correct it")
                if any((time_s, word) == other[:2] for other in found[place]):
                    raise KwsError(f"{where}: is a repetition; remove it")
                found[place].append(Keyword(time_s, word, rows.line_num))
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise KwsError(f"--evaluate: {shown(path)} cannot be read ({reason}); give a CSV file") from error
    return found


def curve(evaluated: Sequence[Evaluated], thresholds: Sequence[float]) -> list[Rates]:
    """Return the Rates over all recordings at each threshold, from low to high."""
    keywords, hours = sum(len(one.keywords) for one in evaluated), sum(one.seconds for one in evaluated) / 3600
    rates = []
    for threshold in sorted({*thresholds}):
        counts = [_errors(detect(one.moments, threshold), one.keywords) for one in evaluated]
        missed, false_alarms = (sum(column) for column in zip(*counts, strict=True))
        rates.append(Rates(threshold, keywords, missed, hours, false_alarms))
    return rates


def at_most(curve: Sequence[Rates], per_hour: float) -> Rates:
    """Return the lowest threshold of a curve from which on false alarms do not exceed `per_hour`. Raises KwsError."""
    few = takewhile(lambda rates: rates.false_alarms_per_hour <= per_hour, reversed(curve))
    if not (found := [*few]):
        fewest = f"{curve[-1].threshold:g} has {curve[-1].false_alarms_per_hour:g}"
        raise KwsError(
            f"--calibrate: no threshold has at most {per_hour:g} false alarms per hour, even {fewest}; allow more, "
            "or train with the labels _unknown_ and _silence_ and more other words (docs/labels.md)"
        )
    return found[-1]


def _errors(detections: Iterator[Detection], keywords: Sequence[Keyword]) -> tuple[int, int]:
    """Return the number of missed keywords and of false alarms; `keywords` are in order of time.

    A detection finds the nearest keyword of its word, at most MATCH_S away, that no detection before has found.
    Every other detection is a false alarm.
    """
    times = [keyword.time_s for keyword in keywords]
    found: set[int] = set()
    false_alarms = 0
    for time_s, word in ((detection.time_s, detection.word) for detection in detections):
        near = range(bisect_left(times, time_s - MATCH_S), bisect_right(times, time_s + MATCH_S))
        left = [n for n in near if keywords[n].word == word and n not in found]
        if left:
            found.add(min(left, key=lambda n: abs(times[n] - time_s)))
        else:
            false_alarms += 1
    return len(keywords) - len(found), false_alarms
