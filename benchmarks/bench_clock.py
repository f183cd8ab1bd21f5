"""Where the time of a whole run goes: the real run in a process of its own, its functions clocked from outside.

The clock is the machine's monotonic one, which parent and child share: spans of both lie on one line.
"""

import functools
import json
import sys
import time
from statistics import median

# What is clocked: module, owner in it, function, the name in the table. Nested ones are taken out of the outer ones.
CLOCKED = (
    ("kws.model", None, "build", "network"),
    ("kws.speech_commands", None, "load", "data"),
    ("kws.train", None, "TrainingBatches", "data"),
    ("kws.train", None, "features_of", "held-out clips' features"),
    ("kws.tracking", None, "record", "record (versions, git)"),
    ("kws.tracking", "Tracker", "__init__", "W&B init"),
    ("kws.train", "Run", "__init__", "optimiser"),
    ("kws.train", "Run", "_epoch", "epoch"),
    ("kws.train", "Run", "_save", "checkpoint"),
    ("kws.tracking", "Tracker", "log", "log"),
    ("kws.train", "Run", "_test", "test"),
    ("kws.complexity", None, "measure", "complexity"),
    ("kws.tracking", "Tracker", "log_evaluation", "W&B tables and artifact"),
    ("kws.tracking", "Tracker", "log_model", "W&B tables and artifact"),
    ("kws.tracking", "Tracker", "finish", "W&B finish"),
)


def clock(spans):
    """Wrap the functions of CLOCKED: each call then adds [name, begin, end] to `spans` when it ends."""
    for module, owner, function, name in CLOCKED:
        place = sys.modules[module]
        place = getattr(place, owner) if owner else place
        setattr(place, function, _clocked(getattr(place, function), name, spans))


def _clocked(function, name, spans):
    @functools.wraps(function)
    def timed(*arguments, **options):
        began = time.monotonic()
        try:
            return function(*arguments, **options)
        finally:
            spans.append([name, began, time.monotonic()])

    return timed


def clocked_train(path, flags):
    """`kws train FLAGS` in this process; its spans go to the JSON file `path`."""
    spans = []
    began = time.monotonic()
    from kws.cli import collect_less_garbage, main

    collect_less_garbage()
    import kws.terminal.tables  # noqa: F401
    import kws.train  # noqa: F401

    spans.append(["imports", began, time.monotonic()])
    clock(spans)
    status = main(["train", *flags])
    with open(path, "w") as file:
        json.dump(spans, file)
    return status


def clocked_cell(path, *arguments):
    """A sweep's cell (kws.sweep_worker.run_cell) in a process that the sweep's fork server made; spans to `path`."""
    from kws.sweep.worker import run_cell

    spans = []
    clock(spans)
    run_cell(*arguments)
    with open(path, "w") as file:
        json.dump(spans, file)


def fixed_costs(spans, began, ended):
    """Return ({part: seconds}, {"epoch", "log", "checkpoint": seconds}) of a run from `began` to `ended`.

    The parts are disjoint and are all but the epochs and their log calls, each counted as often as its median: what the
    first one takes longer is a fixed cost too. "total" is their sum, "rest" what nothing else accounts for.
    """
    repeated = {name: [end - begin for it, begin, end in spans if it == name] for name in ("epoch", "log")}
    typical = {name: median(lengths[1:] or lengths) for name, lengths in repeated.items()}
    epochs = [(begin, end) for name, begin, end in spans if name == "epoch"]
    parts = {"start of the process": spans[0][1] - began}
    outermost = []
    for name, begin, end in spans:  # in the order of their ends: a call stands behind those that it made
        inside = [span for span in outermost if span[0] >= begin]
        outermost = [span for span in outermost if span[0] < begin] + [(begin, end)]
        if name not in repeated and not any(a <= begin and end <= b for a, b in epochs):
            parts[name] = parts.get(name, 0.0) + end - begin - sum(b - a for a, b in inside)
    parts["first epoch, beyond the others"] = repeated["epoch"][0] - typical["epoch"]
    parts["exit"] = ended - spans[-1][2]
    total = ended - began - sum(typical[name] * len(repeated[name]) for name in repeated)
    parts["rest"] = total - sum(parts.values())
    saved = [end - begin for name, begin, end in spans if name == "checkpoint"]
    return parts | {"total": total}, typical | {"checkpoint": sum(saved) / len(epochs)}


if __name__ == "__main__":
    sys.exit(clocked_train(sys.argv[1], sys.argv[2:]))
