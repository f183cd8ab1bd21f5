"""Reads a sweep file: W&B's schema, checked against our settings, with `--set` applied, and its trials."""

import hashlib
import itertools
import json
import math
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from kws import metrics
from kws.config import SETTINGS, Config, checked, resolve, setting_name, suggestion
from kws.errors import CannotWrite, KwsError
from kws.files import read_yaml, write_text
from kws.formatting import one_line
from kws.sweep.distributions import MAX_TRIALS, Parameter, Value, read_parameter
from kws.sweep.worker import data_fingerprint
from kws.training.provenance import SweepRecord, sweep_content

METHODS = ("grid", "random", "bayes")
# The top-level keys of W&B's schema, as `wandb sweep` accepts them.
KEYS = (
    "program", "command", "method", "metric", "parameters", "name", "description", "project", "entity", "run_cap",
    "early_terminate", "controller", "scheduler", "metrics", "job", "image_uri", "apiVersion", "kind",
)  # fmt: skip
NOT_SUPPORTED = ("early_terminate", "scheduler", "metrics", "job", "image_uri")  # only W&B's server acts on them
# A sweep file's command, as W&B's agents accept it, is one of these; words that IGNORED matches may stand anywhere.
COMMANDS = (["-m", "kws.train"], ["-m", "kws", "train"], ["kws", "train"], ["${program}"], ["kws/train.py"])
IGNORED = re.compile(
    r"\$\{(env|interpreter|args|args_no_equals|args_no_hyphens|args_no_boolean_flags)\}"
    r"|(/usr/bin/)?env|(.*/)?python[\d.]*|-u"
)
DATA_SETTINGS = (
    "data", "data_dir", "words", "unknown", "unknown_synthetic", "silence", "resplit", "speaker_from",
)  # fmt: skip
# Settings that say where a run is done: machines that differ only in these share one sweep.
LOCAL = ("run_dir", "device", "threads", "entity")


@dataclass(frozen=True)
class Sweep:
    """A checked sweep: its trials are numbered from 0 to `expected` - 1.

    Its name in the folder of sweeps, `sweep_id`, does not depend on `expected`: a random or bayes sweep continues when
    its run_cap or --count is raised.
    """

    path: str
    name: str
    method: str
    metric: str
    goal: str  # "minimize" or "maximize"
    parameters: dict[str, Parameter]
    expected: int
    run_dir: Path
    content: dict[str, Any]

    @cached_property
    def sweep_id(self) -> str:
        """A hash of everything that determines the trials' runs."""
        swept = {
            key: [item.form, item.values, item.probabilities, sorted(item.numbers.items())]
            for key, item in self.parameters.items()
            if key not in LOCAL or not item.is_fixed
        }
        # The defaults count too: when one changes with a release, old runs and new ones are not one sweep.
        defaults = {key: value for key, value in Config().as_dict().items() if key not in (*LOCAL, "data_dir", *swept)}
        # So does the order of the settings, which numbers the trials.
        text = json.dumps([self.name, self.method, self.metric, self.goal, swept, defaults])
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def folder(self) -> Path:
        """The folder of the sweep's own files: `run_dir`/sweeps/ID."""
        return sweep_file(self.run_dir, self.sweep_id).parent

    @cached_property
    def record(self) -> SweepRecord:
        """What each run of the sweep records of it, for reports. Raises KwsError where the file has a wrong type."""
        return {"sweep_id": self.sweep_id, "sweep": sweep_content(self.content, self.path)}

    @cached_property
    def fixed(self) -> dict[str, Value]:
        """The settings that all trials share."""
        return {name: parameter.values[0] for name, parameter in self.parameters.items() if parameter.is_fixed}

    @cached_property
    def searched(self) -> dict[str, Parameter]:
        """The parameters that differ between trials."""
        return {name: parameter for name, parameter in self.parameters.items() if not parameter.is_fixed}

    @cached_property
    def _grid(self) -> list[dict[str, Value]]:
        return list(itertools.islice(expand_grid(self.searched, self.path), self.expected))

    def overrides(self, trial: int) -> dict[str, Value]:
        """Return the swept settings of a trial of a grid or random sweep: always the same, on any machine."""
        if self.method == "grid":
            return self._grid[trial]
        draws = random.Random(f"{self.sweep_id}/{trial}")
        return {name: parameter.quantile(draws.random()) for name, parameter in self.searched.items()}

    def config(self, overrides: Mapping[str, Value]) -> Config:
        """Return the Config of a trial. Raises KwsError if its settings are not valid together."""
        return resolve((self.path, self.fixed | dict(overrides)))

    def data_config(self, overrides: Mapping[str, Value]) -> Config:
        """Return a Config with the settings of a trial that determine its data; the others are at their defaults."""
        settings = self.fixed | dict(overrides)
        return resolve((self.path, {name: settings[name] for name in DATA_SETTINGS if name in settings}))

    def fingerprint(self, overrides: Mapping[str, Value]) -> str | None:
        """Return the fingerprint of a trial's data, None if they cannot be read. The first call reads them."""
        return self._fingerprint(self.data_config(overrides))

    @cached_property
    def _fingerprint(self) -> Callable[[Config], str | None]:
        return cache(data_fingerprint)


