"""Reading runs from run folders and from W&B; every excluded run is named with its reason."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from kws.analysis.grouping import group_by_study
from kws.analysis.records import Excluded, Progress, Results, RunRecord, Sweeps, checked, finite_numbers
from kws.analysis.wandb_runs import read_project, wandb_path
from kws.errors import KwsError
from kws.files import read_yaml
from kws.formatting import one_line
from kws.sweep.spec import sweep_file
from kws.training import run_folder


def load(sources: Sequence[str | Path] = ("runs",), progress: Progress = lambda done, total: None) -> Results:
    """Return the Results of `sources`: any mixture of run folders, folders of run folders and W&B paths.

    A W&B path is ENTITY/PROJECT, ENTITY/PROJECT/SWEEP_ID or ENTITY/PROJECT/sweeps/SWEEP_ID. A run found in two
    sources (a folder and its copy on W&B) counts once, as first read. Raises KwsError if a source is neither a folder
    nor a W&B path, or if no run is found.
    """
    runs: dict[str, RunRecord] = {}
    excluded: list[Excluded] = []
    sweeps: Sweeps = {}
    for source in sources or ["runs"]:
        if str(source).strip() and Path(source).is_dir():
            found = _read_folder(Path(source), sweeps, progress)
        elif path := wandb_path(source):
            found = read_project(*path, sweeps, progress)
        else:
            raise KwsError(f"{source}: is neither a folder nor ENTITY/PROJECT on W&B; run kws sweep or kws train first")
        for item in found:
            if isinstance(item, Excluded):
                excluded.append(item)
            else:
                runs.setdefault(item.run_id, item)
    counted = _of_one_code(_without_duplicates(list(runs.values()), excluded), excluded, sweeps)
    if not counted and not excluded:
        raise KwsError(f"{', '.join(map(str, sources))}: contains no run; run kws sweep or kws train first")
    return Results(counted, excluded, sweeps)


def _without_duplicates(runs: list[RunRecord], excluded: list[Excluded]) -> list[RunRecord]:
    # The first run counts. If the last did, a run could be repeated until its result is welcome.
    first: dict[tuple[object, ...], RunRecord] = {}
    for run in sorted(runs, key=lambda run: (run.started, run.run_id)):
        if run.identity in first:
            reason = f"duplicate: same settings, data and code as {first[run.identity].run_id}, which started first"
            excluded.append(Excluded(run.name, run.where, run.study, reason))
        else:
            first[run.identity] = run
    return list(first.values())


def _of_one_code(runs: list[RunRecord], excluded: list[Excluded], sweeps: Sweeps) -> list[RunRecord]:
    """Return the runs without those that other code made than most of their study; if equally many, the newest."""
    other: set[str] = set()
    for _, of_study in group_by_study(runs, sweeps):
        numbers = Counter(run.code for run in of_study)
        used = max(of_study, key=lambda run: (numbers[run.code], run.started)).code
        for run in (run for run in of_study if run.code != used):
            other.add(run.run_id)
            reason = one_line(f"made by other code ({run.code}); the study uses {used}", 300)
            excluded.append(Excluded(run.name, run.where, run.study, reason))
    return [run for run in runs if run.run_id not in other]


def _read_folder(folder: Path, sweeps: Sweeps, progress: Progress) -> Iterator[RunRecord | Excluded]:
    folders = run_folder.find_run_folders(folder)
    for done, path in enumerate(folders, 1):
        yield _read_run(path, sweeps)
        progress(done, len(folders))


def _read_run(folder: Path, sweeps: Sweeps) -> RunRecord | Excluded:
    try:
        config = run_folder.read_config(folder)
        name = str(config.get("run_name") or folder.name)
        study = str(config.get("study", ""))
        if not run_folder.has_summary(folder):
            return Excluded(name, str(folder), study, "unfinished: it has no summary.json")
        summary = run_folder.read_summary(folder)
        predictions = run_folder.read_predictions(folder)
        run = RunRecord(
            run_id=str(config.get("run_id") or folder.name),
            name=name,
            where=str(folder),
            config=config,
            summary=finite_numbers(summary),
            history=run_folder.read_history(folder),
            predictions=predictions[run_folder.TEST],
            val_predictions=predictions[run_folder.VALIDATION],
            layers=run_folder.read_layers(folder),
            sweep_id=str(config.get("sweep_id") or ""),
        )
    except KwsError as error:
        return Excluded(folder.name, str(folder), "", f"cannot be read: {one_line(error, 200)}")
    path = sweep_file(folder.parent, run.sweep_id)
    if run.sweep_id and run.sweep_id not in sweeps and path.is_file():
        sweeps[run.sweep_id] = read_yaml(path)
    return checked(run, summary.get("state"), str(summary.get("error", "")))
