"""The sentences of a report: the answer to a study's question and its conclusions, made from the numbers."""

import math

from kws import metrics
from kws.analysis.records import Split
from kws.analysis.statistics import Difference, Estimate
from kws.analysis.study import FEWEST_SEEDS, SIGNIFICANT, Configuration, Study, concurrent_jobs
from kws.config import SETTINGS
from kws.formatting import count, p_text, percent, percentage_points, value_text

MOST_NAMED = 6  # configurations in one sentence


def answer(study: Study) -> list[str]:
    """Return the answer in two sentences: which configuration to choose and why, and its test accuracy."""
    return [_recommendation(study), _test(study)]


def _recommendation(study: Study) -> str:
    best, best_val = study.best, percent(study.best.val.mean)
    if study.verdict == "nothing compared":
        if len(study.runs) == 1:
            return f"Nothing was compared: there is one run, with {best_val} on validation."
        return (
            f"Nothing was compared: all {len(study.runs)} runs have the same settings except the seed, "
            f"and their mean is {best_val} on validation."
        )
    if study.verdict == "one seed":
        return (
            "No recommendation: with one seed per configuration, a difference cannot be distinguished from chance. "
            f"{best.label} has the highest validation accuracy so far, {best_val}."
        )
    if study.verdict == "too few seeds":
        seeds = len(study.shared_seeds)
        return (
            f"No recommendation yet: only {seeds} {'seed is' if seeds == 1 else 'seeds are'} shared by the compared "
            f"values, and at least {FEWEST_SEEDS} (better 5) are needed. "
            f"{best.label} has the highest mean validation accuracy so far, {best_val}."
        )
    if study.verdict == "clear winner":
        nearest = max(study.comparisons, key=lambda item: item.val.mean)
        others = "the other value" if len(study.comparisons) == 1 else "every other value"
        return (
            f"Choose {best.label}: it {_has_highest(study)}, and {others} is significantly lower; the nearest, "
            f"{nearest.configuration.label}, by {percentage_points(-nearest.val.mean)} points "
            f"({_loss_interval(nearest.val)}, Holm-corrected {p_text(nearest.val.p_holm)})."
        )
    return _cheapest_of_equals(study)


def _cheapest_of_equals(study: Study) -> str:
    best, chosen = study.best, study.recommended
    equals = [item.configuration for item in study.comparisons if not item.is_worse]
    worse = [item.configuration for item in study.comparisons if item.is_worse]
    tail = f"; {_list(worse)} {'is' if len(worse) == 1 else 'are'} significantly lower" if worse else ""
    if chosen is not best:
        difference = next(item.val for item in study.comparisons if item.configuration is chosen)
        most = f"at most {percentage_points(max(0.0, -difference.low))} points lower by the 95 % interval"
        lower = f"{percentage_points(-difference.mean)} points lower" if difference.mean < 0 else "the same"
        return (
            f"Choose {chosen.label}: it is not significantly different from {best.label}, which {_has_highest(study)}, "
            f"and is the cheapest of such values ({count(chosen.flops)} FLOPs against {count(best.flops)}); "
            f"its own mean is {lower} ({most}){tail}."
        )
    if all(configuration.flops == best.flops for configuration in equals):
        is_not, needs = ("is not", "needs") if len(equals) == 1 else ("are not", "need")
        return (
            f"Choose {best.label}: it {_has_highest(study)}, but {_list(equals)} {is_not} significantly different "
            f"and {needs} as many FLOPs ({count(best.flops)}){tail}."
        )
    return (
        f"Choose {best.label}: it {_has_highest(study)} and needs the fewest FLOPs ({count(best.flops)}) of the "
        f"values that are not significantly different from it ({_list(equals)}){tail}."
    )


def _has_highest(study: Study) -> str:
    """Return "has the highest mean validation accuracy (...)" for the best configuration, with any ties."""
    mean = study.best.mean_val_accuracy(study.shared_seeds)
    ties = [item for item in study.compared if item.mean_val_accuracy(study.shared_seeds) == mean]
    ties = [item for item in ties if item is not study.best]
    has = f"has, like {_list(ties)}, the highest" if ties else "has the highest"
    unshared = any(len(item.runs) > len(study.shared_seeds) for item in study.compared)
    seeds = f"{len(study.shared_seeds)} {'shared ' if unshared else ''}seeds"
    return f"{has} mean validation accuracy ({percent(mean)}, {seeds})"


