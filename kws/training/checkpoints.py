"""Saving and loading checkpoints: written atomically, read without executing code."""

import io
from pathlib import Path
from typing import Any, TypedDict

import torch

from kws.config import NON_IDENTITY, SETTINGS, Config, recorded
from kws.errors import KwsError, NotResumable
from kws.files import write_atomically
from kws.metrics import EPOCH, VAL_ACCURACY, VAL_LOSS, Row
from kws.model.network import KeywordModel
from kws.training.run_folder import RunFolder


class Checkpoint(TypedDict, total=False):
    """What a checkpoint file holds: best.pt the first three entries, last.pt all but `epoch`."""

    model: dict[str, torch.Tensor]
    config: dict[str, Any]  # the settings, and the schema of this record
    epoch: int
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    rows: list[Row]  # one per completed epoch
    fingerprint: str  # of the data
    average: dict[str, torch.Tensor]  # the weights that are evaluated, see kws.training.run
    best: "Checkpoint"  # what best.pt holds: a kill between the writing of the two cannot separate them


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically. Raises OSError if that fails."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    with write_atomically(path) as temporary:
        temporary.write_bytes(buffer.getvalue())  # torch's own writer hides why a write failed


def read(path: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Return a checkpoint. Raises KwsError if the file is not a complete checkpoint of kws."""
    try:
        checkpoint: Checkpoint = torch.load(path, weights_only=True, map_location=device)
    except FileNotFoundError as error:
        raise KwsError(f"{path}: does not exist; choose another run") from error
    except Exception as error:  # torch.load raises many kinds for damaged, foreign and malicious files
        raise KwsError(f"{path}: is not a complete checkpoint of kws; choose another run") from error
    if not isinstance(checkpoint, dict) or not all(
        isinstance(checkpoint.get(key), dict) for key in ("model", "config")
    ):
        raise KwsError(f"{path}: is not a checkpoint of kws; choose another run")
    return checkpoint


def load_model(path: Path) -> tuple[Config, KeywordModel]:
    """Return the settings and the model, in evaluation mode, of a checkpoint. Raises KwsError."""
    checkpoint = read(path)
    config = recorded(str(path), checkpoint["config"])
    model = KeywordModel(config)
    try:
        model.load_state_dict(checkpoint["model"])
    except RuntimeError as error:
        raise KwsError(f"{path}: its weights do not fit its config; choose another run") from error
    return config, model.eval()


def restore(folder: RunFolder, config: Config, model: KeywordModel, fingerprint: str) -> Checkpoint | None:
    """Load the last weights of a run folder into `model` and return the checkpoint; None if there is none.

    Raises NotResumable if it is damaged, or was written with other settings or other data (`fingerprint`).
    """
    path = folder.last_checkpoint
    if not path.exists():
        return None
    device = next(model.parameters()).device
    try:
        checkpoint = read(path, device)
        before = recorded(str(path), checkpoint["config"])
    except KwsError as error:
        raise NotResumable(str(error)) from error
    free = (*NON_IDENTITY, "epochs")
    changed = [name for name in SETTINGS if name not in free and getattr(before, name) != getattr(config, name)]
    if changed:
        raise NotResumable(f"run {folder.run_id}: was started with another {', '.join(changed)}; start a new run")
    try:
        done, best = len(checkpoint["rows"]), checkpoint["best"]["epoch"]
        if checkpoint["fingerprint"] != fingerprint:
            raise NotResumable(f"run {folder.run_id}: the data changed since it was started; start a new run")
        if best != best_row(checkpoint["rows"])[EPOCH]:
            raise NotResumable(f"{path}: its best weights are of epoch {best}, unlike its rows; start a new run")
        averages = [checkpoint["average"]] if len(config.labels) > 2 else []
        for weights in (*averages, checkpoint["best"]["model"], checkpoint["model"]):
            model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise NotResumable(f"{path}: cannot be resumed; start a new run") from error
    if done > config.epochs:
        raise NotResumable(f"run {folder.run_id}: has completed {done} epochs; set epochs to {done} or more")
    return checkpoint


def best_row(rows: list[Row]) -> Row:
    """Return the row that is best on validation: accuracy first, then loss, then the earlier epoch."""
    return max(rows, key=lambda row: (row[VAL_ACCURACY], -row[VAL_LOSS], -row[EPOCH]))
