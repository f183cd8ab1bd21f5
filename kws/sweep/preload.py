"""Imported once by the fork server of a sweep: what all runs need, modules and data, so that cells start warm."""

import contextlib
import gc
import importlib
import json
import os

import torch

import kws.train  # noqa: F401
from kws.data.corpus import load
from kws.sweep.worker import DATA_VARIABLE

# What the last steps of a run and wandb import at their first use. Some are private to their packages and may move;
# then a cell imports them itself, only later.
for name in ("ptflops.aten_engine", "wandb.sdk.launch", "pandas", "PIL.PngImagePlugin", "yaml"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
# A server that ever computed on several threads would fork cells that hang when they do: GNU's OpenMP is made so.
torch.set_num_threads(1)
data_dir, data, words = json.loads(os.environ[DATA_VARIABLE])
with contextlib.suppress(Exception):  # whatever is wrong, each cell meets it again, and tells
    load(data_dir, data, tuple(words), keep=True)
# Otherwise each cell's first garbage collection goes through all of the above: 0.2 s, and pages no longer shared.
gc.freeze()
