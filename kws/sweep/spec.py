"""A sweep file, read: W&B's schema, checked against our settings, with `--set` applied, and the cells it asks for."""

import difflib
import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kws import metrics
from kws.config import SETTINGS, Config, checked, resolve, setting_name
from kws.errors import KwsError
from kws.files import read_yaml
from kws.formatting import one_line
from kws.sweep.distributions import Parameter, Value, read_parameter

METHODS = ("grid", "random", "bayes")
# The top-level keys of W&B's schema, as `wandb sweep` takes them.
KEYS = (
    "program", "command", "method", "metric", "parameters", "name", "description", "project", "entity", "run_cap",
    "early_terminate", "controller", "scheduler", "metrics", "job", "image_uri", "apiVersion", "kind",
)  # fmt: skip
NOT_CARRIED_OUT = {
    "early_terminate": "stops runs early, which only W&B's server decides",
    "scheduler": "names a scheduler of W&B's server",
    "metrics": "asks for several objectives at once",
    "job": "asks W&B Launch to start the runs",
    "image_uri": "asks W&B Launch to start the runs",
}
COMMAND_WORDS = ("${env}", "${interpreter}", "python", "python3", "${args}", "${args_no_equals}", "${args_no_hyphens}")
# Where a run is done, not what it is: two machines that differ in these alone share one sweep.
LOCAL = ("run_dir", "device", "threads", "entity")
MOST_CELLS = 100_000


@dataclass(frozen=True)
class Sweep:
    """A sweep, ready to be run: its cells are numbered from 0 to `expected` - 1.

    `sweep_id` is a hash of all that decides what the cells' runs are. The number of runs is not part of it, so
    that a random or bayes sweep goes on when its run_cap or --count is raised.
    """

    path: str
    sweep_id: str
    name: str
    method: str
    metric: str
    goal: str
    parameters: dict[str, Parameter]
    expected: int
    run_dir: Path
    content: dict

    @property
    def folder(self):
        """Where the sweep's own files lie: `run_dir`/sweeps/ID."""
        return sweep_folder(self.run_dir, self.sweep_id)

    @property
    def searched(self):
        """The parameters that differ between cells."""
        return {name: parameter for name, parameter in self.parameters.items() if not parameter.is_fixed}

    def drawn(self, cell):
        """Return the swept settings of a cell of a grid or a random sweep: the same at every call, on any machine."""
        searched = self.searched
        if self.method == "grid":
            values = []
            for name in reversed(searched):  # the last setting runs fastest, as in nested loops
                choices = searched[name].grid(self.path)
                values.append(choices[cell % len(choices)])
                cell //= len(choices)
            return dict(zip(searched, reversed(values), strict=True))
        draws = random.Random(f"{self.sweep_id}/{cell}")
        return {name: parameter.quantile(draws.random()) for name, parameter in searched.items()}

    def config(self, drawn):
        """Return the Config of a cell. Raises KwsError where its settings do not go together."""
        fixed = {name: parameter.values[0] for name, parameter in self.parameters.items() if parameter.is_fixed}
        return resolve((self.path, fixed | drawn))


def expand_grid(parameters: Mapping[str, Parameter], where: str) -> Iterator[dict[str, Value]]:
    """Return the settings of each trial of a grid; the last parameter varies fastest. Raises KwsError."""
    values = [parameter.grid(where) for parameter in parameters.values()]
    return (dict(zip(parameters, choice, strict=True)) for choice in itertools.product(*values))


def sweep_folder(run_dir: Path, sweep_id: str) -> Path:
    """Return the folder of a sweep's own files."""
    return run_dir / "sweeps" / sweep_id


def sweep_file(run_dir: Path, sweep_id: str) -> Path:
    """Return the sweep file as it was run, with --set applied."""
    return sweep_folder(run_dir, sweep_id) / "sweep.yaml"


