"""The only door to W&B while a run is on."""

import os
import secrets
import shutil
import string
import threading
import time
from contextlib import contextmanager, suppress

from kws import metrics
from kws.config import SETTINGS, resolve
from kws.errors import KwsError
from kws.files import read_yaml
from kws.formatting import one_line

INIT_TIMEOUT_S = 30  # then the run goes on offline; WANDB_INIT_TIMEOUT changes it
LONGEST_ID = 64  # W&B names artifacts of at most 128 characters after a run and its tables
MODES = ("online", "offline", "disabled", "shared", "dryrun", "run")
FINISH_TIMEOUT_S = 120  # then what was not uploaded waits for `wandb sync`; WANDB_FINISH_TIMEOUT changes it


class Tracker:
    """One run's road to W&B: init with its fallbacks, one log call an epoch, the end.

    `config` is the Config after `run.config`: what an agent or a resumed run says wins. Raises KwsError where that
    is not valid (the W&B run is then marked failed). `offline` tells whether `wandb sync` is still to come.
    """

    def __init__(self, config, run_id, record, resume, notify):
        import wandb

        self._notify = notify
        self._run = self._init(wandb, config, run_id, record, resume)
        self.offline = bool(self._run.offline)
        self.disabled = bool(self._run.disabled)
        # Where the run is to be seen, or to be uploaded from.
        self.url = None if self.offline or self.disabled else self._run.url
        self.sync_dir = str(self._run.sync_dir) if self.offline and not self.disabled else None
        # Rows that the W&B run holds already, one an epoch. (`run.step` is 0 in a resumed run until its first log.)
        self.logged = 0 if self.disabled else min(self._run.starting_step, config.epochs)
        try:
            self.config = resolve(("run.config", dict(self._run.config)))
            if self.config != config:
                self._run.config.update(self.config.as_dict(), allow_val_change=True)
        except KwsError as error:
            self.finish("failed", {"error": str(error)})
            raise
        self._run.define_metric("epoch", hidden=True)
        self._run.define_metric("*", step_metric="epoch")

    def _init(self, wandb, config, run_id, record, resume):
        mode = os.environ.get("WANDB_MODE")
        if mode is None:
            mode = self._mode_by_account(wandb)
        arguments = dict(
            project=_project(config),
            entity=config.entity or None,
            id=run_id,
            name=os.environ.get("WANDB_NAME") or config.run_name,
            group=os.environ.get("WANDB_RUN_GROUP") or config.study,
            tags=[config.study, config.data, *filter(None, os.environ.get("WANDB_TAGS", "").split(","))],
            config=config.as_dict() | record,
            resume="allow" if resume else None,
        )
        quiet = {"quiet": True, "silent": mode in ("offline", "dryrun")}
        for name, default in (("init_timeout", INIT_TIMEOUT_S), ("finish_timeout", FINISH_TIMEOUT_S)):
            if f"WANDB_{name.upper()}" not in os.environ:
                quiet[name] = default
        try:
            return wandb.init(mode=mode, settings=wandb.Settings(**quiet), **arguments)
        except (wandb.errors.UsageError, ValueError) as error:
            raise KwsError(
                f"W&B refuses its settings ({one_line(error, 200)}); look at the WANDB_ variables"
            ) from error
        except OSError as error:
            raise KwsError(
                f"W&B cannot write its log ({error}); set WANDB_DIR to a folder that can be written"
            ) from error
        except wandb.errors.CommError as error:
            self._notify(
                f"W&B cannot be reached ({one_line(error, 200)}): the run goes on offline; "
                "upload it later with: wandb sync"
            )
            wandb.teardown()  # the service still holds the run id for the attempt that failed
            quiet["silent"] = True
            return wandb.init(mode="offline", settings=wandb.Settings(**quiet), **arguments)

    def _mode_by_account(self, wandb):
        try:
            # Not verified: that is one more request, and init finds out by itself.
            if wandb.login(prompt=False, verify=False):
                return None
            why = "no W&B account is set up here"
        except wandb.errors.AuthenticationError as error:
            why = f"W&B does not take the key that is set up here ({one_line(error, 200)})"
        self._notify(f"{why}: the run is recorded offline (log in with: wandb login)")
        return "offline"

    def log(self, row):
        """Log one epoch's row, unless the resumed W&B run holds it already."""
        if row["epoch"] > self.logged:
            self._run.log(row)
            self.logged = row["epoch"]

    def log_evaluation(self, evaluation, waveforms, words, sample_rate, log_mel, layers):
        """Log, once, what the test clips showed: confusion matrix, curves, the misclassified clips, and the layers.

        waveforms: (clips, time) in [-1, 1] of `evaluation.misclassified`, log_mel: (clips, n_mels, n_frames) of the same.
        """
        if not self.disabled:
            shown = evaluation, waveforms, words, sample_rate, log_mel, layers
            self._send(lambda: self._run.log({"epoch": self.logged} | _charts(*shown)))

    def upload(self, folder, *names):
        """Store files of the run folder with the run on W&B as they are: a report made from W&B reads them there."""
        if not self.disabled:
            for name in names:  # copied, so that wandb sync does not need the run folder
                self._run.save(shutil.copy(folder / name, self._run.dir), base_path=self._run.dir, policy="now")

    def log_model(self, path):
        """Log best.pt as the artifact `kws-RUN_ID`, once. Uploaded from where it lies, so no second copy is made."""
        import wandb

        if not self.disabled:
            artifact = wandb.Artifact(f"kws-{self._run.id}", type="model")
            artifact.add_file(str(path), name="best.pt", policy="immutable")
            self._send(lambda: self._run.log_artifact(artifact))

    def _send(self, log):
        """Log tables or an artifact. W&B's client queues all else, but for these asks its server first, and raises.

        A server that is away is asked again for as long as `finish` waits; then they are left out, with a word.
        """
        import wandb

        end = time.monotonic() + self._run.settings.finish_timeout
        while True:
            try:
                with _staging_in(self._run.settings.wandb_dir):
                    log()
                return
            except wandb.errors.CommError as error:
                if time.monotonic() > end:
                    self._notify(f"W&B is away: the run there lacks tables or the model ({one_line(error, 200)})")
                    return
                time.sleep(1)

    def finish(self, state, summary):
        """End the W&B run: "finished", "failed" or "preempted" (an agent's server then hands it out again)."""
        self._run.summary.update(summary)
        if state == "preempted":
            self._run.mark_preempting()
        self._run.finish(exit_code={"finished": 0, "failed": 1, "preempted": 143}[state])


