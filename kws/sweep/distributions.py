"""W&B's parameter distributions: what a sweep file may specify for one setting, and the values that result.

The names and defaults are those of https://docs.wandb.ai/models/sweeps/sweep-config-keys. Values are drawn through
the quantile (the inverse of the cumulative distribution), so one formula per form serves random and bayes.
"""

import math
from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import NormalDist
from typing import Any

from kws.config import SETTINGS, checked
from kws.errors import KwsError
from kws.formatting import one_line

MAX_TRIALS = 100_000  # of one sweep
Value = bool | int | float | str | tuple[str, ...]  # of a setting
Numbers = dict[str, float]

# Form (W&B's `distribution`): the keys that it requires, and optional keys with their defaults.
RANGE = ("min", "max")
NORMAL: Numbers = {"mu": 0.0, "sigma": 1.0}
STEP: Numbers = {"q": 1}  # an int, so that multiples of it are whole numbers
FORMS: dict[str, tuple[tuple[str, ...], Numbers]] = {
    "constant": (("value",), {}),
    "categorical": (("values",), {}),
    "categorical_w_probabilities": (("values", "probabilities"), {}),
    **{form: (RANGE, {}) for form in ("int_uniform", "uniform", "log_uniform", "log_uniform_values")},
    **{form: (RANGE, {}) for form in ("inv_log_uniform", "inv_log_uniform_values")},
    **{form: (RANGE, STEP) for form in ("q_uniform", "q_log_uniform", "q_log_uniform_values")},
    **{form: ((), NORMAL) for form in ("normal", "log_normal")},
    **{form: ((), NORMAL | STEP) for form in ("q_normal", "q_log_normal")},
}
CHOICES = ("constant", "categorical", "categorical_w_probabilities")
EXPONENTS = ("log_uniform", "q_log_uniform", "inv_log_uniform")  # min and max are logarithms


@dataclass(frozen=True)
class Parameter:
    """One setting of a sweep. `numbers` are its form's min, max, mu, sigma and q."""

    name: str
    form: str
    values: tuple[Value, ...] = ()
    probabilities: tuple[float, ...] = ()
    numbers: Numbers = field(default_factory=dict)

    @property
    def is_fixed(self) -> bool:
        """Whether all trials have the same value."""
        return self.form == "constant"

    def quantile(self, u: float) -> Value:
        """Return the value below which a fraction `u` of the draws lies, 0 <= u <= 1; for choices, one of `values`."""
        if self.form in CHOICES:
            return self._choice(u)
        numbers = self.numbers
        low, high = _bounds(self.form, numbers)
        if self.form == "int_uniform":
            return min(low + int(u * (high - low + 1)), high)
        if "sigma" in numbers:
            # The quantiles of 0 and 1 are infinite: clip them at one draw in 10^12.
            value = numbers["mu"] + numbers["sigma"] * NormalDist().inv_cdf(min(max(u, 1e-12), 1 - 1e-12))
            value = math.exp(value) if "log_" in self.form else value
        elif "log_" in self.form:
            value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        else:
            value = low + u * (high - low)
        value = min(max(value, low), high)
        return _to_multiple(value, numbers["q"], low, high) if "q" in numbers else value

    def _choice(self, u: float) -> Value:
        sums = list(accumulate(self.probabilities or (1,) * len(self.values)))
        return self.values[min(bisect(sums, u * sums[-1]), sums.index(sums[-1]))]  # the last one that has a weight

    def grid(self, where: str) -> tuple[Value, ...]:
        """Return all values, as W&B's grid search enumerates them. Raises KwsError if the form is continuous."""
        if self.form in ("constant", "categorical"):
            return self.values
        place = f"{where}: {self.name}"
        if self.form not in ("int_uniform", "q_uniform"):
            hint = "list values, or use method random or bayes"
            raise KwsError(f"{place} is {self.form}, which method grid cannot enumerate; {hint}")
        low, q = self.numbers["min"], self.numbers.get("q", 1)
        steps = (self.numbers["max"] - low) / q
        if steps > MAX_TRIALS:
            raise KwsError(f"{place}: more than {MAX_TRIALS} values for a grid; list fewer")
        # W&B's grid excludes the max of q_uniform.
        count = math.ceil(steps - 1e-9) if self.form == "q_uniform" else int(steps) + 1
        return tuple(_tidy(low + step * q) for step in range(count))


def read_parameter(name: str, spec: object, where: str) -> Parameter:
    """Return the Parameter that `spec` (the mapping under `name` in a sweep file) describes.

    Raises KwsError if W&B has no such distribution, the setting does not accept a value, or the distribution cannot
    give values of the setting's type.
    """
    place = f"{where}: {name}"
    if not isinstance(spec, dict):
        raise KwsError(f"{place} is {one_line(spec)!r}; write a mapping such as {{value: …}} or {{values: […]}}")
    if "parameters" in spec:
        raise KwsError(f"{place}: nested parameters are not supported; all settings are flat")
    form = spec.get("distribution", _implied_form(spec))
    if form is None:
        raise KwsError(f"{place}: has no value, values, min and max, or distribution; add one of them")
    if not isinstance(form, str) or form not in FORMS:
        raise KwsError(f"{place}: distribution {one_line(form)!r} is not supported; use one of {', '.join(FORMS)}")
    required, optional = FORMS[form]
    given = {key: value for key, value in spec.items() if key != "distribution"}
    for key in required:
        if key not in given:
            raise KwsError(f"{place}: {form} needs {' and '.join(required)}, but {key} is missing")
    allowed = (*required, *optional)
    for key in given:
        if key not in allowed:
            raise KwsError(f"{place}: {form} does not take {one_line(key)!r}; it takes {', '.join(allowed)}")
    if form in CHOICES:
        return _read_choices(name, form, given, where)
    return _read_numbers(name, form, {**optional, **given}, where)


