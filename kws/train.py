"""The training entry point: one tracked run, from its settings to the test of its best epoch."""

import os
import runpy
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kws import errors
from kws.config import Config
from kws.errors import KwsError, NotResumable
from kws.metrics import Row
from kws.training import checkpoints, tracker, wandb_account, wandb_variables
from kws.training.checkpoints import Checkpoint
from kws.training.provenance import SweepRecord, provenance
from kws.training.run import Preempted, TrainingRun, prepare
from kws.training.run_folder import RunFolder, resume_command


def train(
    config: Config,
    run_id: str | None = None,
    resume: bool = False,
    sweep: SweepRecord | None = None,
    on_epoch: Callable[[Row], None] | None = None,
    notify: Callable[[str], None] = errors.notify,
    concurrent_jobs: int = 1,
) -> Path:
    """Do one tracked run and return its run folder.

    Args:
        run_id: default $WANDB_RUN_ID, else new.
        resume: continue from the run folder's last checkpoint. A run that a W&B agent requeued does so by itself.
        sweep: the sweep that the run belongs to; by default, that of W&B's agent.
        on_epoch: called after each epoch with the row that was logged.
        notify: called with one-line notices for the user.
        concurrent_jobs: how many trials the sweep runs at once, this one included; recorded.

    Raises:
        KwsError: an error the user can fix, before anything is tracked where it can be known then.
        Diverged: the loss is not finite.
        Stopped: the run was stopped on W&B; its checkpoint is written.
        Preempted: after SIGTERM or SIGINT, once the checkpoint is written.
    """
    wandb_variables.check_mode()
    config = wandb_variables.agent_config(config)

    def start(run_id: str) -> Path:
        wandb_variables.check_run_id(run_id)
        return _train(config, run_id, resume, sweep, on_epoch, notify, concurrent_jobs)

    try:
        return start(run_id or os.environ.get("WANDB_RUN_ID") or wandb_variables.random_run_id())
    except OnlyAtWandb as error:
        if run_id:
            raise
        new_id = wandb_account.replace_run_id()  # an agent's trial must not be lost
        notify(f"{error}; starting again as run {new_id}")
        return start(new_id)


class OnlyAtWandb(NotResumable):
    """W&B has epochs of the run that no usable checkpoint has: its history cannot be continued."""


def _train(
    config: Config,
    run_id: str,
    resume: bool,
    sweep: SweepRecord | None,
    on_epoch: Callable[[Row], None] | None,
    notify: Callable[[str], None],
    concurrent_jobs: int,
) -> Path:
    """Do the run of this id: as `train`. Raises OnlyAtWandb too."""
    started = time.perf_counter()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(wandb_account.wandb_settings)  # its errors are reported below
        context = prepare(config, notify)
        config = wandb_account.in_project(config)
        in_sweep = sweep or wandb_account.read_sweep(config)
        record = provenance(config, run_id, in_sweep, context.data_info, str(context.device), concurrent_jobs)

    requeued = "WANDB_SWEEP_ID" in os.environ or os.environ.get("WANDB_RESUME") in ("allow", "must", "auto")
    with RunFolder(config.run_dir, run_id) as folder:
        if folder.has_run and not (resume or requeued):
            raise KwsError(
                f"run {run_id}: {folder.path} exists; resume it with --resume {run_id}, or choose another id"
            )

        def restore() -> Checkpoint | None:
            return checkpoints.restore(folder, config, context.model, context.corpus.fingerprint)

        checkpoint = restore()
        known = folder.has_run or requeued  # kws sweep resumes a trial that was never started, too
        offline = sweep is not None  # a trial of kws sweep
        wandb_run = tracker.Tracker(config, record, known, offline, notify)
        try:
            if wandb_run.config != config:  # the config of an agent or of a resumed run has precedence
                config = wandb_run.config
                context = prepare(config, notify)
                checkpoint = restore()
                record["run_name"], record["data_info"] = config.run_name, context.data_info
            if wandb_run.epochs > _epochs(checkpoint):
                checkpoint = _restore_from_wandb(wandb_run, folder, restore)
        except KwsError as error:
            wandb_run.finish("failed", {"error": str(error)})
            raise

        try:
            TrainingRun(config, context, folder, wandb_run, checkpoint).fit(record, on_epoch, started)
        except Preempted:
            notify(f"run {run_id}: stopped after writing its checkpoint; resume it with: {resume_command(folder)}")
            raise
        return folder.path


def _restore_from_wandb(
    wandb_run: tracker.Tracker, folder: RunFolder, restore: Callable[[], Checkpoint | None]
) -> Checkpoint | None:
    """Return what `restore` makes of the checkpoint that was uploaded when the run was preempted on another machine.

    Raises OnlyAtWandb if there is none, or if it cannot be used here.
    """
    try:
        wandb_run.download(folder.last_checkpoint)
        checkpoint = restore()
        if wandb_run.epochs > _epochs(checkpoint):
            raise NotResumable("the uploaded checkpoint is older")
        return checkpoint
    except NotResumable as error:
        raise OnlyAtWandb(
            f"run {folder.run_id}: W&B has its epochs 1 to {wandb_run.epochs}, which cannot be continued here ({error})"
        ) from error


def _epochs(checkpoint: Checkpoint | None) -> int:
    return len(checkpoint["rows"]) if checkpoint else 0


if __name__ == "__main__":  # W&B's agents run `python -m kws.train ARGUMENTS`: the same as `kws train ARGUMENTS`
    sys.argv.insert(1, "train")
    runpy.run_module("kws", run_name="__main__")
