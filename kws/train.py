"""One run, from config to best checkpoint."""

import errno
import math
import os
import shlex
import signal
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import median

import torch

from kws import checkpoints, complexity, model, optimizer, speech_commands, tracking
from kws.batches import TrainingBatches, epoch_generator, to_float, with_features
from kws.errors import KwsError
from kws.evaluation import evaluate, features_of
from kws.machine import usable_cpus
from kws.resplit import resplit
from kws.run_folder import RunFolder

MISHEARD_SHOWN = 16  # clips in W&B's table of misheard test clips
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO)


class Preempted(SystemExit):
    """SIGTERM or SIGINT came: the checkpoint is written, the run can go on. Exit status 128 + signal."""


class Diverged(Exception):
    """The loss is no longer finite; the message names the epoch and step. The last good checkpoints stay."""


@dataclass
class Parts:
    """What a config asks for, made and checked before anything is written or sent."""

    device: torch.device
    corpus: speech_commands.Corpus
    batches: TrainingBatches
    model: model.KeywordModel
    validation_features: list  # batches of log-mel: the layer learns nothing, so they serve every epoch
    test_features: list
    ahead: bool  # whether a thread of its own makes the features of the coming batches: faster, same numbers


def train(config, run_id=None, resume=False, sweep_id=None, on_epoch=None, say=tracking.notice, cpus=None):
    """Do one tracked run and return its run folder.

    run_id: default $WANDB_RUN_ID, else new. resume: go on from the run folder's last checkpoint (an agent's requeued
    run does so by itself). on_epoch(row) is called after each epoch with what was logged. say(line) takes notices.
    cpus: how many CPUs are this run's to keep busy, default all that the process may use.

    Raises KwsError for what a person can mend (before anything is tracked, where it can be known then), Diverged
    when the loss is not finite, Preempted on SIGTERM and SIGINT.
    """
    started = time.perf_counter()
    tracking.check_mode()
    config = tracking.handed_over(config)
    if run_id is None:
        run_id = tracking.new_run_id()
    tracking.check_run_id(run_id)
    with tracking.service_starting():
        parts = prepare(config, say, cpus)
        data_info = parts.corpus.info(config.data == "synthetic")
        record = tracking.record(config, run_id, data_info, str(parts.device), parts.ahead, sweep_id)
    requeued = "WANDB_SWEEP_ID" in os.environ or os.environ.get("WANDB_RESUME") in ("allow", "must", "auto")
    folder = RunFolder(config.run_dir, run_id)
    try:
        if folder.begun and not (resume or requeued):
            raise KwsError(f"run {run_id}: {folder.path} exists; go on with --resume {run_id}, or choose another id")
        checkpoint = checkpoints.restore(folder, config, parts)
        tracker = tracking.Tracker(config, run_id, record, resume or requeued, say)
        if tracker.config != config:  # an agent's or a resumed run's config won
            config = tracker.config
            try:
                parts = prepare(config, say, cpus)
                checkpoint = checkpoints.restore(folder, config, parts)
            except KwsError as error:
                tracker.finish("failed", {"error": str(error)})
                raise
            data_info = parts.corpus.info(config.data == "synthetic")
            record |= {"run_name": config.run_name, "data_info": data_info, "features_ahead": parts.ahead}
        run = Run(config, parts, folder, tracker, record, checkpoint)
        run.go(on_epoch, started)
    except Preempted:
        say(f"run {run_id}: stopped, its checkpoint is written; go on with: {resume_command(config, run_id)}")
        raise
    finally:
        folder.close()
    return folder.path


def prepare(config, say=tracking.notice, cpus=None):
    """Return the Parts of a run. Raises KwsError where data, device or network are not to be had. cpus: as train's."""
    torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    keyword_model = model.build(config).to(device)
    corpus = speech_commands.load(config.data_dir, config.data, config.words, say)
    if config.resplit:
        corpus = resplit(corpus, config.words, config.seed)
    ahead = device.type == "cpu" and (cpus or usable_cpus()) >= 2 * config.threads
    held_out = (features_of(keyword_model, split) for split in (corpus.validation, corpus.testing))
    return Parts(
        device, corpus, TrainingBatches(config, corpus, keyword_model.features), keyword_model, *held_out, ahead
    )