def _project(config):
    """Return the W&B project: the setting, or $WANDB_PROJECT where that was left at its default."""
    chosen = config.project != SETTINGS["project"].default
    return config.project if chosen else os.environ.get("WANDB_PROJECT") or config.project


def check_mode():
    """Raise KwsError where $WANDB_MODE is none of W&B's modes."""
    mode = os.environ.get("WANDB_MODE", MODES[0])
    if mode not in MODES:
        raise KwsError(f"WANDB_MODE is {one_line(mode)!r}, but must be one of {', '.join(MODES)}")


@contextmanager
def _staging_in(folder):
    """Let W&B stage tables in its own folder: its default lies in a home, which not every machine has to write to."""
    if "WANDB_DATA_DIR" in os.environ:
        yield
        return
    os.environ["WANDB_DATA_DIR"] = folder
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]


def agent_config(config):
    """Return `config` with what a W&B agent hands over in a file: all of a cell where its command lacks ${args}.

    `wandb.init` lays the same file over the run's config; name, group and folder of the run are settled before that.
    Raises KwsError where the cell is not valid.
    """
    path = os.environ.get("WANDB_SWEEP_PARAM_PATH")
    if not path:
        return config
    entries = {key: entry["value"] for key, entry in read_yaml(path).items() if key != "wandb_version"}
    return resolve(("the run's config", config.as_dict()), ("the agent's settings", entries))


def new_run_id():
    """Return the run's id: $WANDB_RUN_ID (what an agent sets) or eight random letters and digits."""
    given = os.environ.get("WANDB_RUN_ID")
    if given:
        check_run_id(given)
        return given
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def check_run_id(run_id):
    """Raise KwsError unless `run_id` can name a folder and a W&B run."""
    fine = run_id and len(run_id) <= LONGEST_ID and all(c.isascii() and (c.isalnum() or c in "-_.") for c in run_id)
    if not fine or run_id.startswith("."):
        raise KwsError(f"run id: {one_line(run_id)!r} is not made of at most {LONGEST_ID} letters, digits, - _ .")


@contextmanager
def service_starting():
    """Let a thread start W&B's background service meanwhile: `wandb.init` would wait a fifth of a second for it."""

    def setup():
        import wandb

        with suppress(Exception):  # whatever is wrong, init meets it again, where it is told
            wandb.setup()

    thread = threading.Thread(target=setup, daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def wandb_settings():
    """Return W&B's own (mode, server address) here: from the environment, its settings files and its defaults."""
    import wandb

    settings = wandb.setup().settings
    return settings.mode, settings.base_url


def _charts(evaluation, waveforms, words, sample_rate, log_mel, layers):
    import wandb

    roc, precision_recall = evaluation.roc(), evaluation.precision_recall()
    misclassified = wandb.Table(columns=["clip", "word", "heard", "probability", "audio", "log_mel"])
    for row, waveform, picture in zip(evaluation.misclassified, waveforms, log_mel, strict=False):  # the first few
        word = int(evaluation.labels[row])
        misclassified.add_data(
            evaluation.clips[row], words[word], words[1 - word], round(float(evaluation.probabilities[row]), 4),
            wandb.Audio(waveform.numpy(), sample_rate=sample_rate), wandb.Image(_picture(picture)),
        )  # fmt: skip
    header, *rows = layers
    return {
        metrics.CONFUSION_MATRIX: wandb.plot.confusion_matrix(
            y_true=evaluation.labels.int().tolist(),
            preds=evaluation.predictions.int().tolist(),
            class_names=list(words),
        ),
        metrics.ROC: wandb.plot.line(
            wandb.Table(columns=["false positive rate", "true positive rate"], data=roc),
            "false positive rate", "true positive rate", title="ROC",
        ),
        metrics.PRECISION_RECALL: wandb.plot.line(
            wandb.Table(columns=["recall", "precision"], data=precision_recall),
            "recall", "precision", title="Precision and recall",
        ),
        "test/misclassified": misclassified,
        metrics.LAYERS: wandb.Table(columns=list(header), data=[list(row) for row in rows]),
    }  # fmt: skip


def _picture(log_mel):
    """(n_mels, n_frames) log-mel to an 8-bit picture, low bands at the bottom."""
    low, high = log_mel.min(), log_mel.max()
    return ((log_mel - low) / (high - low + 1e-9) * 255).byte().flip(0).numpy()
