"""Which runs form a study, and which configurations of its sweep files have no finished run."""

from collections.abc import Iterable, Mapping
from typing import Any

from kws.analysis.records import RunRecord, Sweeps
from kws.config import IDENTITY_SETTINGS
from kws.errors import KwsError
from kws.formatting import value_text
from kws.sweep.distributions import read_parameter
from kws.sweep.spec import expand_grid

# The settings that may differ in one study. Other words, or another order of them, are other labels.
COMPARABLE = tuple(name for name in IDENTITY_SETTINGS if name != "words")
OF_THE_DATA = ("data", "words", "unknown", "silence", "resplit")


def group_by_study(runs: Iterable[RunRecord], sweeps: Sweeps) -> list[tuple[dict[str, Any], list[RunRecord]]]:
    """Return [(variant, runs)], one for each study name, data set and choice of the settings that are kept fixed."""
    groups: dict[tuple[str, str, bool], list[RunRecord]] = {}
    for run in runs:
        key = (run.study, run.data_info["fingerprint"], bool(run.data_info.get("synthetic")))
        groups.setdefault(key, []).append(run)
    found = [item for group in groups.values() for item in split_by_sweep(group, sweeps)]
    return [(_of_the_data(study, found) | variant, study) for variant, study in found]


def _of_the_data(study: list[RunRecord], found: list[tuple[dict[str, Any], list[RunRecord]]]) -> dict[str, Any]:
    """Return the settings of a study's data in which it differs from another study of its name."""
    config, varied = study[0].config, varied_settings(study)
    others = [runs[0].config for _, runs in found if runs[0].study == study[0].study]
    return {
        name: config.get(name)
        for name in OF_THE_DATA
        if name not in varied and any(other.get(name) != config.get(name) for other in others)
    }


def split_by_sweep(runs: list[RunRecord], sweeps: Sweeps) -> list[tuple[dict[str, Any], list[RunRecord]]]:
    """Return [(variant, runs)]: the runs of one study name, split where a setting differs that no sweep varies.

    A sweep file run with `--set epochs=3` asks a different question than with 20 epochs. `variant` has these settings,
    for example {"epochs": 3}; it is empty if there are none. Without a sweep file only the words split runs.
    """
    known = [sweeps[run.sweep_id] for run in runs if run.sweep_id in sweeps]
    swept = {name for sweep in known for name, item in _parameters(sweep).items() if "value" not in item}
    swept |= {"seed"} if known else set(COMPARABLE)
    for sweep_id in {run.sweep_id for run in runs} - {""}:
        swept |= set(varied_settings(run for run in runs if run.sweep_id == sweep_id))
    fixed = [name for name in IDENTITY_SETTINGS if name not in swept]
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(tuple(repr(run.config.get(name)) for name in fixed), []).append(run)
    differing = [name for index, name in enumerate(fixed) if len({values[index] for values in groups}) > 1]
    return [({name: group[0].config.get(name) for name in differing}, group) for group in groups.values()]


def varied_settings(runs: Iterable[RunRecord]) -> list[str]:
    """Return the comparable settings, including the seed, that have more than one value in `runs`."""
    runs = list(runs)
    return [name for name in COMPARABLE if len({repr(run.config.get(name)) for run in runs}) > 1]


def _parameters(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Return {name: specification} of a sweep's comparable settings, in the order of kws sweep: W&B keeps none."""
    given = sweep.get("parameters") or {}
    return {name: given[name] for name in ("seed", *COMPARABLE) if name in given}


def missing_configurations(sweep: Mapping[str, Any], runs: Iterable[RunRecord]) -> list[str]:
    """Return the names of a grid's configurations that no run covers; [] for a random or bayes sweep."""
    if sweep.get("method", "grid") != "grid":
        return []
    try:
        parameters = {name: read_parameter(name, item, "sweep file") for name, item in _parameters(sweep).items()}
        configurations = list(expand_grid(parameters, "sweep file"))
    except KwsError:  # such a file cannot be run
        return []
    done = {tuple(run.config.get(name) for name in parameters) for run in runs}
    cap = sweep.get("run_cap") or len(configurations)
    if sum(tuple(configuration.values()) in done for configuration in configurations) >= cap:
        return []
    missing = [item for item in configurations[:cap] if tuple(item.values()) not in done]
    names = [name for name in COMPARABLE if name in parameters]
    shown = [name for name in names if len({item[name] for item in configurations}) > 1] or names
    return [", ".join(f"{name} {value_text(item[name])}" for name in shown) for item in missing]
