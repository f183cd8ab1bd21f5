"""Imported once by the fork server of a sweep: all that a run imports, early or late, so that cells start warm."""

import contextlib
import gc
import importlib

import kws.sweep_worker  # noqa: F401
import kws.train  # noqa: F401

# What torch's optimisers and wandb's runs import at their first use: 2.4 s of a run's 3.3 s on a small corpus.
# They are private to those packages, so they may move; then a cell imports them itself, only later.
for name in ("torch._dynamo", "wandb.sdk.launch", "pandas", "PIL.Image"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
# Otherwise each cell's first garbage collection goes through all of the above: 0.2 s, and pages no longer shared.
gc.freeze()
