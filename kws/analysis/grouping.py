"""Which runs belong together in a study, and which configurations of their sweep files no run gives."""

from kws.config import IDENTITY_SETTINGS
from kws.errors import KwsError
from kws.formatting import value_text
from kws.sweep.distributions import read_parameter
from kws.sweep.spec import expand_grid


def split_by_sweep(runs, sweeps):
    """Return [(variant, runs)] of one study's runs, apart where a setting that no sweep varies has another value.

    A sweep file run again with `--set epochs=3` asks another question than with 20 epochs. `variant` holds these
    settings, as {"epochs": 3}, and is empty where there are none. Without a sweep file all runs belong together.
    """
    known = [sweeps[run.sweep_id] for run in runs if run.sweep_id in sweeps]
    if not known:
        return [({}, runs)]
    swept = {name for sweep in known for name in _swept(sweep)} | {"seed"}
    for sweep_id in {run.sweep_id for run in runs} - {""}:
        of_one = [run for run in runs if run.sweep_id == sweep_id]
        swept |= {name for name in IDENTITY_SETTINGS if len({repr(run.config.get(name)) for run in of_one}) > 1}
    fixed = [name for name in IDENTITY_SETTINGS if name not in swept]
    groups = {}
    for run in runs:
        groups.setdefault(tuple(repr(run.config.get(name)) for name in fixed), []).append(run)
    apart = [name for place, name in enumerate(fixed) if len({values[place] for values in groups}) > 1]
    return [({name: group[0].config.get(name) for name in apart}, group) for group in groups.values()]


def _swept(sweep):
    """Return the names of the settings that a sweep file varies."""
    return [name for name, item in _parameters(sweep).items() if "value" not in item]


def _parameters(sweep):
    """Return {name: specification} of the settings that tell a run's configuration."""
    return {name: item for name, item in (sweep.get("parameters") or {}).items() if name in IDENTITY_SETTINGS}


def missing_configurations(sweep, runs):
    """Return the names of the configurations that a grid's sweep file asks for and no run gives; a search has none to miss."""
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
    shown = [name for name in parameters if len({item[name] for item in configurations}) > 1] or list(parameters)
    return [", ".join(f"{name} {value_text(item[name])}" for name in shown) for item in missing]
