"""W&B's parameter forms: what a sweep file may say about one setting, and the values that this stands for.

The forms and their defaults are those of https://docs.wandb.ai/models/sweeps/sweep-config-keys. A draw goes
through the quantile (the inverse of the cumulative distribution), so one formula a form serves random and bayes.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from kws.config import SETTINGS, checked
from kws.errors import KwsError
from kws.formatting import one_line

Value = bool | int | float | str | tuple[str, ...]  # of a setting

# Form: keys that it must have, and keys that it may have with their defaults.
FORMS = {
    "constant": (("value",), {}),
    "categorical": (("values",), {}),
    "categorical_w_probabilities": (("values", "probabilities"), {}),
    "int_uniform": (("min", "max"), {}),
    "uniform": (("min", "max"), {}),
    "q_uniform": (("min", "max"), {"q": 1}),
    "log_uniform": (("min", "max"), {}),
    "q_log_uniform": (("min", "max"), {"q": 1}),
    "inv_log_uniform": (("min", "max"), {}),
    "log_uniform_values": (("min", "max"), {}),
    "q_log_uniform_values": (("min", "max"), {"q": 1}),
    "inv_log_uniform_values": (("min", "max"), {}),
    "normal": ((), {"mu": 0.0, "sigma": 1.0}),
    "q_normal": ((), {"mu": 0.0, "sigma": 1.0, "q": 1}),
    "log_normal": ((), {"mu": 0.0, "sigma": 1.0}),
    "q_log_normal": ((), {"mu": 0.0, "sigma": 1.0, "q": 1}),
}
CHOICES = ("constant", "categorical", "categorical_w_probabilities")
# The formats' min and max are logarithms in log_uniform and inv_log_uniform, values in the others.
EXPONENTS = ("log_uniform", "q_log_uniform", "inv_log_uniform")


@dataclass(frozen=True)
class Parameter:
    """One setting of a sweep: `form` is W&B's distribution, `numbers` its min, max, mu, sigma and q."""

    name: str
    form: str
    values: tuple = ()
    probabilities: tuple = ()
    numbers: tuple = ()

    @property
    def is_fixed(self):
        """Whether every run gets one same value."""
        return self.form == "constant"

    def quantile(self, u):
        """Return the value below which the share `u` of the draws lies, 0 <= u <= 1; one of `values` for choices."""
        if self.form in CHOICES:
            weights = self.probabilities or (1,) * len(self.values)
            rest = u * sum(weights)
            for value, weight in zip(self.values, weights, strict=True):
                rest -= weight
                if weight and rest < 0:
                    return value
            return next(value for value, weight in zip(self.values[::-1], weights[::-1], strict=True) if weight)
        numbers = dict(self.numbers)
        if "sigma" in numbers:
            # The tails beyond one draw in 10^12 are infinitely far: cut them.
            value = numbers["mu"] + numbers["sigma"] * NormalDist().inv_cdf(min(max(u, 1e-12), 1 - 1e-12))
            value = math.exp(value) if "log_" in self.form else value
            low, high = -math.inf, math.inf
        else:
            low, high = _bounds(self.form, numbers)
            if self.form == "int_uniform":
                return min(low + int(u * (high - low + 1)), high)
            if "log_" in self.form:
                value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
            else:
                value = low + u * (high - low)
            value = min(max(value, low), high)
        return _to_multiple(value, numbers["q"], low, high) if "q" in numbers else value

    def grid(self, where):
        """Return all the values, as W&B's grid search takes them. Raises KwsError where the form has too many."""
        numbers = dict(self.numbers)
        if self.form in ("constant", "categorical"):
            return self.values
        if self.form == "int_uniform":
            return tuple(range(numbers["min"], numbers["max"] + 1))
        if self.form == "q_uniform":  # W&B's grid leaves max out
            steps = math.ceil((numbers["max"] - numbers["min"]) / numbers["q"] - 1e-9)
            return tuple(_tidy(numbers["min"] + step * numbers["q"]) for step in range(steps))
        raise KwsError(
            f"{where}: {self.name} is {self.form}, which method grid cannot enumerate; "
            "list values, or take method random or bayes"
        )


def read_parameter(name, spec, where):
    """Return the Parameter that `spec` (the mapping under `name` in a sweep file) means.

    Raises KwsError at a form that W&B does not have, at a value that the setting does not take, and at a
    distribution that cannot give values of the setting's type.
    """
    place = f"{where}: {name}"
    if not isinstance(spec, dict):
        raise KwsError(f"{place} is {one_line(spec)!r}; write a mapping such as {{value: …}} or {{values: […]}}")
    if "parameters" in spec:
        raise KwsError(f"{place}: nested parameters have no setting to go to; settings are flat")
    form = spec.get("distribution", _implied_form(spec))
    if form not in FORMS:
        known = ", ".join(FORMS)
        raise KwsError(f"{place}: {_form_problem(form)}; known: {known}")
    required, optional = FORMS[form]
    given = {key: value for key, value in spec.items() if key != "distribution"}
    for key in required:
        if key not in given:
            raise KwsError(f"{place}: {form} needs {' and '.join(required)}, but {key} is missing")
    for key in given:
        if key not in required and key not in optional:
            allowed = ", ".join((*required, *optional))
            raise KwsError(f"{place}: {form} does not take {one_line(key)!r}; it takes {allowed}")
    if form in CHOICES:
        return _read_choices(name, form, given, where)
    return _read_numbers(name, form, {**optional, **given}, where)