def expand_grid(parameters: Mapping[str, Parameter], where: str) -> Iterator[dict[str, Value]]:
    """Return the settings of each trial of a grid; the last parameter varies fastest. Raises KwsError."""
    values = [parameter.grid(where) for parameter in parameters.values()]
    return (dict(zip(parameters, choice, strict=True)) for choice in itertools.product(*values))


def sweep_file(run_dir: Path, sweep_id: str) -> Path:
    """Return the path of the copy of a sweep file as it was run, with --set applied."""
    return run_dir / "sweeps" / sweep_id / "sweep.yaml"


def write_copy(sweep: Sweep) -> None:
    """Write the copy of the sweep file, and make the folder of the trials' logs beside it. Raises CannotWrite."""
    import yaml

    copy = yaml.safe_dump(sweep.content, sort_keys=False, allow_unicode=True)
    try:
        (sweep.folder / "logs").mkdir(parents=True, exist_ok=True)
        write_text(sweep_file(sweep.run_dir, sweep.sweep_id), copy)
    except OSError as error:
        problem = f"run_dir: {sweep.folder} cannot be written ({error.strerror})"
        raise CannotWrite(f"{problem}; choose another with --set run_dir=DIR") from error


def load_sweep(path: str | Path, assignments: Iterable[str] = (), count: int | None = None) -> Sweep:
    """Return the Sweep of a file, with `assignments` (texts KEY=VALUE) and `count` (in place of run_cap) applied.

    Raises KwsError, before anything runs, for whatever is not in W&B's schema or our settings, or is not supported.
    """
    path = str(path)
    content = read_yaml(path)
    _check_keys(path, content)
    _check_command(path, content)
    method = content.get("method")
    if method not in METHODS:
        raise KwsError(f"{path}: method is {one_line(method)!r}, but must be one of {', '.join(METHODS)}")
    specs = _parameter_specs(path, content, assignments)
    parameters = _parameters(path, specs, method)
    metric, goal = _metric(path, content, method)
    sweep = Sweep(
        path=path,
        name=_text(path, content, "name") or Path(path).stem,
        method=method,
        metric=metric,
        goal=goal,
        parameters=parameters,
        expected=_expected(path, content, method, parameters, count),
        run_dir=Path(os.path.expanduser(str(parameters["run_dir"].values[0]))),
        content=content | {"parameters": specs} | ({} if count is None else {"run_cap": count}),
    )
    sweep.record  # noqa: B018 (raises KwsError)
    if method == "grid":
        _check_grid(sweep)
    return sweep


def _check_keys(path: str, content: Mapping[str, Any]) -> None:
    for key in content:
        if key not in KEYS:
            raise KwsError(f"{path}: unknown key {one_line(key)!r}; {suggestion(str(key), KEYS)}")
    unsupported = [key for key in NOT_SUPPORTED if content.get(key)]
    if (content.get("controller") or {}) not in ({}, {"type": "cloud"}):
        unsupported.append("controller")
    if unsupported:
        raise KwsError(f"{path}: {unsupported[0]} is not supported; remove it, or run the file with wandb sweep")


def _check_command(path: str, content: Mapping[str, Any]) -> None:
    program, command = content.get("program"), content.get("command")
    if program not in (None, "kws/train.py"):
        raise KwsError(f"{path}: program is {one_line(program)!r}, but kws sweep runs only kws/train.py")
    if command is None:
        return
    words = [str(word) for word in command] if isinstance(command, list) else [str(command)]
    rest = [word for word in words if not IGNORED.fullmatch(word)]
    if rest not in COMMANDS:
        unknown = [word for word in rest if word not in itertools.chain(*COMMANDS)] or [" ".join(words)]
        raise KwsError(
            f"{path}: command: {one_line(unknown[0])!r} is not supported; write "
            "[${env}, ${interpreter}, -m, kws.train, ${args}], and settings under parameters"
        )


