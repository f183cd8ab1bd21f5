"""Finds the finished trials whose results no longer fit (other code or data, no run folder), and runs that do."""

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kws.errors import KwsError
from kws.sweep.spec import Sweep
from kws.sweep.storage import SharedSweep
from kws.training.provenance import Code, code_of, current_code, run_identity
from kws.training.run_folder import fallback, find_run_folders, is_finished, read_config

NO_FOLDER, OTHER_DATA, OTHER_CODE = "left without a run folder", "made with other data", "made by other code"


def review(sweep: Sweep, shared: SharedSweep, retry_stale: bool = False, compare_data: bool = False) -> list[str]:
    """Let outdated trials be run again, those made by other code only if `retry_stale`; return a line per reason.

    One more line is about trials that W&B did not receive.
    """
    outdated: dict[str, list[int]] = {NO_FOLDER: [], OTHER_DATA: [], OTHER_CODE: []}
    codes: set[str] = set()
    for trial, attempts in shared.finished().items():
        records = [attempt.user_attrs for attempt in attempts if _has_folder(sweep, attempt.user_attrs)]
        data = sweep.fingerprint(records[0]["overrides"]) if records and compare_data else None
        made_with = [item["made_with"] for item in records]
        made_by = [Code(*made["code"]) for made in made_with if data in (None, made["fingerprint"])]
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
    runs = [attempt.user_attrs["run_id"] for attempts in shared.finished().values() for attempt in attempts]
    if offline := [why for run_id in runs if (why := fallback(sweep.run_dir / run_id))]:
        lines.append(f"finished trials that are offline: {len(offline)} ({offline[0]}); upload them with: wandb sync")
    return lines


def _has_folder(sweep: Sweep, record: Mapping[str, Any]) -> bool:
    """Whether the run folder of an attempt exists; the record of another host is trusted."""
    places = (sweep.run_dir, Path(record["run_dir"]))
    return record["host"] != platform.node() or any(os.path.isdir(place / record["run_id"]) for place in places)


def finished_runs(run_dir: Path) -> dict[tuple[object, ...], dict[str, str]]:
    """Return {identity without data: {fingerprint of the data: run id}} of the finished runs in `run_dir`.

    Of runs that are equal in all of it, that is the first, which the report counts.
    """
    runs = []
    for folder in find_run_folders(run_dir):
        with suppress(KwsError):
            runs.append((read_config(folder), folder.name, is_finished(folder)))
    found: dict[tuple[object, ...], dict[str, str]] = {}
    for record, run_id, finished in sorted(runs, key=lambda run: (str(run[0].get("started")), run[1])):
        if finished and isinstance(info := record.get("data_info"), dict):
            of_equal = found.setdefault(run_identity(record, None, code_of(record)), {})
            of_equal.setdefault(str(info.get("fingerprint")), run_id)
    return found
