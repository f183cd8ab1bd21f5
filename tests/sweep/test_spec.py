"""Sweep files: those of the repository, W&B's parameter forms, --set, and errors before anything runs."""

import itertools
import math

import pytest
import yaml
from conftest import REPOSITORY
from helpers.sweep_runs import SWEEPS, write_sweep
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.config import SETTINGS
from kws.errors import KwsError
from kws.model import network as model
from kws.sweep.distributions import FORMS, read_parameter
from kws.sweep.spec import load_sweep

# https://docs.wandb.ai/models/sweeps/sweep-config-keys
DOCUMENTED_KEYS = {"program", "entity", "project", "description", "name", "method", "metric", "parameters",
                   "early_terminate", "command", "run_cap"}  # fmt: skip
DOCUMENTED_PARAMETER_KEYS = {"values", "value", "distribution", "probabilities", "min", "max", "mu", "sigma", "q"}


def trials(sweep):
    return [sweep.overrides(trial) for trial in range(sweep.expected)]


# The files of the repository


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_file_is_valid_for_wandb_and_kws(path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    content = yaml.safe_load(path.read_text())
    assert set(content) <= DOCUMENTED_KEYS
    assert content["method"] in ("grid", "random", "bayes")
    for name, spec in content["parameters"].items():
        assert name in SETTINGS and set(spec) <= DOCUMENTED_PARAMETER_KEYS
    assert content["command"] == ["${env}", "${interpreter}", "-m", "kws.train", "${args}"]
    assert (REPOSITORY / content["program"]).is_file()
    assert content["project"] == "kws" and content["name"] == path.stem
    assert content["parameters"]["study"] == {"value": path.stem}

    sweep = load_sweep(path)
    configs = [sweep.config(overrides) for overrides in trials(sweep)]
    for config in configs:
        model.build(config)  # within 100,000 parameters
    if sweep.method == "grid":
        assert next(iter(content["parameters"])) == "seed"  # W&B's grid runs the last parameter fastest
        assert [config.seed for config in configs] == sorted(config.seed for config in configs)
        assert len(set(configs)) == sweep.expected
    else:
        assert content["run_cap"] == sweep.expected
    for words in ("Question:", "Scientific parameter", "Nuisance parameter", f"{sweep.expected} runs"):
        assert words in content["description"]


def test_the_studies_vary_what_they_describe():
    n_mels, groups = (load_sweep(REPOSITORY / "sweeps" / f"{name}.yaml") for name in ("n_mels", "groups"))
    assert trials(n_mels) == [{"n_mels": n, "seed": s} for s in range(5) for n in (20, 40, 80)]
    assert trials(groups) == [{"groups": g, "seed": s} for s in range(5) for g in (1, 2, 4, 8, 16)]
    assert {groups.config(overrides).n_mels for overrides in trials(groups)} == {20}
    changed = load_sweep(REPOSITORY / "sweeps" / "groups.yaml", ["n_mels=40"])
    assert {changed.config(overrides).n_mels for overrides in trials(changed)} == {40}
    assert changed.sweep_id != groups.sweep_id


# Parameters


@given(st.dictionaries(
    st.sampled_from(["n_mels", "groups", "seed", "epochs"]),
    st.lists(st.integers(1, 64), min_size=1, max_size=4, unique=True), min_size=1,
))  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_a_grid_is_the_product_of_its_values(tmp_path_factory, values):
    specs = {name: {"values": choices} for name, choices in values.items()} | {"channels": {"value": 64}}
    path = write_sweep(tmp_path_factory.mktemp("grid"), specs)
    try:
        sweep = load_sweep(path, ["channels=64"])
    except KwsError as error:  # every trial with some value of groups is invalid
        assert "does not divide" in str(error)
        return
    assert set(sweep.searched) == set(values)
    found = [tuple(overrides[name] for name in sweep.searched) for overrides in trials(sweep)]
    assert found == list(itertools.product(*(values[name] for name in sweep.searched)))


@st.composite
def bounded(draw):
    """(spec, low, high) of a distribution with min and max that lr (1e-8 to 10) can take."""
    forms = [form for form, (required, _) in FORMS.items() if required == ("min", "max") and form != "int_uniform"]
    form = draw(st.sampled_from(forms))
    low, high = sorted(draw(st.tuples(*[st.floats(0.001, 10.0)] * 2)))
    spec = {"distribution": form, "min": low, "max": high}
    if form == "inv_log_uniform":
        spec |= {"min": -math.log(high), "max": -math.log(low)}
    elif form in ("log_uniform", "q_log_uniform"):
        spec |= {"min": math.log(low), "max": math.log(high)}
    if "q" in FORMS[form][1]:
        spec["q"] = draw(st.floats(0.0005, 0.2))
    return spec, low, high


@given(bounded(), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_drawn_values_are_in_the_declared_range(case, u, v):
    spec, low, high = case
    try:
        parameter = read_parameter("lr", spec, "x.yaml")
    except KwsError as error:
        assert "no multiple of q" in str(error) or "must be between" in str(error)  # exp(log(10)) above 10
        return
    value = parameter.quantile(u)
    assert low * (1 - 1e-9) <= value <= high * (1 + 1e-9)
    if "q" in spec:
        assert value / spec["q"] == pytest.approx(round(value / spec["q"]), abs=1e-6)
    smaller, larger = sorted((u, v))
    assert parameter.quantile(smaller) <= parameter.quantile(larger)


@given(st.integers(1, 100), st.integers(0, 27), st.floats(0, 1))
def test_whole_numbers_stay_whole_and_in_range(low, span, u):
    for form in ("int_uniform", "q_uniform", "q_log_uniform_values"):
        parameter = read_parameter("n_mels", {"distribution": form, "min": low, "max": low + span}, "x.yaml")
        value = parameter.quantile(u)
        assert isinstance(value, int) and low <= value <= low + span


def shares(parameter, draws=20000):
    """The fraction of each value among evenly spaced quantiles."""
    found = {}
    for index in range(draws):
        value = parameter.quantile((index + 0.5) / draws)
        found[value] = found.get(value, 0) + 1 / draws
    return found


def test_distributions_match_their_names():
    def read(name, **spec):
        return read_parameter(name, spec, "x.yaml")

    assert read("lr", min=0.0001, max=1.0).quantile(0.5) == pytest.approx(0.50005)
    assert read("lr", distribution="log_uniform_values", min=0.0001, max=1.0).quantile(0.5) == pytest.approx(0.01)
    assert read("lr", distribution="inv_log_uniform_values", min=0.0001, max=1.0).quantile(0.5) == pytest.approx(0.01)
    assert read("lr", distribution="log_uniform", min=math.log(1e-4), max=0).quantile(0.5) == pytest.approx(0.01)
    assert read("lr", distribution="inv_log_uniform", min=0, max=-math.log(1e-4)).quantile(0.25) == pytest.approx(0.001)
    normal = read("gain_db", distribution="normal", mu=6, sigma=2)
    assert [normal.quantile(u) for u in (0.5, 0.841344746, 0.158655254)] == pytest.approx([6, 8, 4])
    assert read("gain_db", distribution="normal").quantile(0.841344746) == pytest.approx(1)  # mu 0, sigma 1
    assert read("gain_db", distribution="q_normal", mu=6, sigma=2, q=3).quantile(0.8) == 9
    assert read("lr", distribution="log_normal", mu=math.log(0.01), sigma=1).quantile(0.5) == pytest.approx(0.01)
    assert read("epochs", distribution="q_log_normal", mu=math.log(20), sigma=1).quantile(0.5) == 20
    assert read("lr", distribution="q_uniform", min=0.1, max=0.4, q=0.1).quantile(0.7) == 0.3
    assert shares(read("seed", min=0, max=3)) == pytest.approx({0: 0.25, 1: 0.25, 2: 0.25, 3: 0.25})
    weighted = read("n_mels", values=[20, 40, 80], probabilities=[0.5, 0, 0.5])
    assert shares(weighted) == pytest.approx({20: 0.5, 80: 0.5})
    assert shares(read("augment", values=[True, False])) == pytest.approx({True: 0.5, False: 0.5})
    assert read("lr", value="1e-3").quantile(0.5) == 0.001  # YAML reads this as text


def test_random_draws_depend_only_on_the_sweep_and_the_trial(tmp_path):
    specs = {"lr": {"distribution": "log_uniform_values", "min": 0.0001, "max": 0.1}, "seed": {"min": 0, "max": 99}}
    path = write_sweep(tmp_path, specs, method="random", run_cap=20)
    sweep = load_sweep(path)
    assert trials(sweep) == trials(load_sweep(path))
    assert len({overrides["lr"] for overrides in trials(sweep)}) == 20
    longer = load_sweep(path, count=30)
    assert longer.sweep_id == sweep.sweep_id and trials(longer)[:20] == trials(sweep)
    other = load_sweep(path, ["n_mels=40"])
    assert other.sweep_id != sweep.sweep_id and trials(other) != trials(sweep)


def test_a_grid_takes_whole_ranges_as_wandb_does(tmp_path):
    path = write_sweep(tmp_path, {
        "seed": {"min": 3, "max": 5}, "lr": {"distribution": "q_uniform", "min": 0.1, "max": 0.4, "q": 0.1},
    })  # fmt: skip
    assert trials(load_sweep(path)) == [{"lr": lr, "seed": s} for s in (3, 4, 5) for lr in (0.1, 0.2, 0.3)]
    assert load_sweep(write_sweep(tmp_path, {"seed": {"min": 0, "max": 99}}, run_cap=7)).expected == 7


# --set


def test_set_fixes_narrows_and_adds(tmp_path):
    path = write_sweep(tmp_path, {"n_mels": {"values": [20, 40]}, "seed": {"values": [0, 1, 2]}})
    sweep = load_sweep(path, ["epochs=3", "seed=0,1", "n-mels=80", "groups=1,2", "augment=false", "words=up,down"])
    assert trials(sweep) == [{"groups": g, "seed": s} for s in (0, 1) for g in (1, 2)]
    config = sweep.config(sweep.overrides(0))
    assert (config.epochs, config.n_mels, config.augment, config.words) == (3, 80, False, ("up", "down"))
    assert sweep.content["parameters"]["seed"] == {"values": [0, 1]}


def test_assignments_that_change_the_runs_change_the_sweep_id(tmp_path):
    path = write_sweep(tmp_path, {"seed": {"values": [0, 1]}})
    ids = {load_sweep(path, assignments).sweep_id for assignments in ([], ["lr=0.01"], ["seed=0"], ["data_dir=x"])}
    assert len(ids) == 4
    same = (["run_dir=elsewhere"], ["device=cpu"], ["threads=2"], ["entity=me"])
    assert {load_sweep(path, assignments).sweep_id for assignments in same} == {load_sweep(path).sweep_id}


def test_the_order_of_settings_in_the_file_does_not_matter(tmp_path):
    first, second = {"n_mels": {"values": [20, 40]}}, {"seed": {"values": [0, 1]}}
    one = load_sweep(write_sweep(tmp_path, first | second))
    other = load_sweep(write_sweep(tmp_path, second | first))
    assert one.sweep_id == other.sweep_id and trials(one) == trials(other)


@pytest.mark.parametrize("command", (
    "${env} ${interpreter} ${program} ${args}", "${env} ${interpreter} -m kws train ${args_no_boolean_flags}",
    "/usr/bin/env python3 -u -m kws.train ${args}", "/opt/venv/bin/python3.12 -m kws.train ${args_no_equals}",
    "kws train ${args}",
))  # fmt: skip
def test_the_commands_that_wandb_agents_run_are_accepted(tmp_path, command):
    assert load_sweep(write_sweep(tmp_path, {"seed": {"values": [0, 1]}}, command=command.split())).expected == 2


# Errors

INVALID = {
    "unknown key": ({"metrc": {}}, {}, "unknown key 'metrc'; did you mean metric?"),
    "no method": ({"method": None}, {}, "method is 'None', but must be one of grid, random, bayes"),
    "custom method": ({"method": "custom"}, {}, "method is 'custom', but must be one of"),
    "hyperband": ({"early_terminate": {"type": "hyperband", "min_iter": 3}}, {}, "early_terminate is not supported"),
    "scheduler": ({"scheduler": {"engine": "optuna"}}, {}, "scheduler is not supported"),
    "controller": ({"controller": {"type": "local"}}, {}, "controller is not supported"),
    "program": ({"program": "other.py"}, {}, "program is 'other.py', but kws sweep runs only kws/train.py"),
    "command": ({"command": ["${env}", "bash", "run.sh", "${args}"]}, {}, "command: 'bash' is not supported"),
    "flag in command": (
        {"command": ["python", "-m", "kws.train", "--lr=1", "${args}"]}, {}, "command: '--lr=1' is not supported",
    ),
    "variable in command": ({"command": ["${env}", "OMP_NUM_THREADS=4", "kws", "train"]}, {}, "'OMP_NUM_THREADS=4' is"),
    "macro in command": ({"command": ["kws", "train", "${args_json}"]}, {}, "command: '${args_json}' is not supported"),
    "other command": ({"command": ["kws", "${args}"]}, {}, "command: 'kws ${args}' is not supported; write"),
    "run_cap": ({"run_cap": 0}, {}, "run_cap: is '0', but must be a whole number from 1"),
    "endless random": ({"method": "random"}, {}, "method random has no end; set run_cap"),
    "endless bayes": ({"method": "bayes"}, {}, "method bayes has no end; set run_cap"),
    "bayes without metric": ({"method": "bayes", "metric": None}, {}, "method bayes needs metric"),
    "unknown metric": ({"metric": {"name": "val/acuracy"}}, {}, "'val/acuracy'; did you mean val/accuracy?"),
    "goal": ({"metric": {"name": "val/loss", "goal": "min"}}, {}, "goal is 'min', but must be minimize or maximize"),
    "target": ({"metric": {"name": "val/loss", "target": 0.1}}, {}, "'target' is not supported"),
    "name": ({"name": 3}, {}, "name is '3', but must be text"),
    "unknown setting": ({}, {"n_mel": {"value": 20}}, "there is no setting 'n_mel'; did you mean n_mels?"),
    "recorded": ({}, {"run_id": {"value": "x"}}, "'run_id' is recorded by a run, not a setting"),
    "bare value": ({}, {"lr": 0.1}, "lr is '0.1'; write a mapping such as {value: …}"),
    "nested": ({}, {"lr": {"parameters": {"a": {"value": 1}}}}, "lr: nested parameters are not supported"),
    "no form": ({}, {"lr": {}}, "lr: has no value, values, min and max, or distribution"),
    "unknown form": ({}, {"lr": {"distribution": "uniformly", "min": 1}}, "distribution 'uniformly' is not supported"),
    "beta": ({}, {"lr": {"distribution": "beta"}}, "lr: distribution 'beta' is not supported"),
    "missing bound": ({}, {"lr": {"distribution": "uniform", "min": 0.1}}, "but max is missing"),
    "surplus key": ({}, {"lr": {"value": 0.1, "min": 0.0}}, "constant does not take 'min'; it takes value"),
    "text bound": ({}, {"lr": {"min": "1e-4", "max": 0.1}}, "a number; YAML reads 1e-3 as text"),
    "bounds reversed": ({}, {"lr": {"min": 0.2, "max": 0.1}}, "min 0.2 is above max 0.1"),
    "log of zero": ({}, {"lr": {"distribution": "log_uniform_values", "min": 0, "max": 1}}, "needs it above 0"),
    "log confused": ({}, {"lr": {"distribution": "log_uniform", "min": 1, "max": 999}}, "exp of these overflows"),
    "q": ({}, {"lr": {"distribution": "q_uniform", "min": 0.1, "max": 1, "q": 0}}, "q is 0, but must be above 0"),
    "no multiple": ({}, {"lr": {"distribution": "q_uniform", "min": 0.1, "max": 0.2, "q": 1}}, "no multiple of q 1"),
    "sigma": ({}, {"lr": {"distribution": "normal", "sigma": -1}}, "sigma is -1, but must be 0 or more"),
    "fractions": ({}, {"n_mels": {"min": 20.0, "max": 40.5}}, "but uniform draws fractions"),
    "text drawn": ({}, {"device": {"min": 1, "max": 2}}, "device is not a number, so int_uniform cannot be used"),
    "out of range": ({}, {"n_mels": {"values": [20, 400]}}, "n_mels is 400, but must be between 1 and 128"),
    "range out of range": ({}, {"n_mels": {"min": 20, "max": 400}}, "n_mels is 400, but must be between 1 and 128"),
    "no values": ({}, {"n_mels": {"values": []}}, "values must be a list of at least one value"),
    "twice": ({}, {"n_mels": {"values": [20, "20"]}}, "lists 20 twice"),
    "probabilities": ({}, {"n_mels": {"values": [20, 40], "probabilities": [1]}}, "one probability for each of its 2"),
    "weights under bayes": (
        {"method": "bayes", "run_cap": 2},
        {"n_mels": {"values": [20, 40], "probabilities": [0.5, 0.5]}},
        "n_mels: method bayes ignores probabilities",
    ),
    "grid of a distribution": ({}, {"lr": {"min": 0.1, "max": 0.2}}, "lr is uniform, which method grid cannot"),
    "grid with weights": ({}, {"seed": {"values": [0], "probabilities": [1]}}, "which method grid cannot enumerate"),
    "huge grid": ({}, {"seed": {"min": 0, "max": 2**31 - 1}}, "more than 100000 values for a grid"),
    "impossible value": ({}, {"groups": {"values": [1, 3]}}, "no trial is possible: groups: 3 does not divide the 8"),
    "swept run_dir": ({}, {"run_dir": {"values": ["a", "b"]}}, "run_dir cannot be swept"),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID, ids=lambda case: case.replace(" ", "-"))
def test_an_invalid_sweep_file_is_rejected_with_the_reason(work, kws, case):
    content, parameters, message = INVALID[case]
    path = write_sweep(work, parameters, **content)
    outcome = kws("sweep", path)
    assert outcome.status == 2 and outcome.out == ""
    [line] = outcome.err.splitlines()
    assert line.startswith(f"kws: {path}: ") and message in line
    assert [file.name for file in work.iterdir()] == ["sweep.yaml"]


@pytest.mark.parametrize("assignment, message", {
    "lr": "--set: 'lr' is not KEY=VALUE",
    "lrr=1": "--set: there is no setting 'lrr'; did you mean lr?",
    "seed=0,x": "--set: seed is 'x', but must be a whole number",
    "n_mels=20,400": "--set: n_mels is 400, but must be between 1 and 128",
}.items())  # fmt: skip
def test_an_invalid_set_is_rejected(work, kws, assignment, message):
    outcome = kws("sweep", write_sweep(work, {"seed": {"values": [0, 1]}}), "--set", assignment)
    assert outcome.status == 2 and message in outcome.err and len(outcome.err.splitlines()) == 1


@pytest.mark.parametrize("text, message", {
    "": "parameters must be a mapping",
    "- 1": "contains a list, not KEY: VALUE lines",
    "method: [grid": "is not valid YAML",
    "method: grid\nparameters: {}": "parameters must be a mapping",
    "method: grid\nparameters:\n  seed: {value: 0}\n  seed: {value: 1}":
        "x.yaml, line 4: is not valid YAML: 'seed' is written twice",
    "method: grid\nparameters: {n_mels: {value: 20}, n-mels: {value: 40}}": "'n-mels' is written twice",
    "method: grid\nmethod: bayes": "line 2: is not valid YAML: 'method' is written twice",
}.items())  # fmt: skip
def test_a_file_that_is_not_a_sweep_is_rejected(work, kws, text, message):
    (work / "x.yaml").write_text(text)
    outcome = kws("sweep", "x.yaml")
    assert outcome.status == 2 and len(outcome.err.splitlines()) == 1
    assert message in outcome.err or "method is" in outcome.err


def test_a_missing_file_is_reported(work, kws):
    assert "kws: sweeps/none.yaml: cannot be read" in kws("sweep", "sweeps/none.yaml").err
