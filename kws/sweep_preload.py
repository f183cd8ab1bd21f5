"""Imported once by the fork server of a sweep: all that a run imports, early or late, so that cells start warm."""

import contextlib
import gc
import importlib

import kws.sweep_worker  # noqa: F401
import kws.train  # noqa: F401

# What the last steps of a run and wandb import at their first use. Some are private to their packages and may move;
# then a cell imports them itself, only later.
for name in ("ptflops.aten_engine", "wandb.sdk.launch", "pandas", "PIL.PngImagePlugin", "yaml"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
# Otherwise each cell's first garbage collection goes through all of the above: 0.2 s, and pages no longer shared.
gc.freeze()