def load_sweep(path, overrides=(), count=None):
    """Return the Sweep in the file `path` after `overrides` (texts KEY=VALUE) and `count` (in place of run_cap).

    Raises KwsError, before anything runs, at whatever W&B's schema or our settings do not have, and at whatever
    would be ignored if it were let through.
    """
    path = str(path)
    content = read_yaml(path)
    _check_keys(path, content)
    method = content.get("method")
    if method not in METHODS:
        raise KwsError(f"{path}: method is {one_line(method)!r}, but must be one of {', '.join(METHODS)}")
    specs = _specs(path, content, overrides)
    parameters = {name: read_parameter(name, spec, path) for name, spec in specs.items()}
    weighted = [name for name, parameter in parameters.items() if parameter.probabilities and method == "bayes"]
    if weighted:
        raise KwsError(
            f"{path}: {weighted[0]}: probabilities mean nothing to method bayes; take them out, or use method random"
        )
    run_dir = parameters.pop("run_dir", None)
    if run_dir is not None and not run_dir.is_fixed:
        raise KwsError(f"{path}: run_dir cannot be swept; the sweep's own files lie there")
    run_dir = run_dir.values[0] if run_dir else Config().run_dir
    parameters["run_dir"] = Parameter("run_dir", "constant", values=(run_dir,))
    # One order whatever the file's and --set's: cells are numbered by it, and the sweep's hash ignores the order.
    parameters = {name: parameters[name] for name in SETTINGS if name in parameters}
    metric, goal = _metric(path, content, method)
    name = _text(path, content, "name") or Path(path).stem
    sweep = Sweep(
        path=path,
        sweep_id=_sweep_id(name, method, metric, goal, parameters),
        name=name,
        method=method,
        metric=metric,
        goal=goal,
        parameters=parameters,
        expected=_expected(path, content, method, parameters, count),
        run_dir=Path(run_dir).expanduser(),
        content=content | {"parameters": specs},
    )
    _check_cells(sweep)
    return sweep


def _check_keys(path, content):
    for key in content:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KEYS)}"
            raise KwsError(f"{path}: {one_line(key)!r} is no key of a sweep file; {hint}")
    for key, meaning in NOT_CARRIED_OUT.items():
        if content.get(key):
            raise KwsError(f"{path}: {key} {meaning}; take it out, or run the file with wandb sweep")
    controller = content.get("controller") or {}
    if controller not in ({}, {"type": "cloud"}):
        raise KwsError(f"{path}: controller asks for a controller of one's own; take it out")
    program = content.get("program")
    if program not in (None, "kws/train.py"):
        raise KwsError(f"{path}: program is {one_line(program)!r}, but kws sweep runs kws/train.py only")
    command = content.get("command")
    if command is None:
        return
    words = [str(word) for word in command] if isinstance(command, list) else []
    rest = [word for word in words if word not in COMMAND_WORDS]
    if rest not in (["-m", "kws.train"], ["${program}"], ["kws/train.py"]):
        raise KwsError(
            f"{path}: command is {one_line(command)!r}, but kws sweep carries out only "
            "[${env}, ${interpreter}, -m, kws.train, ${args}]; put settings under parameters"
        )


def _specs(path, content, overrides):
    """Return {setting: W&B spec}, the file's in its order, then what `overrides` add."""
    given = content.get("parameters")
    if not isinstance(given, dict) or not given:
        raise KwsError(f"{path}: parameters must be a mapping from settings to value, values or a distribution")
    specs = {}
    for key in ("project", "entity"):
        if _text(path, content, key):
            specs[key] = {"value": content[key]}
    for key, spec in given.items():
        name = setting_name(key, f"{path}: parameters")
        if name is None:
            raise KwsError(f"{path}: parameters: {one_line(key)!r} is recorded by a run, not set; take it out")
        specs[name] = spec
    for override in overrides:
        key, equals, text = str(override).partition("=")
        name = setting_name(key, "--set")
        if not equals or name is None:
            raise KwsError(f"--set: {one_line(override)!r} is not KEY=VALUE with a setting as KEY")
        several = "," in text and name != "words"
        values = [checked(name, part.strip(), "--set") for part in (text.split(",") if several else [text])]
        values = [list(value) if isinstance(value, tuple) else value for value in values]
        specs[name] = {"values": values} if several else {"value": values[0]}
    return specs


