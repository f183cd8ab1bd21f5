"""Imported once by the fork server of a sweep: the modules and data that all runs need, so that trials start fast."""

# ruff: noqa: E402

import contextlib
import gc
import importlib
import json
import os

# Before anything else: Ctrl-C in the terminal and its end go to the sweep alone, which then stops its trials.
os.setsid()
gc.disable()  # the imports make no garbage; looking for it takes a sixth of their time

import torch

import kws.train  # noqa: F401
from kws.config import resolve
from kws.data.augment import SHARED, Augmentation
from kws.data.labels import load_labelled
from kws.model import network
from kws.sweep.worker import DATA_VARIABLE
from kws.training.provenance import code_version

code_version()  # of the modules that all trials use; trials inherit it, even if files are edited later

# Imported by the last steps of a run and by wandb at their first use. Some are private to their packages and may move;
# a trial then imports them itself, only later.
for name in ("ptflops.aten_engine", "wandb.sdk.launch", "pandas", "PIL.PngImagePlugin", "yaml"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
# GNU's OpenMP hangs in a forked process when its parent has computed on several threads.
torch.set_num_threads(1)
with contextlib.suppress(Exception):  # each trial meets the same problem and reports it
    config = resolve((DATA_VARIABLE, json.loads(os.environ[DATA_VARIABLE])))
    corpus = load_labelled(config, keep=True)
    if config.augment and config.labels == config.words:
        augment = Augmentation(config, corpus, network.build(config).features)
        SHARED[augment.key] = augment.speech  # trials with the same front end need not compute it
# Otherwise each trial's first garbage collection scans all of the above: 0.2 s, and memory pages no longer shared.
gc.freeze()
gc.enable()
