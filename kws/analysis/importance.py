"""How much each setting of a search matters: functional analysis of variance (fANOVA) with Optuna."""

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MOST_LEVELS = 10  # more different numbers are a continuous range
DEEPEST = 8  # levels of a tree: at most 256 leaves, which bounds the time for a thousand runs


def importance(settings: Mapping[str, Sequence[Any]], scores: Sequence[float]) -> dict[str, float]:
    """Return {setting: share of the scores' variance that it explains by itself}, the largest share first.

    `settings` has the values of each setting, (runs,). A random forest is fitted to the runs, and the variance is
    that of its predictions over the whole space, where all values of a setting count alike. So it does not matter
    that a sampler such as TPE tried some of them more often, as long as the forest predicts well, which it cannot where
    settings changed together in few runs. What the shares lack to 1 is due to interactions.
    Source: Hutter, Hoos and Leyton-Brown 2014, ICML.
    """
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    if not settings or len(set(scores)) < 2:
        return dict.fromkeys(settings, 0.0)
    columns = {name: _column(values) for name, values in settings.items()}
    distributions = {name: distribution for name, (_, distribution) in columns.items()}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    for index, score in enumerate(scores):
        values = {name: column[index] for name, (column, _) in columns.items()}
        study.add_trial(optuna.trial.create_trial(params=values, distributions=distributions, value=score))
    forest = FanovaImportanceEvaluator(max_depth=DEEPEST, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of normalize: the shares add up to 1
        return get_param_importances(study, evaluator=forest, normalize=False)


def _column(values: Sequence[Any]) -> tuple[Sequence[float], "BaseDistribution"]:
    """Return a setting's values as numbers, and their range, which is on a log scale if it spans a factor of ten."""
    from optuna.distributions import FloatDistribution, IntDistribution

    levels = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    if len(levels) <= MOST_LEVELS or not isinstance(levels[-1], (int, float)):
        return [levels.index(value) for value in values], IntDistribution(0, len(levels) - 1)
    low, high = float(levels[0]), float(levels[-1])
    return [float(value) for value in values], FloatDistribution(low, high, log=low > 0 and high >= 10 * low)
