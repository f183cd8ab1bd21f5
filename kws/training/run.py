"""One training run: preparation, epochs, the test of the best epoch, and the end."""

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from kws import errors, metrics
from kws.config import SCHEMA, Config
from kws.data.audio import N_SAMPLES, to_float
from kws.data.batches import TrainingBatches, epoch_generator
from kws.data.corpus import Corpus, DataInfo
from kws.data.labels import load_labelled
from kws.errors import DISK_FAULTS, CannotWrite, KwsError
from kws.metrics import Row, Summary
from kws.model import complexity, network
from kws.training import checkpoints
from kws.training.checkpoints import Checkpoint, best_row
from kws.training.evaluation import Evaluation, evaluate, features_of
from kws.training.model_card import model_card
from kws.training.optimizer import adam
from kws.training.provenance import Provenance
from kws.training.run_folder import LAST_CHECKPOINT, LAYERS, METRICS, PREDICTIONS, RunFolder, resume_command
from kws.training.tracker import Tracker

MISCLASSIFIED_SHOWN = 16  # clips in W&B's table of misclassified test clips


class Preempted(SystemExit):
    """Raised after SIGTERM or SIGINT, once the checkpoint is written. Exit status 128 + signal."""


class Stopped(KwsError):
    """Raised after the run was stopped on W&B, by a person or its sweep, once the checkpoint is written."""


class Diverged(Exception):
    """The loss is not finite; the message names the epoch and step. The last good checkpoints are kept."""


@dataclass
class RunContext:
    """Everything that a config asks for, built and checked before anything is written or sent."""

    device: torch.device
    corpus: Corpus
    data_info: DataInfo
    batches: TrainingBatches
    model: network.KeywordModel
    validation_features: list[torch.Tensor]  # batches of log-mels
    test_features: list[torch.Tensor]


def prepare(config: Config, notify: Callable[[str], None] = errors.notify) -> RunContext:
    """Return the RunContext of a run.

    Raises KwsError where data or device are unavailable, or the network would be too large.
    """
    torch.set_num_threads(config.threads)
    device = choose_device(config.device)
    model = network.build(config).to(device)
    corpus = load_labelled(config, notify)
    batches = TrainingBatches(config, corpus, model.features)
    corpus.training.waveforms = torch.empty(0, N_SAMPLES)  # their features are enough, and gigabytes can be freed
    # The test shows some of these clips; the file that they are mapped from may be truncated before.
    corpus.testing.waveforms = corpus.testing.waveforms.clone()
    return RunContext(
        device=device,
        corpus=corpus,
        data_info=corpus.info(config.data == "synthetic"),
        batches=batches,
        model=model,
        validation_features=features_of(model, corpus.validation),
        test_features=features_of(model, corpus.testing),
    )


