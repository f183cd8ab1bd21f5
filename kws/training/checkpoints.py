"""Saving and loading checkpoints: written atomically, read without running code."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kws.config import NON_IDENTITY, SETTINGS, Config, resolve
from kws.errors import KwsError, NotResumable
from kws.files import write_atomically
from kws.training.run_folder import RunFolder

if TYPE_CHECKING:
    from kws.training.run import RunContext


def write(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path` atomically. Raises OSError where the disk does not take it."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with write_atomically(path) as temporary:
        temporary.write_bytes(buffer.getvalue())  # torch's own writer hides why a write failed


def read(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return a checkpoint. Raises KwsError where the file is not a complete checkpoint of kws."""
    try:
        checkpoint = torch.load(path, weights_only=True, map_location=device)
    except FileNotFoundError as error:
        raise KwsError(f"{path}: does not exist; choose another run") from error
    except Exception as error:  # a damaged, foreign or hostile file makes torch.load raise many kinds
        raise KwsError(f"{path}: is not a complete checkpoint of kws; choose another run") from error
    parts = [checkpoint.get(key) for key in ("model", "config")] if isinstance(checkpoint, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise KwsError(f"{path}: is not a checkpoint of kws; choose another run")
    return dict(checkpoint)


def restore(folder: RunFolder, config: Config, context: "RunContext") -> dict[str, Any] | None:
    """Load the run folder's last weights into `context` and return the checkpoint, None where there is none.

    Raises NotResumable where it is damaged, or was written with other settings or other data.
    """
    path = folder.last_checkpoint
    if not path.exists():
        return None
    try:
        checkpoint = read(path, context.device)
        read(folder.best_checkpoint, context.device)  # the test at the end needs it
        before = resolve((str(path), checkpoint["config"]))
    except KwsError as error:
        raise NotResumable(str(error)) from error
    free = {*NON_IDENTITY, "epochs"} - {"words"}  # the order of the words is that of the labels
    changed = [name for name in SETTINGS if name not in free and getattr(before, name) != getattr(config, name)]
    if changed:
        raise NotResumable(f"run {folder.run_id}: was started with another {', '.join(changed)}; start a new run")
    try:
        done = len(checkpoint["rows"])
        if checkpoint["fingerprint"] != context.corpus.fingerprint:
            raise NotResumable(f"run {folder.run_id}: the data changed since it was started; start a new run")
        context.model.load_state_dict(checkpoint["model"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise NotResumable(f"{path}: cannot be resumed; start a new run") from error
    if done > config.epochs:
        raise NotResumable(f"run {folder.run_id}: has completed {done} epochs; set epochs to {done} or more")
    return checkpoint