def _implied_form(spec: Mapping[str, Any]) -> str | None:
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    if "min" in spec and "max" in spec:
        return "int_uniform" if isinstance(spec["min"], int) and isinstance(spec["max"], int) else "uniform"
    return None


def _read_choices(name: str, form: str, given: Mapping[str, Any], where: str) -> Parameter:
    place = f"{where}: {name}"
    listed = [given["value"]] if form == "constant" else given["values"]
    if not isinstance(listed, list) or not listed:
        raise KwsError(f"{place}: values must be a list of at least one value")
    values = tuple(checked(name, value, where) for value in listed)
    if len(set(values)) != len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise KwsError(f"{place}: lists {one_line(twice)} twice; remove one")
    if form != "categorical_w_probabilities":
        return Parameter(name, form, values)
    weights = given["probabilities"]
    if not isinstance(weights, list) or len(weights) != len(values):
        raise KwsError(f"{place}: needs one probability for each of its {len(values)} values")
    probabilities = tuple(_number(place, "probabilities", item) for item in weights)
    if min(probabilities) < 0 or sum(probabilities) <= 0:
        raise KwsError(f"{place}: probabilities must be 0 or more, and one above 0")
    return Parameter(name, form, values, probabilities)


def _read_numbers(name: str, form: str, given: Mapping[str, object], where: str) -> Parameter:
    place = f"{where}: {name}"
    kind = SETTINGS[name].type
    if kind not in (int, float):
        raise KwsError(f"{place} is not a number, so {form} cannot be used for it; list values")
    numbers = {key: _number(place, key, value) for key, value in given.items()}
    if numbers.get("q", 1) <= 0:
        raise KwsError(f"{place}: q is {numbers['q']:g}, but must be above 0")
    if numbers.get("sigma", 1) < 0:
        raise KwsError(f"{place}: sigma is {numbers['sigma']:g}, but must be 0 or more")
    whole = form == "int_uniform" or isinstance(numbers.get("q"), int)
    if kind is int and not whole:
        raise KwsError(f"{place} takes whole numbers, but {form} draws fractions; use int_uniform or a q_ form")
    if form == "int_uniform" and not all(isinstance(value, int) for value in numbers.values()):
        raise KwsError(f"{place}: int_uniform needs whole numbers as min and max")
    parameter = Parameter(name, form, numbers=numbers)
    if "min" in numbers:
        _check_range(place, form, numbers)
        checked(name, parameter.quantile(0.0), where)
        checked(name, parameter.quantile(1.0), where)
    return parameter


def _check_range(place: str, form: str, numbers: Numbers) -> None:
    if numbers["min"] > numbers["max"]:
        raise KwsError(f"{place}: min {numbers['min']:g} is above max {numbers['max']:g}")
    if "log" in form and form not in EXPONENTS and numbers["min"] <= 0:
        raise KwsError(f"{place}: min is {numbers['min']:g}, but a logarithm needs it above 0")
    try:
        low, high = _bounds(form, numbers)
    except OverflowError:
        raise KwsError(f"{place}: {form} takes logarithms as min and max, and exp of these overflows") from None
    if "q" in numbers and math.floor(high / numbers["q"] + 1e-9) < math.ceil(low / numbers["q"] - 1e-9):
        raise KwsError(f"{place}: no multiple of q {numbers['q']:g} is between {low:g} and {high:g}")


def _number(place: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        hint = "; YAML reads 1e-3 as text, write 0.001" if isinstance(value, str) else ""
        raise KwsError(f"{place}: {key} is {one_line(value)!r}, but must be a number{hint}")
    return value


def _bounds(form: str, numbers: Numbers) -> tuple[float, float]:
    low, high = numbers.get("min", -math.inf), numbers.get("max", math.inf)
    if form == "inv_log_uniform":  # log(1/x) is between min and max
        return math.exp(-high), math.exp(-low)
    if form in EXPONENTS:
        return math.exp(low), math.exp(high)
    return low, high


def _to_multiple(value: float, q: float, low: float, high: float) -> float:
    lowest = math.ceil(low / q - 1e-9) if math.isfinite(low) else -math.inf
    highest = math.floor(high / q + 1e-9) if math.isfinite(high) else math.inf
    count = min(max(round(value / q), lowest), highest)
    return min(max(_tidy(count * q), low), high)


def _tidy(value: float) -> float:
    # 3 * 0.1 is 0.30000000000000004; whole numbers stay whole.
    return value if isinstance(value, int) else float(f"{value:.12g}")
