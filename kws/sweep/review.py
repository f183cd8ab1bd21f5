"""Finds the finished trials whose results no longer fit: other code or data, or no run folder."""

import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path

from optuna.trial import FrozenTrial

from kws.config import Config
from kws.sweep.spec import Sweep
from kws.sweep.storage import SharedSweep
from kws.training.provenance import Code, current_code

AGAIN = "this sweep runs {them} again"
FindFingerprint = Callable[[Config], str | None]


def review(
    sweep: Sweep, shared: SharedSweep, retry_stale: bool = False, find_fingerprint: FindFingerprint | None = None
) -> list[str]:
    """Let outdated trials be run again, those made by other code only if `retry_stale`; return a line per reason.

    find_fingerprint: returns the fingerprint of a Config's data, None if it is unknown; by default it is unknown.
    """
    present = cache(find_fingerprint or (lambda config: None))

    def has_present_data(attempt: FrozenTrial) -> bool:
        config = sweep.data_config(attempt.user_attrs["overrides"])
        return present(config) in (None, attempt.user_attrs["made_with"]["fingerprint"])

    without_folder: list[int] = []
    other_data: list[int] = []
    other_code: list[int] = []
    codes: set[str] = set()
    for trial, attempts in shared.finished().items():
        with_folder = [attempt for attempt in attempts if _has_folder(sweep, attempt)]
        fitting = [attempt for attempt in with_folder if has_present_data(attempt)]
        made_by = [Code(*attempt.user_attrs["made_with"]["code"]) for attempt in fitting]
        if not with_folder:
            without_folder.append(trial)
        elif not fitting:
            other_data.append(trial)
        elif current_code() not in made_by:
            other_code.append(trial)
            codes.update(map(str, made_by))
    shared.retry([*without_folder, *other_data, *(other_code if retry_stale else [])])
    how = AGAIN if retry_stale else "--retry-stale runs {them} again"
    reasons = (
        (without_folder, "left without a run folder", AGAIN),
        (other_data, "made with other data", AGAIN),
        (other_code, f"made by other code ({'; '.join(sorted(codes))})", how),
    )
    return [_line(len(trials), reason, what) for trials, reason, what in reasons if trials]


def _has_folder(sweep: Sweep, attempt: FrozenTrial) -> bool:
    """Whether the attempt's run folder exists; the record of another host is trusted."""
    record = attempt.user_attrs
    places = (sweep.run_dir, Path(record["run_dir"]))
    return record["host"] != platform.node() or any((place / record["run_id"]).is_dir() for place in places)


def _line(count: int, reason: str, what: str) -> str:
    trials, them = ("trial was", "it") if count == 1 else ("trials were", "them")
    return f"{count} finished {trials} {reason}; {what.format(them=them)}"