def resume_command(config, run_id):
    """Return the command that goes on with a run."""
    elsewhere = [] if config.run_dir == "runs" else ["--run_dir", config.run_dir]
    return shlex.join(["kws", "train", "--resume", run_id, *elsewhere])


def choose_device(name):
    """Return the torch.device for cpu, cuda, mps, or auto: the first of cuda, mps, cpu that is there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(name for name, is_there in there.items() if is_there)
    if not there[name]:
        raise KwsError(f"device: {name} is not available here; use --device=auto")
    return torch.device(name)


class Run:
    """The training of one prepared run; its state is what a checkpoint holds."""

    def __init__(self, config, parts, folder, tracker, record, checkpoint=None):
        self.config, self.parts, self.folder, self.tracker, self.record = config, parts, folder, tracker, record
        self.optimizer = optimizer.adam(parts.model.parameters(), config.lr)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, config.lr_step, config.lr_gamma)
        self.rows = []
        if checkpoint:  # the weights are in the model already; epochs seed themselves
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.scheduler.load_state_dict(checkpoint["scheduler"])
            self.rows = checkpoint["rows"]

    def go(self, on_epoch, started):
        """Train to the last epoch, test the best one, and end the run, whatever happens in between."""
        try:
            self.folder.write_config(self.config.as_dict() | self.record)
            self.folder.write_summary({"state": "running"})
            if self.rows:
                self.folder.write_rows(self.rows)  # a kill can come between the checkpoint and its row
            with _stop_on_signals() as stopped:
                for row in self.rows:
                    self.tracker.log(row)  # rows that a resumed W&B run lacks
                for epoch in range(len(self.rows) + 1, self.config.epochs + 1):
                    row = self._epoch(epoch)
                    self.tracker.log(row)
                    if on_epoch:
                        on_epoch(row)
                    if stopped and epoch < self.config.epochs:
                        raise Preempted(128 + stopped[0])
                summary = self._test()
            summary["time/run_s"] = time.perf_counter() - started
            self._end("finished", summary)
        except Preempted:
            # Slurm and an agent that forwards signals both send SIGTERM: the second must not cut this short.
            before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
            try:
                self._end("preempted", {})
            finally:
                signal.signal(signal.SIGTERM, before)
            raise
        except BaseException as error:
            with suppress(OSError):  # a full disk takes no summary either
                self._end("failed", {"error": f"{type(error).__name__}: {error}".splitlines()[0]})
            if isinstance(error, OSError) and error.errno in DISK_FAULTS:
                raise KwsError(
                    f"run {self.folder.run_id}: {self.folder.path} cannot be written ({error.strerror}); mend that, "
                    f"then go on with: {resume_command(self.config, self.folder.run_id)}"
                ) from error
            raise

    def _end(self, state, summary):
        self.tracker.finish(state, summary)
        places = {"wandb/url": self.tracker.url, "wandb/sync_dir": self.tracker.sync_dir}
        self.folder.write_summary({"state": state} | summary | places)

    def _epoch(self, epoch):
        """Train one epoch, validate, keep checkpoint and row, and return the row."""
        lr = self.scheduler.get_last_lr()[0]
        began = time.perf_counter()
        loss, accuracy = self.train_epoch(epoch)
        seconds = time.perf_counter() - began
        parts = self.parts
        validation = evaluate(parts.model, parts.corpus.validation, parts.validation_features)
        if not math.isfinite(validation.loss):
            raise Diverged(f"the validation loss is not finite after epoch {epoch}; lower lr")
        row = {
            "epoch": epoch,
            "train/loss": loss,
            "train/accuracy": accuracy,
            "val/loss": validation.loss,
            "val/accuracy": validation.accuracy,
            "lr": lr,
            "time/epoch_s": seconds,
            "time/clips_per_s": len(self.parts.batches.labels) / seconds,
        }
        self.rows.append(row)
        if best_row(self.rows) is row:
            self._save("best.pt", {"epoch": epoch})
        self._save(
            "last.pt",
            {
                "rows": self.rows,
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "fingerprint": self.parts.corpus.fingerprint,
            },
        )
        self.folder.write_rows(self.rows)
        return row

    def train_epoch(self, epoch):
        """One pass over the training clips. Returns mean loss and accuracy, as seen while the weights moved."""
        batches, model, device = self.parts.batches, self.parts.model, self.parts.device
        generator = epoch_generator(self.config.seed, epoch)
        model.train()
        losses, correct = [], torch.zeros((), device=device)
        for features, labels in with_features(batches.epoch(generator), model.features, self.parts.ahead):
            logits = model.network(features)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            # Read at the end of the epoch: .item() here would make a GPU wait at every step.
            losses.append(loss.detach() * len(labels))
            correct += ((logits.detach() > 0) == (labels > 0.5)).sum()
        self.scheduler.step()
        losses = torch.stack(losses)
        if not torch.isfinite(losses).all():
            step = int(torch.nonzero(~torch.isfinite(losses))[0]) + 1
            raise Diverged(f"the training loss is not finite from epoch {epoch}, step {step} on; lower lr")
        clips = len(batches.labels)
        return float(losses.sum() / clips), float(correct / clips)

    def _test(self):
        """Test the epoch that was best on validation, once; log and write what it showed; return the summary."""
        parts, config = self.parts, self.config
        best = checkpoints.read(self.folder.path / "best.pt", parts.device)
        parts.model.load_state_dict(best["model"])
        test = evaluate(parts.model, parts.corpus.testing, parts.test_features)
        costs = complexity.measure(parts.model)
        self.folder.write_table(
            "predictions.csv",
            ("clip", "label", "probability"),
            zip(test.clips, test.labels.int().tolist(), test.probabilities.tolist(), strict=True),
        )
        layers = [complexity.LAYERS_HEADER, *costs.layers]
        self.folder.write_table("layers.csv", layers[0], layers[1:])
        misheard = to_float(parts.corpus.testing.waveforms[test.misheard[:MISHEARD_SHOWN]])
        with torch.no_grad():
            # torch.stft refuses a batch of none, which is what a network without a mistake leaves.
            log_mel = parts.model.features(misheard.to(parts.device)).cpu() if len(misheard) else misheard
        self.tracker.log_evaluation(test, misheard, config.words, speech_commands.SAMPLE_RATE, log_mel, layers)
        self.tracker.upload(self.folder.path, "predictions.csv", "layers.csv")
        self.tracker.log_model(self.folder.path / "best.pt")
        row = best_row(self.rows)
        return {
            "best/epoch": row["epoch"],
            "best/val_accuracy": row["val/accuracy"],
            "best/val_loss": row["val/loss"],
            "test/accuracy": test.accuracy,
            "test/loss": test.loss,
            "test/errors": test.errors,
            "time/epoch_s_median": median(
                [row["time/epoch_s"] for row in self.rows[1:]] or [self.rows[0]["time/epoch_s"]]
            ),
        } | costs.summary()

    def _save(self, name, content):
        content |= {"model": self.parts.model.state_dict(), "config": self.config.as_dict()}
        checkpoints.write(self.folder.path / name, content)


def best_row(rows):
    """Return the row that is best on validation: accuracy first, then loss, then the earlier epoch."""
    return max(rows, key=lambda row: (row["val/accuracy"], -row["val/loss"], -row["epoch"]))


@contextmanager
def _stop_on_signals():
    """Collect SIGTERM and SIGINT in a list instead of dying, so that the epoch ends and its checkpoint is whole."""
    stopped = []
    before = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, lambda received, _: stopped.append(received))
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":  # what W&B's agents start; the command line parses and reports as for `kws train`
    from kws.cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
