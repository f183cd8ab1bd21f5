"""W&B logging for one run."""

import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kws import metrics
from kws.config import Config, resolve
from kws.errors import CannotWrite, KwsError, NotResumable
from kws.files import write_atomically
from kws.formatting import one_line
from kws.metrics import Row
from kws.training import wandb_variables
from kws.training.model_card import ModelCard
from kws.training.run_folder import BEST_CHECKPOINT, LAYERS_HEADER
from kws.training.wandb_account import OFFLINE, choose_mode, reading, rejected, stored_run, wandb_settings

if TYPE_CHECKING:
    import wandb
    from torch import Tensor

    from kws.model.complexity import Layer
    from kws.training.evaluation import Curve, Evaluation
    from kws.training.provenance import Provenance

LONGEST_NAME = 128  # characters that W&B's server accepts
INIT_TIMEOUT_S = 30  # then the run continues offline; WANDB_INIT_TIMEOUT changes it
STOPPED = """query RunStoppedStatus($entity: String, $project: String, $run: String!) {
    project(name: $project, entityName: $entity) { run(name: $run) { stopped } } }"""
STOPPED_TIMEOUT_S = 5
STOP_S = 2  # for what is left to write to the run's log after Ctrl-C
LACKING = "the run on W&B will lack tables and its model"