def _test(study: Study) -> str:
    chosen, clips = study.recommended, f"{split_sizes(study, 'test')} test clips"
    if study.runs[0].config.get("resplit"):
        clips += " (different for each seed)"
    scores = f"On the {clips} {chosen.label} {'scores' if chosen.values else 'score'} {percent(chosen.test.mean)}"
    if math.isnan(chosen.test.sd):
        return f"{scores} (one run, no interval)."
    errors = [run.summary.get(metrics.TEST_ERRORS, math.nan) for run in chosen.runs]
    mean = sum(errors) / len(errors)
    return (
        f"{scores} on average over {chosen.test.n} seeds ({_interval(chosen.test)} %), "
        f"{'an unknown number of' if math.isnan(mean) else f'{mean:.1f}'} misclassified clips per run."
    )


def split_sizes(study: Study, split: Split) -> str:
    """Return how many clips the runs had in a split: a range if the seeds differ."""
    sizes = sorted({run.data_info[split] for run in study.runs})
    return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"


def conclusions(study: Study) -> list[str]:
    """Return further sentences: test differences, cost, recommendations at the edge of the range, and caveats."""
    lines = _test_differences(study) if study.recommends else []
    low, high = (pick(study.configurations, key=lambda item: item.flops) for pick in (min, max))
    if high.flops > low.flops:
        lines.append(
            f"The network's FLOPs per clip range from {count(low.flops)} ({low.label}) to {count(high.flops)} "
            f"({high.label}), a factor of {high.flops / low.flops:.1f}."
        )
    return lines + (_edges(study) if study.recommends else []) + _caveats(study)


def _test_differences(study: Study) -> list[str]:
    best = study.best.label
    significant = [item for item in study.comparisons if item.test.p_holm < SIGNIFICANT]
    if not significant:
        widest = max(study.comparisons, key=lambda item: abs(item.test.mean))
        return [
            f"On the test clips no value is significantly different from {best}; the largest difference, "
            f"{widest.configuration.label}, is {percentage_points(widest.test.mean)} points ({_interval(widest.test)})."
        ]
    lines = []
    for item in significant:
        better, interval = ("better", _interval) if item.test.mean > 0 else ("worse", _loss_interval)
        lines.append(
            f"On the test clips {item.configuration.label} is {percentage_points(abs(item.test.mean))} points {better} "
            f"than {best} ({interval(item.test)}, Holm-corrected {p_text(item.test.p_holm)}); not used for selection."
        )
    return lines


def _edges(study: Study) -> list[str]:
    """Return a sentence for each recommended number that is the smallest or the largest tried, but not possible."""
    lines = []
    for name, value in study.recommended.values.items():
        tried = {configuration.values[name] for configuration in study.configurations}
        if any(isinstance(item, bool) or not isinstance(item, (int, float)) for item in tried):
            continue
        limits, this = SETTINGS[name].metadata, f"{name} {value_text(value)}"
        if value == min(tried) < max(tried) and value != limits["low"]:
            lines.append(f"{this} is the smallest value tried; a smaller one may be as good.")
        if value == max(tried) > min(tried) and value != limits["high"]:
            lines.append(f"{this} is the largest value tried; a larger one may be as good.")
    return lines


def _caveats(study: Study) -> list[str]:
    """Return what weakens the comparison: missing or uncompared configurations, several machines or versions."""
    lines = []
    if study.missing:
        missing = "; ".join(study.missing[:12])
        lines.append(f"{len(study.missing)} configurations of the sweep file have no finished run: {missing}.")
    few = [configuration for configuration in study.configurations if configuration not in study.compared]
    if few:
        lines.append(f"Not compared (fewer than {FEWEST_SEEDS} seeds): {_list(few)}.")
    others = ", ".join(sorted(study.sweep_metrics - {metrics.BEST_VAL_ACCURACY}))
    if others:
        lines.append(f"The sweep file's metric is {others}; selection here is by validation accuracy.")
    jobs = concurrent_jobs(study.runs)
    if len(jobs) > 1:
        lines.append(f"Epoch times are not compared: the runs' numbers of concurrent jobs differ ({', '.join(jobs)}).")
    times, results = "epoch times", "results"
    for what, key, effect in (
        ("machines", "host", times),
        ("devices", "device_name", times),
        ("thread counts", "threads", times),
        ("sets of library versions", "versions", results),
    ):
        kinds = {repr(run.config[key]) for run in study.runs if run.config.get(key) is not None}
        if len(kinds) > 1:
            lines.append(f"The runs used {len(kinds)} {what}: compare their {effect} with care.")
    return lines


def _interval(item: Estimate | Difference) -> str:
    return f"95 % interval {percentage_points(item.low)} to {percentage_points(item.high)}"


def _loss_interval(difference: Difference) -> str:
    return f"95 % interval {percentage_points(-difference.high)} to {percentage_points(-difference.low)}"


def _list(configurations: list[Configuration]) -> str:
    labels = [configuration.label for configuration in configurations]
    if len(labels) > MOST_NAMED:
        labels = [*labels[: MOST_NAMED - 1], f"{len(labels) - MOST_NAMED + 1} others"]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
