"""What a run keeps of itself: checkpoints written whole, read without running code, and taken up again."""

import io

import torch

from kws.config import CIRCUMSTANCES, SETTINGS, resolve
from kws.errors import CannotGoOn, KwsError
from kws.files import write_atomically


def write(path, content):
    """Write `content` to `path` atomically. Raises OSError where the disk does not take it."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with write_atomically(path) as temporary:
        temporary.write_bytes(buffer.getvalue())  # torch's own writer hides why a write failed


def read(path, device="cpu"):
    """Return a checkpoint's dict. Raises KwsError where the file is not one of ours, whole and without code in it."""
    try:
        checkpoint = torch.load(path, weights_only=True, map_location=device)
    except FileNotFoundError as error:
        raise KwsError(f"{path}: is not there; take another run") from error
    except Exception as error:  # a damaged, foreign or hostile file makes torch.load raise many kinds
        raise KwsError(f"{path}: is not a whole checkpoint of kws; take another run") from error
    parts = [checkpoint.get(key) for key in ("model", "config")] if isinstance(checkpoint, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise KwsError(f"{path}: is not a checkpoint of kws; take another run")
    return checkpoint


def restore(folder, config, parts):
    """Load the run folder's last weights into `parts` and return the checkpoint, None where there is none.

    Raises CannotGoOn where the run cannot go on from it: it is damaged, or began with other settings or other data.
    """
    path = folder.path / "last.pt"
    if not path.exists():
        return None
    try:
        checkpoint = read(path, parts.device)
        read(folder.path / "best.pt", parts.device)  # the test at the end needs it
        then = resolve((str(path), checkpoint["config"]))
    except KwsError as error:
        raise CannotGoOn(str(error)) from error
    free = {*CIRCUMSTANCES, "epochs"} - {"words"}  # their order is the labels'
    changed = [name for name in SETTINGS if name not in free and getattr(then, name) != getattr(config, name)]
    if changed:
        raise CannotGoOn(f"run {folder.run_id}: began with another {', '.join(changed)}; start a new run for that")
    try:
        done = len(checkpoint["rows"])
        if checkpoint["fingerprint"] != parts.corpus.fingerprint:
            raise CannotGoOn(f"run {folder.run_id}: the data changed since it began; start a new run for them")
        parts.model.load_state_dict(checkpoint["model"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise CannotGoOn(f"{path}: is not the checkpoint of a run that can go on; start a new run") from error
    if done > config.epochs:
        raise CannotGoOn(f"run {folder.run_id}: has {done} epochs behind it; set epochs to {done} or more to go on")
    return checkpoint