def _implied_form(spec):
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    if "min" in spec and "max" in spec:
        whole = all(isinstance(spec[key], int) for key in ("min", "max"))
        return "int_uniform" if whole else "uniform"
    return None


def _form_problem(form):
    if form is None:
        return "says neither value nor values nor min and max nor a distribution"
    if form in ("beta", "q_beta"):
        return f"the distribution {form} is not carried out here"
    return f"there is no distribution {one_line(form)!r}"


def _read_choices(name, form, given, where):
    values = [given["value"]] if form == "constant" else given["values"]
    if not isinstance(values, list) or not values:
        raise KwsError(f"{where}: {name}: values must be a list of at least one value")
    values = tuple(checked(name, value, where) for value in values)
    if len(set(values)) != len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise KwsError(f"{where}: {name}: lists {one_line(twice)} twice; a cell is run once")
    probabilities = given.get("probabilities", ())
    if form == "categorical_w_probabilities":
        if not isinstance(probabilities, list) or len(probabilities) != len(values):
            raise KwsError(f"{where}: {name}: needs one probability for each of its {len(values)} values")
        probabilities = tuple(_number(name, "probabilities", item, where) for item in probabilities)
        if min(probabilities) < 0 or sum(probabilities) <= 0:
            raise KwsError(f"{where}: {name}: probabilities must be 0 or more, and one above 0")
    return Parameter(name, form, values=values, probabilities=probabilities)


def _read_numbers(name, form, given, where):
    place = f"{where}: {name}"
    kind = SETTINGS[name].type
    if kind not in (int, float):
        raise KwsError(f"{place} is no number, so {form} cannot be drawn for it; list values")
    numbers = {key: _number(name, key, value, where) for key, value in given.items()}
    if numbers.get("q", 1) <= 0:
        raise KwsError(f"{place}: q is {numbers['q']:g}, but must be above 0")
    if numbers.get("sigma", 1) < 0:
        raise KwsError(f"{place}: sigma is {numbers['sigma']:g}, but must be 0 or more")
    whole = form == "int_uniform" or isinstance(numbers.get("q"), int)
    if kind is int and not whole:
        raise KwsError(f"{place} takes whole numbers, but {form} draws fractions; use int_uniform or a q_ form")
    if form == "int_uniform" and not all(isinstance(value, int) for value in numbers.values()):
        raise KwsError(f"{place}: int_uniform needs whole numbers as min and max")
    parameter = Parameter(name, form, numbers=tuple(sorted(numbers.items())))
    if "min" in numbers:
        if numbers["min"] > numbers["max"]:
            raise KwsError(f"{place}: min {numbers['min']:g} is above max {numbers['max']:g}")
        if "log" in form and form not in EXPONENTS and numbers["min"] <= 0:
            raise KwsError(f"{place}: min is {numbers['min']:g}, but a logarithm needs it above 0")
        try:
            low, high = _bounds(form, numbers)
        except OverflowError:
            raise KwsError(f"{place}: {form} takes logarithms as min and max, and exp of these overflows") from None
        if "q" in numbers and math.floor(high / numbers["q"] + 1e-9) < math.ceil(low / numbers["q"] - 1e-9):
            raise KwsError(f"{place}: no multiple of q {numbers['q']:g} lies between {low:g} and {high:g}")
        for u in (0.0, 1.0):
            checked(name, parameter.quantile(u), where)
    return parameter


def _number(name, key, value, where):
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        hint = "; YAML reads 1e-3 as text, write 0.001" if isinstance(value, str) else ""
        raise KwsError(f"{where}: {name}: {key} is {one_line(value)!r}, but must be a number{hint}")
    return value


def _bounds(form, numbers):
    low, high = numbers["min"], numbers["max"]
    if form == "inv_log_uniform":  # log(1/x) lies between min and max
        return math.exp(-high), math.exp(-low)
    if form in EXPONENTS:
        return math.exp(low), math.exp(high)
    return low, high


def _to_multiple(value, q, low, high):
    lowest = math.ceil(low / q - 1e-9) if math.isfinite(low) else -math.inf
    highest = math.floor(high / q + 1e-9) if math.isfinite(high) else math.inf
    count = min(max(round(value / q), lowest), highest)
    return min(max(_tidy(count * q), low), high)


def _tidy(value):
    # 3 * 0.1 is 0.30000000000000004; whole numbers stay whole.
    return value if isinstance(value, int) else float(f"{value:.12g}")