def choose_device(name: str) -> torch.device:
    """Return the torch.device for cpu, cuda, mps, or auto: the first of cuda, mps, cpu that is available."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(name for name, is_available in available.items() if is_available)
    if not available[name]:
        raise KwsError(f"device: {name} is not available here; use --device=auto")
    return torch.device(name)


class TrainingRun:
    """The training of one prepared run. Its state is what a checkpoint holds."""

    def __init__(
        self, config: Config, context: RunContext, folder: RunFolder, tracker: Tracker, checkpoint: Checkpoint | None
    ) -> None:
        self.config, self.context, self.folder, self.tracker = config, context, folder, tracker
        self.optimizer = adam(context.model.parameters(), config.lr)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, config.lr_step, config.lr_gamma)
        # With more than two labels, the weights after single epochs differ much in the words that they take for others.
        # Their running average, about that of the last tenth of all steps so far, differs less and is better: it is
        # what is evaluated and kept (polynomial-decay averaging; Shamir and Zhang 2013, arXiv:1212.1824).
        self.evaluated = context.model if len(config.labels) == 2 else copy.deepcopy(context.model)
        self.rows: list[Row] = []
        self.best: Checkpoint
        if checkpoint:  # the weights are in the model already; each epoch seeds itself
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.scheduler.load_state_dict(checkpoint["scheduler"])
            self.rows, self.best = checkpoint["rows"], checkpoint["best"]
            if self.evaluated is not context.model:
                self.evaluated.load_state_dict(checkpoint["average"])

    def fit(self, record: Provenance, on_epoch: Callable[[Row], None] | None, started: float) -> None:
        """Train to the last epoch, test the best one, and end the run with its state, also after an error.

        `started` is the time.perf_counter() of the run's start.
        """
        try:
            self.folder.write_config(self.config.as_dict() | record)
            self._write_summary("running", {})
            if self.rows:  # a kill may have come after the checkpoint, before its row and best.pt
                checkpoints.write(self.folder.best_checkpoint, self.best)
                self.folder.write_rows(self.rows)
            signals: list[int] = []  # the epoch ends, and its checkpoint is written, before they take effect
            with _handling(lambda number, _: signals.append(number), signal.SIGTERM, signal.SIGINT):
                for row in self.rows:
                    self.tracker.log(row)  # rows that a resumed W&B run lacks
                for epoch in range(len(self.rows) + 1, self.config.epochs + 1):
                    row = self._epoch(epoch)
                    self.tracker.log(row)
                    if on_epoch:
                        on_epoch(row)
                    if signals and epoch < self.config.epochs:
                        if self.tracker.stopped_on_wandb():
                            command = resume_command(self.folder)
                            raise Stopped(f"run {self.folder.run_id}: was stopped on W&B; resume it with: {command}")
                        raise Preempted(128 + signals[0])
                test, costs = self._test()
                summary = self._summary(test, costs) | {metrics.RUN_S: time.perf_counter() - started}
                self._write_summary("finished", summary)
        except (Preempted, Stopped) as stop:
            # Slurm and an agent that forwards signals both send SIGTERM: the second must not interrupt this.
            with _handling(signal.SIG_IGN, signal.SIGTERM):
                if isinstance(stop, Preempted):  # another machine may resume the run
                    self.tracker.upload(self.folder.path, LAST_CHECKPOINT)
                self._end("preempted" if isinstance(stop, Preempted) else "stopped", {})
            raise
        except BaseException as error:
            with suppress(OSError):  # a full disk has no room for a summary either
                self._end("failed", {"error": f"{type(error).__name__}: {error}".splitlines()[0]})
            if isinstance(error, OSError) and error.errno in DISK_FAULTS:
                raise CannotWrite(
                    f"run {self.folder.run_id}: {self.folder.path} cannot be written ({error.strerror}); fix that, "
                    f"then resume it with: {resume_command(self.folder)}"
                ) from error
            raise
        with _handling(signal.default_int_handler, signal.SIGTERM):  # ends the waiting for W&B, as Ctrl-C does
            uploading = True
            try:
                self._send_results(test, costs)
            except KeyboardInterrupt:
                uploading = False
            self.tracker.finish("finished", summary, uploading)

    def _epoch(self, epoch: int) -> Row:
        """Train one epoch, validate, write checkpoint and row, and return the row."""
        lr = float(self.scheduler.get_last_lr()[0])
        began = time.perf_counter()
        loss, accuracy = self.train_epoch(epoch)
        seconds = time.perf_counter() - began
        context = self.context
        validation = evaluate(self.evaluated, context.corpus.validation, context.validation_features)
        if not math.isfinite(validation.loss):
            raise Diverged(f"the validation loss is not finite after epoch {epoch}; lower lr")
        row: Row = {
            metrics.EPOCH: epoch,
            metrics.TRAIN_LOSS: loss,
            metrics.TRAIN_ACCURACY: accuracy,
            metrics.VAL_LOSS: validation.loss,
            metrics.VAL_ACCURACY: validation.accuracy,
            metrics.LR: lr,
            metrics.EPOCH_S: seconds,
            metrics.CLIPS_PER_S: context.batches.clips / seconds,
        }
        self.rows.append(row)
        self._write_checkpoints()
        self.folder.write_rows(self.rows)
        return row

    def _write_checkpoints(self) -> None:
        """Write last.pt and, after the epoch that is best so far, best.pt."""
        model, epoch = self.context.model.state_dict(), len(self.rows)
        checkpoint: Checkpoint = {"model": model, "config": self.config.as_dict() | {"schema": SCHEMA}}
        is_best = best_row(self.rows) is self.rows[-1]
        evaluated = self.evaluated.state_dict()
        if is_best:
            weights = {name: value.clone() for name, value in evaluated.items()}
            self.best = {**checkpoint, "model": weights, "epoch": epoch}
        checkpoint["optimizer"], checkpoint["scheduler"] = self.optimizer.state_dict(), self.scheduler.state_dict()
        checkpoint["rows"], checkpoint["fingerprint"] = self.rows, self.context.corpus.fingerprint
        checkpoint["best"], checkpoint["average"] = self.best, evaluated
        checkpoints.write(self.folder.last_checkpoint, checkpoint)
        if is_best:
            checkpoints.write(self.folder.best_checkpoint, self.best)

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """Train on every training clip once. Returns mean loss and accuracy of the steps, before each update."""
        batches, model, device = self.context.batches, self.context.model, self.context.device
        generator = epoch_generator(self.config.seed, epoch)
        model.train()
        step_losses, correct = [], torch.zeros((), device=device)
        pairs = zip(self.evaluated.state_dict().values(), model.state_dict().values(), strict=True)
        averaged = [] if self.evaluated is model else [pair for pair in pairs if pair[0].is_floating_point()]
        for step, (features, labels) in enumerate(batches.epoch(generator), (epoch - 1) * len(batches)):
            logits = model.network(features)
            loss = network.loss_of(logits, labels)
            self.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self.optimizer.step()
            for average, weights in averaged:
                average.lerp_(weights, 10 / (10 + step))
            # Read at the end of the epoch: .item() here would make a GPU wait at every step.
            step_losses.append(loss.detach() * len(labels))
            correct += network.is_correct(logits.detach(), labels).sum()
        self.scheduler.step()
        losses = torch.stack(step_losses)
        if not torch.isfinite(losses).all():
            step = int(torch.nonzero(~torch.isfinite(losses))[0]) + 1
            raise Diverged(f"the training loss is not finite from epoch {epoch}, step {step} on; lower lr")
        clips = batches.clips
        return float(losses.sum() / clips), float(correct / clips)

    def _test(self) -> tuple[Evaluation, complexity.Complexity]:
        """Test the weights that were best on validation, write the results and return them."""
        context, folder = self.context, self.folder
        context.model.load_state_dict(self.best["model"])
        test = evaluate(context.model, context.corpus.testing, context.test_features)
        costs = complexity.measure(context.model)
        validation = evaluate(context.model, context.corpus.validation, context.validation_features)
        folder.write_predictions(self.config.labels, validation=validation.rows(), test=test.rows())
        folder.write_layers(costs.layers)
        return test, costs

    def _summary(self, test: Evaluation, costs: complexity.Complexity) -> Summary:
        row = best_row(self.rows)
        epoch_s = [row[metrics.EPOCH_S] for row in self.rows]
        return (
            {
                metrics.BEST_EPOCH: row[metrics.EPOCH],
                metrics.BEST_VAL_ACCURACY: row[metrics.VAL_ACCURACY],
                metrics.BEST_VAL_LOSS: row[metrics.VAL_LOSS],
                metrics.TEST_ACCURACY: test.accuracy,
                metrics.TEST_LOSS: test.loss,
                metrics.TEST_ERRORS: test.errors,
                metrics.EPOCH_S_MEDIAN: median(epoch_s[1:] or epoch_s),  # the first epoch warms up
            }
            | self._label_metrics(test)
            | costs.summary()
        )

    def _label_metrics(self, test: Evaluation) -> Summary:
        """Return what a test of more than two labels adds to the summary."""
        labels = self.config.labels
        if len(labels) == 2:
            return {}
        recall = {metrics.recall(label): share for label, share in zip(labels, test.recall, strict=True)}
        known = {name: share for name, share in recall.items() if not math.isnan(share)}  # labels with test clips
        return {metrics.TEST_F1: test.f1_macro} | known

    def _send_results(self, test: Evaluation, costs: complexity.Complexity) -> None:
        """Send the results of the test to W&B, which may take minutes."""
        context = self.context
        shown = to_float(context.corpus.testing.waveforms[test.misclassified[:MISCLASSIFIED_SHOWN]])
        with torch.no_grad():
            # torch.stft rejects an empty batch, which is left if no clip is misclassified.
            log_mels = context.model.features(shown.to(context.device)).cpu() if len(shown) else shown
        self.tracker.upload(self.folder.path, METRICS, PREDICTIONS, LAYERS)  # queued; the next two wait for an answer
        self.tracker.log_evaluation(test, shown, log_mels, costs.layers)
        self.tracker.log_model(self.folder.best_checkpoint, model_card(self.folder.path))

    def _end(self, state: str, summary: Mapping[str, Any]) -> None:
        """End a run without a result. In its folder first: W&B may be slow or unreachable."""
        try:
            self._write_summary(state, summary)
        finally:
            self.tracker.finish(state, summary)

    def _write_summary(self, state: str, summary: Mapping[str, Any]) -> None:
        places = {metrics.WANDB_URL: self.tracker.url, metrics.WANDB_SYNC_DIR: self.tracker.sync_dir}
        if self.tracker.fallback:
            places[metrics.WANDB_FALLBACK] = self.tracker.fallback
        self.folder.write_summary({"state": state, **summary, **places})


@contextmanager
def _handling(handler: Any, *numbers: int) -> Iterator[None]:
    """Handle signals with `handler` (see signal.signal). One that was ignored at the start stays ignored."""
    before = {n: signal.signal(n, handler) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