def _metric(path, content, method):
    metric = content.get("metric")
    if metric is None:
        if method == "bayes":
            raise KwsError(f"{path}: method bayes needs metric: {{name: best/val_accuracy, goal: maximize}}")
        return metrics.BEST_VAL_ACCURACY, "maximize"
    if not isinstance(metric, dict) or "name" not in metric:
        raise KwsError(f"{path}: metric must be a mapping with name and goal")
    for key in metric:
        if key not in ("name", "goal"):
            raise KwsError(f"{path}: metric: {one_line(key)!r} is not carried out here; take it out")
    name, goal = str(metric["name"]), metric.get("goal", "minimize")
    known = (*metrics.SUMMARY_METRICS, *metrics.EPOCH_METRICS[1:])
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise KwsError(f"{path}: metric: no run logs {one_line(name)!r}; {hint}")
    if goal not in ("minimize", "maximize"):
        raise KwsError(f"{path}: metric: goal is {one_line(goal)!r}, but must be minimize or maximize")
    return name, goal


def _expected(path, content, method, parameters, count):
    cap = content.get("run_cap") if count is None else count
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or not 1 <= cap <= MOST_CELLS):
        where = f"{path}: run_cap" if count is None else "--count"
        raise KwsError(f"{where}: is {one_line(cap)!r}, but must be a whole number from 1 to {MOST_CELLS}")
    if method != "grid":
        if cap is None:
            raise KwsError(f"{path}: method {method} never ends by itself; give run_cap in the file, or --count N")
        return cap
    for parameter in parameters.values():
        numbers = dict(parameter.numbers)
        if numbers and (numbers.get("max", 0) - numbers.get("min", 0)) / numbers.get("q", 1) > MOST_CELLS:
            raise KwsError(f"{path}: {parameter.name}: more than {MOST_CELLS} values for a grid; list fewer")
    cells = math.prod(len(parameter.grid(path)) for parameter in parameters.values())
    if cells == 0:
        raise KwsError(f"{path}: the grid is empty; W&B's grid over q_uniform leaves max out")
    if cells > MOST_CELLS and cap is None:
        raise KwsError(f"{path}: the grid has {cells} cells, above {MOST_CELLS}; narrow it, or give run_cap")
    return cells if cap is None else min(cells, cap)


def _check_cells(sweep):
    """Refuse a value that cannot work in any cell; single cells that cannot are left to fail by themselves."""
    if sweep.method != "grid":
        return
    reasons = {}
    works = set()
    for cell in range(sweep.expected):
        drawn = sweep.drawn(cell)
        items = list(drawn.items()) or [("", None)]
        try:
            sweep.config(drawn)
        except KwsError as error:
            for item in items:
                reasons.setdefault(item, str(error))
        else:
            works.update(items)
    for item, reason in reasons.items():
        if item not in works:
            raise KwsError(f"{sweep.path}: no run is possible: {reason}")


def _sweep_id(name, method, metric, goal, parameters):
    told = {key: [item.form, item.values, item.probabilities, item.numbers] for key, item in parameters.items()}
    told = {key: value for key, value in told.items() if key not in LOCAL or not parameters[key].is_fixed}
    # The defaults count too: when one changes with a release, old runs and new ones are not one sweep.
    defaults = {key: value for key, value in Config().as_dict().items() if key not in (*LOCAL, "data_dir", *told)}
    text = json.dumps([name, method, metric, goal, told, defaults], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _text(path, content, key):
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise KwsError(f"{path}: {key} is {one_line(value)!r}, but must be text")
    return value