class Tracker:
    """One W&B run: init with its fallbacks, one log call per epoch, tables and files, finish.

    `config` is the Config after `run.config`: the settings of an agent or a resumed run have precedence. `url` is the
    run's page, `sync_dir` the folder that `wandb sync` uploads, `epochs` the last epoch that W&B has, `fallback` why an
    online run became an offline one. Raises KwsError where W&B cannot start or the config is not valid (the W&B run is
    then marked failed).
    """

    def __init__(
        self, config: Config, record: "Provenance", resume: bool, offline: bool, notify: Callable[[str], None]
    ) -> None:
        """Start the run; `offline`: unless W&B's variables or settings files say otherwise."""
        self._notify = notify
        self.fallback = ""
        # For tables and model; W&B's client waits as long for the rest.
        self._patience_s = wandb_variables.finish_timeout() / 2
        mode = choose_mode(offline, notify)
        resume, run_id = resume and mode != "disabled", record["run_id"]
        self.epochs = _earlier_epochs(run_id) if resume else 0
        self._stored = stored_run(config, run_id) if resume and mode not in OFFLINE else None
        self._run = self._init(config, record, resume, mode)
        self._enabled = not self._run.disabled
        self.url = self._run.url if self._enabled and not self._run.offline else None
        self.sync_dir = str(self._run.sync_dir) if self._enabled and self._run.offline else None
        if self.url:
            self.epochs = self._epochs_at_wandb()
        try:
            self.config = resolve(("run.config", dict(self._run.config)))
            if self.config != config:
                run_config: Any = self._run.config  # its methods have no annotations
                run_config.update(self.config.as_dict(), allow_val_change=True)
        except KwsError as error:
            self.finish("failed", {"error": str(error)})
            raise
        self._run.define_metric(metrics.EPOCH, hidden=True)
        self._run.define_metric("*", step_metric=metrics.EPOCH)

    def _init(self, config: Config, record: "Provenance", resume: bool, mode: Any) -> "wandb.Run":
        import wandb

        arguments: dict[str, Any] = {
            "project": config.project,
            "entity": config.entity or None,
            "id": record["run_id"],
            "config": config.as_dict() | record,
            "resume": "allow" if resume else None,
        }
        if self._stored:  # a person may have changed them
            arguments |= {name: getattr(self._stored, name) for name in ("name", "notes", "group", "tags")}
            if self._stored.name == _shortened(self._stored.config["run_name"]):
                arguments["name"] = _shortened(config.run_name)
        elif not self.epochs:
            arguments["name"] = _shortened(os.environ.get("WANDB_NAME") or config.run_name)
            arguments["group"] = _shortened(os.environ.get("WANDB_RUN_GROUP") or config.study)
            arguments["tags"] = list(dict.fromkeys([config.study, config.data, *wandb_variables.tags()]))
        settings: dict[str, Any] = {"quiet": True, "silent": mode in OFFLINE}
        settings |= {"finish_timeout": self._patience_s, "finish_timeout_raises": True}
        if "WANDB_INIT_TIMEOUT" not in os.environ:
            settings["init_timeout"] = INIT_TIMEOUT_S
        try:
            return wandb.init(**arguments, mode=mode, settings=wandb.Settings(**settings))
        except (wandb.errors.UsageError, ValueError) as error:
            raise rejected(error) from None
        except OSError as error:
            raise CannotWrite(f"W&B cannot write its log ({error}); set WANDB_DIR to a writable folder") from error
        except wandb.errors.CommError as error:
            unreachable = re.search("timed out|deadline|retrying|giving up", str(error), re.IGNORECASE)
            problem = "is unreachable" if unreachable else "refuses the run"
            self.fallback = f"W&B {problem} ({one_line(error, 200)})"
            self._notify(f"{self.fallback}: the run continues offline; upload it later with: wandb sync")
            wandb.teardown()  # the service still holds the run id of the failed attempt
            return wandb.init(**arguments, mode="offline", settings=wandb.Settings(**settings | {"silent": True}))

    def _epochs_at_wandb(self) -> int:
        """Return the last epoch in the history of a resumed run. Where it cannot be read: the number of its rows."""
        rows: int = self._run.starting_step  # the tables of a finished run are in a row of their own
        if rows and self._stored:
            with reading():
                stored = self._stored.scan_history(keys=[metrics.EPOCH, metrics.VAL_ACCURACY])
                return int(max((row[metrics.EPOCH] for row in stored), default=0))
        return rows

    def download(self, path: Path) -> None:
        """Download the file of this name that an earlier process uploaded. Raises NotResumable if that fails."""
        with reading(), tempfile.TemporaryDirectory() as folder:
            for file in self._stored.files(names=[path.name]) if self._stored else ():
                file.download(root=folder, replace=True)
                with write_atomically(path) as temporary:
                    shutil.copy(Path(folder, path.name), temporary)
                return
        raise NotResumable(f"W&B has no {path.name} of it")

    def log(self, row: Row) -> None:
        """Log the row of one epoch, unless the resumed W&B run already has it."""
        if row[metrics.EPOCH] > self.epochs:
            self._run.log(row)
            self.epochs = int(row[metrics.EPOCH])

    def log_evaluation(
        self, evaluation: "Evaluation", waveforms: "Tensor", log_mels: "Tensor", layers: list["Layer"]
    ) -> None:
        """Log the result of the test, once: confusion matrix, curves, misclassified clips, and the network's layers.

        waveforms (clips, time) in [-1, 1] and log_mels (clips, n_mels, n_frames): the first `evaluation.misclassified`.
        """
        if self._enabled:
            shown = evaluation, waveforms, log_mels, layers, self.config.labels
            self._send(lambda: self._run.log({metrics.EPOCH: self.epochs} | _charts(*shown)))

    def upload(self, folder: Path, *names: str) -> None:
        """Upload files of the run folder unchanged: a report made from W&B reads them there."""
        for name in names if self._enabled else ():
            try:  # copied, so that wandb sync does not need the run folder
                self._run.save(shutil.copy(folder / name, self._run.dir), base_path=self._run.dir, policy="now")
            except OSError as error:
                self._notify(f"W&B will lack {name} of the run ({error})")

    def log_model(self, path: Path, card: ModelCard) -> None:
        """Log the best checkpoint as the artifact `kws-RUN_ID`, with its model card as description and metadata, once.

        It is uploaded from `path` without another copy.
        """
        import wandb

        if self._enabled:
            name = f"kws-{self._run.id}"
            artifact = wandb.Artifact(name, type="model", description=card.text, metadata=card.figures)
            artifact.add_file(str(path), name=BEST_CHECKPOINT, policy="immutable")
            self._send(lambda: self._run.log_artifact(artifact))

    def _send(self, log: Callable[[], object]) -> None:
        """Log tables or an artifact. W&B's client queues everything else, but asks its server first for these.

        An unreachable server is retried for half of the time for uploads; after that they are left out, with a notice.
        """
        import wandb

        began, failure = time.monotonic(), "no answer"
        try:
            while (left := self._patience_s - (time.monotonic() - began)) > 0:
                try:
                    if _within(left, log, self._run.settings.wandb_dir):
                        return
                except wandb.errors.CommError as error:
                    failure = one_line(error, 200)
                    time.sleep(min(1, left))
        except KeyboardInterrupt:
            self._notify(f"interrupted: {LACKING}")
            raise
        if self._patience_s:
            self._notify(f"W&B is unreachable ({failure}): {LACKING}")
        self._patience_s = 0

    def stopped_on_wandb(self) -> bool:
        """Return whether the run was stopped on W&B: the client and the agent pass it on as a signal."""
        import requests

        settings = self._run.settings
        run = {"entity": self._run.entity, "project": self._run.project, "run": self._run.id}
        for _ in range(2 if self.url else 0):  # not in W&B's public API
            with reading():
                address, login = f"{settings.base_url}/graphql", ("api", settings.api_key or "")
                sent = {"query": STOPPED, "variables": run}
                answer = requests.post(address, json=sent, auth=login, timeout=STOPPED_TIMEOUT_S)
                answer.raise_for_status()
                return '"stopped":true' in answer.text.replace(" ", "")
        return False

    def finish(self, state: str, summary: Mapping[str, Any], uploading: bool = True) -> None:
        """End the W&B run: "finished", "failed", "stopped" or "preempted" (W&B then requeues it if it has a sweep).

        Waits for its uploads, if `uploading`, until Ctrl-C.
        """
        import wandb

        self._run.summary.update(dict(summary))
        if state == "preempted":
            self._run.mark_preempting()
        code = {"finished": 0, "failed": 1, "preempted": 143, "stopped": 255}[state]  # 255: as the client ends it
        try:
            seconds = threading.TIMEOUT_MAX if uploading else STOP_S
            uploaded = _within(seconds, lambda: self._run.finish(code), self._run.settings.wandb_dir)
        except (TimeoutError, KeyboardInterrupt):
            uploaded = False
        if not uploaded:
            folder = self._run.sync_dir
            self._notify(f"W&B has not received the whole run; upload it with: wandb sync --include-online {folder}")
            _within(STOP_S, wandb.teardown, folder)  # else Python waits for the uploads when it exits


