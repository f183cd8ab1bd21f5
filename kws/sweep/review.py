"""Finds the finished trials whose results no longer fit: other code or data, or no run folder."""

import platform
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from kws.config import Config
from kws.sweep.spec import Sweep
from kws.sweep.storage import SharedSweep
from kws.training.provenance import Code, current_code

NO_FOLDER, OTHER_DATA, OTHER_CODE = "left without a run folder", "made with other data", "made by other code"


def review(
    sweep: Sweep,
    shared: SharedSweep,
    retry_stale: bool = False,
    find_fingerprint: Callable[[Config], str | None] = lambda config: None,
) -> list[str]:
    """Let outdated trials be run again, those made by other code only if `retry_stale`; return a line per reason.

    find_fingerprint: returns the fingerprint of a Config's data, None if it is unknown.
    """
    present = cache(find_fingerprint)
    outdated: dict[str, list[int]] = {NO_FOLDER: [], OTHER_DATA: [], OTHER_CODE: []}
    codes: set[str] = set()
    for trial, attempts in shared.finished().items():
        records = [attempt.user_attrs for attempt in attempts if _has_folder(sweep, attempt.user_attrs)]
        prints = [(present(sweep.data_config(item["overrides"])), item["made_with"]) for item in records]
        made_by = [Code(*made["code"]) for found, made in prints if found in (None, made["fingerprint"])]
        if not records:
            outdated[NO_FOLDER].append(trial)
        elif not made_by:
            outdated[OTHER_DATA].append(trial)
        elif current_code() not in made_by:
            outdated[OTHER_CODE].append(trial)
            codes.update(map(str, made_by))
    lines = []
    for reason, trials in outdated.items():
        who = "this sweep" if retry_stale or reason != OTHER_CODE else "--retry-stale"
        shared.retry(trials if who == "this sweep" else [])
        detail = f" ({'; '.join(sorted(codes))})" if reason == OTHER_CODE else ""
        were, them = ("trial was", "it") if len(trials) == 1 else ("trials were", "them")
        if trials:
            lines.append(f"{len(trials)} finished {were} {reason}{detail}; {who} runs {them} again")
    return lines


def _has_folder(sweep: Sweep, record: Mapping[str, Any]) -> bool:
    """Whether the run folder of an attempt exists; the record of another host is trusted."""
    places = (sweep.run_dir, Path(record["run_dir"]))
    return record["host"] != platform.node() or any((place / record["run_id"]).is_dir() for place in places)
