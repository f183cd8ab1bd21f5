"""Reading runs from run folders and from W&B; every excluded run is named with its reason."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kws.analysis.grouping import group_by_study
from kws.analysis.records import Excluded, Progress, Results, RunRecord, Sweeps, checked, excluded, finite_numbers
from kws.analysis.wandb_runs import read_project, wandb_path
from kws.errors import KwsError
from kws.files import read_yaml
from kws.formatting import one_line
from kws.sweep.spec import sweep_file
from kws.training import run_folder


def load(sources: Sequence[str | Path] = ("runs",), progress: Progress = lambda done, total: None) -> Results:
    """Return the Results of `sources`: any mixture of run folders, folders of run folders and W&B paths.

    A W&B path is ENTITY/PROJECT, ENTITY/PROJECT/SWEEP_ID or ENTITY/PROJECT/sweeps/SWEEP_ID; a folder of this name
    that has runs takes precedence. A run found in two sources (a folder and its copy on W&B) counts once, as first
    read. Raises KwsError if a source is neither a folder nor a W&B path, or if no run is found.
    """
    runs: dict[str, RunRecord] = {}
    left_out: list[Excluded] = []
    for source in sources or ["runs"]:
        found: Iterable[RunRecord | Excluded]
        if path := wandb_path(source):
            found = read_project(*path, progress)
        elif str(source).strip() and os.path.isdir(source):
            found = _read_folder(Path(source), progress)
        else:
            raise KwsError(f"{source}: is neither a folder nor ENTITY/PROJECT on W&B; run kws sweep or kws train first")
        for item in found:
            if isinstance(item, Excluded):
                left_out.append(item)
            elif item.run_id not in runs or (runs[item.run_id].problem and not item.problem):
                runs[item.run_id] = item
    if not runs and not left_out:
        raise KwsError(f"{', '.join(map(str, sources))}: contains no run; run kws sweep or kws train first")
    in_order = sorted(runs.values(), key=lambda run: (run.started, run.run_id))
    sweeps = {run.sweep_id: run.sweep for run in in_order if run.sweep}  # as its newest run has it
    left_out += [excluded(run, run.problem) for run in in_order if run.problem]
    counted = _without_duplicates([run for run in in_order if not run.problem], left_out)
    return Results(_of_one_code(counted, left_out, sweeps), left_out, sweeps)


def _without_duplicates(runs: list[RunRecord], left_out: list[Excluded]) -> list[RunRecord]:
    # The first run counts. If the last did, a run could be repeated until its result is welcome.
    first: dict[tuple[object, ...], RunRecord] = {}
    for run in runs:
        if run.identity in first:
            reason = f"duplicate: same settings, data and code as {first[run.identity].run_id}, which started first"
            left_out.append(excluded(run, reason))
        else:
            first[run.identity] = run
    return list(first.values())


def _of_one_code(runs: list[RunRecord], left_out: list[Excluded], sweeps: Sweeps) -> list[RunRecord]:
    """Return the runs without those that other code made than most of their study; if equally many, the newest."""
    other: set[str] = set()
    for _, of_study in group_by_study(runs, sweeps):
        numbers = Counter(run.code for run in of_study)
        used = max(of_study, key=lambda run: (numbers[run.code], run.started)).code
        for run in (run for run in of_study if run.code != used):
            other.add(run.run_id)
            reason = one_line(f"made by other code ({run.code}); the study uses {used}", 300)
            left_out.append(excluded(run, reason))
    return [run for run in runs if run.run_id not in other]


def _read_folder(folder: Path, progress: Progress) -> Iterator[RunRecord | Excluded]:
    folders = run_folder.find_run_folders(folder)
    for done, path in enumerate(folders, 1):
        yield _read_run(path)
        progress(done, len(folders))


def _read_run(folder: Path) -> RunRecord | Excluded:
    where = one_line(folder, 4096)  # bytes in a path that are not text cannot be written into a report
    try:
        config = run_folder.read_config(folder)
    except KwsError as error:
        return Excluded(one_line(folder.name), where, "", f"cannot be read: {one_line(error, 200)}")
    run = RunRecord(
        run_id=str(config.get("run_id") or folder.name),
        name=str(config.get("run_name") or folder.name),
        where=where,
        config=config,
        summary={},
        history={},
        sweep_id=str(config.get("sweep_id") or ""),
    )
    if not run_folder.has_summary(folder):
        run.problem = "unfinished: it has no summary.json"
        return run
    try:
        summary = run_folder.read_summary(folder)
        run.summary = finite_numbers(summary)
        run.read_files(folder)
        path = sweep_file(folder.parent, Path(run.sweep_id).name)
        run.read_sweep((lambda: read_yaml(path)) if run.sweep_id and os.path.isfile(path) else None)
    except KwsError as error:
        run.problem = f"cannot be read: {one_line(error, 200)}"
        return run
    return checked(run, summary.get("state"), summary.get("error", ""))