def _earlier_epochs(run_id: str) -> int:
    """Return the last epoch in the run's earlier logs on this machine. Offline ones that were not synced are removed.

    The log that follows holds their epochs too: W&B would show them twice.
    """
    last = 0
    for log in Path(wandb_settings().wandb_dir).glob(f"*run-????????_??????-{run_id}"):
        if log.name.startswith("offline") and not wandb_variables.is_synced(log, run_id):
            shutil.rmtree(log, ignore_errors=True)
            continue
        with suppress(OSError, ValueError, KeyError):
            last = max(last, json.loads((log / "files" / "wandb-summary.json").read_text())[metrics.EPOCH])
            continue
        # A killed run has no summary, but a log of the rows that it sent.
        with suppress(OSError, ValueError, AttributeError):
            for line in (log / "logs" / "debug-internal.log").read_text().splitlines():
                sent = json.loads(line)
                last = max(last, sent.get("history_offset", 0) + sent.get("history_lines", 0))
    return last


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[:88]}…{name[-39:]}"


def _within(seconds: float, log: Callable[[], object], staging: str) -> bool:
    """Call `log`, in which W&B's client may wait for minutes; return whether it ended in time. Raises its errors."""
    raised: list[BaseException] = []

    def call() -> None:
        try:
            with _staging_in(staging):
                log()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    return not thread.is_alive()


@contextmanager
def _staging_in(folder: str) -> Iterator[None]:
    """Let W&B stage tables in `folder`: its default is in the home folder, which may not be writable."""
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = folder
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def _charts(
    evaluation: "Evaluation", waveforms: "Tensor", log_mels: "Tensor", layers: list["Layer"], names: Sequence[str]
) -> dict[str, Any]:
    import wandb

    from kws.data.audio import SAMPLE_RATE

    misclassified = wandb.Table(columns=["clip", "word", "predicted", "probability", "audio", "log_mel"])
    for row, waveform, log_mel in zip(evaluation.misclassified, waveforms, log_mels, strict=False):  # the first few
        label, predicted = int(evaluation.labels[row]), int(evaluation.predictions[row])
        probability = round(float(evaluation.probabilities[row, predicted]), 4)
        low, high = log_mel.min(), log_mel.max()
        picture = ((log_mel - low) / (high - low + 1e-9) * 255).byte().flip(0).numpy()  # low bands at the bottom
        media = wandb.Audio(waveform.numpy(), sample_rate=SAMPLE_RATE), wandb.Image(picture)
        misclassified.add_data(evaluation.clips[row], names[label], names[predicted], probability, *media)

    def lines(x: str, y: str, points: Callable[[int], "Curve"], title: str) -> Any:
        """Of two labels, the second's curve; of more, each label's against the rest."""
        if len(names) == 2:
            return wandb.plot.line(wandb.Table(columns=[x, y], data=points(1)), x, y, title=title)
        xs, ys = zip(*(zip(*points(label), strict=True) for label in range(len(names))), strict=True)
        return wandb.plot.line_series(xs, ys, keys=names, title=f"{title}, each label against the rest", xname=x)

    labels, predictions = evaluation.labels.int().tolist(), evaluation.predictions.int().tolist()
    return {
        metrics.CONFUSION_MATRIX: wandb.plot.confusion_matrix(
            y_true=labels, preds=predictions, class_names=list(names)
        ),
        metrics.ROC: lines("false positive rate", "true positive rate", evaluation.roc, "ROC"),
        metrics.PRECISION_RECALL: lines("recall", "precision", evaluation.precision_recall, "Precision and recall"),
        metrics.MISCLASSIFIED: misclassified,
        metrics.LAYERS: wandb.Table(columns=list(LAYERS_HEADER), data=[list(layer) for layer in layers]),
    }