def _parameter_specs(path: str, content: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return {setting: W&B's specification}: the file's in its order, then those that `assignments` add."""
    given = content.get("parameters")
    if not isinstance(given, dict) or not given:
        raise KwsError(f"{path}: parameters must be a mapping from settings to value, values or a distribution")
    specs: dict[str, Any] = {key: {"value": content[key]} for key in ("project", "entity") if _text(path, content, key)}
    for key, spec in given.items():
        name = setting_name(key, f"{path}: parameters")
        if name is None:
            raise KwsError(f"{path}: parameters: {one_line(key)!r} is recorded by a run, not a setting; remove it")
        specs[name] = spec
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        name = setting_name(key, "--set")
        if not equals or name is None:
            raise KwsError(f"--set: {one_line(assignment)!r} is not KEY=VALUE with a setting as KEY")
        several = "," in text and name != "words"
        values = [checked(name, part.strip(), "--set") for part in (text.split(",") if several else [text])]
        values = [list(value) if isinstance(value, tuple) else value for value in values]
        specs[name] = {"values": values} if several else {"value": values[0]}
    return specs


def _parameters(path: str, specs: Mapping[str, Any], method: str) -> dict[str, Parameter]:
    """Return the parameters, run_dir among them, in the order that determines the trials' numbers.

    It is that of the settings, except that seed is first: a grid runs all values with one seed before the next seed.
    A machine that becomes slower or faster then affects all values alike, instead of looking like an effect of them.
    """
    parameters = {name: read_parameter(name, spec, path) for name, spec in specs.items()}
    for name, parameter in parameters.items():
        if parameter.probabilities and method == "bayes":
            raise KwsError(f"{path}: {name}: method bayes ignores probabilities; remove them, or use method random")
    parameters.setdefault("run_dir", Parameter("run_dir", "constant", values=(Config().run_dir,)))
    if not parameters["run_dir"].is_fixed:
        raise KwsError(f"{path}: run_dir cannot be swept, because the sweep's own files are stored there")
    return {name: parameters[name] for name in ("seed", *SETTINGS) if name in parameters}


def _metric(path: str, content: Mapping[str, Any], method: str) -> tuple[str, str]:
    metric = content.get("metric")
    if metric is None:
        if method == "bayes":
            raise KwsError(f"{path}: method bayes needs metric: {{name: {metrics.BEST_VAL_ACCURACY}, goal: maximize}}")
        return metrics.BEST_VAL_ACCURACY, "maximize"
    if not isinstance(metric, dict) or "name" not in metric:
        raise KwsError(f"{path}: metric must be a mapping with name and goal")
    for key in metric:
        if key not in ("name", "goal"):
            raise KwsError(f"{path}: metric: {one_line(key)!r} is not supported; remove it")
    name, goal = str(metric["name"]), metric.get("goal", "minimize")
    known = (*metrics.SUMMARY_METRICS, *metrics.EPOCH_METRICS[1:])
    if name not in known:
        raise KwsError(f"{path}: metric: runs do not log {one_line(name)!r}; {suggestion(name, known)}")
    if goal not in ("minimize", "maximize"):
        raise KwsError(f"{path}: metric: goal is {one_line(goal)!r}, but must be minimize or maximize")
    return name, goal


def _expected(
    path: str, content: Mapping[str, Any], method: str, parameters: Mapping[str, Parameter], count: int | None
) -> int:
    cap = content.get("run_cap") if count is None else count
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or not 1 <= cap <= MAX_TRIALS):
        where = f"{path}: run_cap" if count is None else "--count"
        raise KwsError(f"{where}: is {one_line(cap)!r}, but must be a whole number from 1 to {MAX_TRIALS}")
    if method != "grid":
        if cap is None:
            raise KwsError(f"{path}: method {method} has no end; set run_cap in the file, or use --count N")
        return cap
    trials = math.prod(len(parameter.grid(path)) for parameter in parameters.values())
    if trials == 0:
        raise KwsError(f"{path}: the grid is empty; W&B's grid over q_uniform excludes max")
    if trials > MAX_TRIALS and cap is None:
        raise KwsError(f"{path}: the grid has {trials} trials, above {MAX_TRIALS}; narrow it, or set run_cap")
    return trials if cap is None else min(trials, cap)


def _check_grid(sweep: Sweep) -> None:
    """Raise KwsError for a value that is invalid in all its trials; other invalid trials fail on their own."""
    reasons: dict[tuple[str, Value], str] = {}
    valid: set[tuple[str, Value]] = set()
    for trial in range(sweep.expected):
        overrides = sweep.overrides(trial)
        items = list(overrides.items()) or [("", "")]
        try:
            sweep.config(overrides)
        except KwsError as error:
            for item in items:
                reasons.setdefault(item, str(error))
        else:
            valid.update(items)
    for item, reason in reasons.items():
        if item not in valid:
            raise KwsError(f"{sweep.path}: no trial is possible: {reason}")


def _text(path: str, content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    if value is not None and not isinstance(value, str):
        raise KwsError(f"{path}: {key} is {one_line(value)!r}, but must be text")
    return value
