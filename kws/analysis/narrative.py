"""What a study's numbers say, in sentences: every one made from the numbers, other numbers, other sentence."""

import math

from kws import metrics
from kws.analysis.study import FEWEST_SEEDS, SIGNIFICANT, is_worse, shared_mean
from kws.config import SETTINGS
from kws.formatting import count, p_text, percent, percentage_points, value_text

MOST_NAMED = 6  # configurations in one sentence


def _interval(item):
    return f"95 % interval {percentage_points(item.low)} to {percentage_points(item.high)}"


def _list(configurations):
    labels = [configuration.label for configuration in configurations]
    if len(labels) > MOST_NAMED:
        labels = [*labels[: MOST_NAMED - 1], f"{len(labels) - MOST_NAMED + 1} others"]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def answer(study):
    """Return the answer in two sentences: what to take and why, and what it scores on the test clips."""
    return [_recommendation(study), _test(study)]


def _recommendation(study):
    best, taken = study.best, study.recommended
    if study.verdict == "nothing compared":
        return (
            f"Nothing was compared: all {len(study.runs)} runs have the same settings but for the seed, "
            f"and reach {percent(best.val.mean)} on validation."
            if len(study.runs) > 1
            else f"Nothing was compared: there is one run, with {percent(best.val.mean)} on validation."
        )
    if study.verdict == "one seed":
        return (
            f"No recommendation: with one seed a configuration, a difference cannot be told from chance. "
            f"{best.label} has the highest validation accuracy so far, {percent(best.val.mean)}."
        )
    if study.verdict == "too few seeds":
        seeds = len(study.shared_seeds)
        shared = "1 seed is" if seeds == 1 else f"{seeds} seeds are"
        return (
            f"No recommendation yet: only {shared} shared by the compared values, "
            f"and at least {FEWEST_SEEDS} (better 5) are needed. "
            f"{best.label} has the highest mean validation accuracy so far, {percent(best.val.mean)}."
        )
    seeds = f"{len(study.shared_seeds)} {'shared ' if any_more(study) else ''}seeds"
    scores = f"mean validation accuracy ({percent(shared_mean(study, best))}, {seeds})"
    ties = [
        configuration
        for configuration in study.compared
        if configuration is not best and shared_mean(study, configuration) == shared_mean(study, best)
    ]
    has = f"has, as {_list(ties)} {'does' if len(ties) == 1 else 'do'}, the highest" if ties else "has the highest"
    if study.verdict == "clear winner":
        nearest = max(study.comparisons, key=lambda item: item.val.mean)
        rest = "the other value" if len(study.comparisons) == 1 else "every other value"
        return (
            f"Take {best.label}: it {has} {scores}, and {rest} is distinguishably lower, the nearest, "
            f"{nearest.configuration.label}, by {percentage_points(-nearest.val.mean)} points "
            f"({_loss_interval(nearest.val)}, Holm-corrected {p_text(nearest.val.p_holm)})."
        )
    equals = [item.configuration for item in study.comparisons if not is_worse(item)]
    worse = [item.configuration for item in study.comparisons if is_worse(item)]
    tail = f"; {_list(worse)} {'is' if len(worse) == 1 else 'are'} distinguishably lower" if worse else ""
    if taken is best:
        if all(configuration.flops == best.flops for configuration in equals):
            return (
                f"Take {best.label}: it {has} {scores}, but {_list(equals)} cannot be told from it and "
                f"{'needs' if len(equals) == 1 else 'need'} as many FLOPs ({count(best.flops)}){tail}."
            )
        return (
            f"Take {best.label}: it {has} {scores} and needs the fewest FLOPs ({count(best.flops)}) of the "
            f"values that cannot be told from it ({_list(equals)}){tail}."
        )
    mine = next(item for item in study.comparisons if item.configuration is taken)
    mean = (
        f"{percentage_points(-mine.val.mean)} points lower (at most"
        if mine.val.mean < 0
        else "the same (at most lower by"
    )
    return (
        f"Take {taken.label}: it cannot be told from {best.label}, which {has} {scores}, and is the cheapest "
        f"of those that cannot ({count(taken.flops)} FLOPs against {count(best.flops)}); its own mean is "
        f"{mean} {percentage_points(max(0.0, -mine.val.low))} by the 95 % interval){tail}."
    )


def any_more(study):
    """Whether a compared configuration has seeds that not all of them share."""
    return any(configuration.val.n > len(study.shared_seeds) for configuration in study.compared)


def _loss_interval(difference):
    return f"95 % interval {percentage_points(-difference.high)} to {percentage_points(-difference.low)}"


def _test(study):
    configuration, where = study.recommended, f"On the {clips_tested(study)} test clips"
    label, scores = (configuration.label, "scores") if configuration.values else (configuration.label, "score")
    if math.isnan(configuration.test.sd):
        return f"{where} {label} {scores} {percent(configuration.test.mean)} (one run, no interval)."
    return (
        f"{where} {label} {scores} {percent(configuration.test.mean)} in the mean of {configuration.test.n} seeds "
        f"({_interval(configuration.test)} %), {wrong_clips(configuration)} wrong clips a run."
    )


def clips_tested(study):
    """Return how many test clips a run had, as text: seeds that deal the speakers anew may differ."""
    return split_sizes(study, "test") + (" (of each seed's own)" if study.runs[0].config.get("resplit") else "")


def split_sizes(study, split):
    """Return how many clips the runs had in "train", "val" or "test", as text."""
    sizes = sorted({run.data_info[split] for run in study.runs})
    return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"


def wrong_clips(configuration):
    """Return the mean number of test errors a run, as short text."""
    errors = [run.summary.get(metrics.TEST_ERRORS, math.nan) for run in configuration.runs]
    mean = sum(errors) / len(errors)
    return "an unknown number of" if math.isnan(mean) else f"{mean:.1f}"


def conclusions(study):
    """Return further sentences: test differences, cost, the edge of what was tried, what weakens the comparison."""
    lines = []
    seen = [item for item in study.comparisons if item.test.p_holm < SIGNIFICANT]
    if study.recommends and not seen:
        widest = max(study.comparisons, key=lambda item: abs(item.test.mean))
        lines.append(
            f"On the test clips no value differs distinguishably from {study.best.label}; the largest difference, "
            f"{widest.configuration.label}, is {percentage_points(widest.test.mean):} points ({_interval(widest.test)})."
        )
    for item in seen if study.recommends else ():
        better, interval = ("better", _interval) if item.test.mean > 0 else ("worse", _loss_interval)
        lines.append(
            f"On the test clips {item.configuration.label} is {percentage_points(abs(item.test.mean))} points {better} than "
            f"{study.best.label} ({interval(item.test)}, Holm-corrected {p_text(item.test.p_holm)}). "
            "The choice does not rest on this."
        )
    cheapest, most_expensive = (
        pick(study.configurations, key=lambda configuration: configuration.flops) for pick in (min, max)
    )
    if most_expensive.flops > cheapest.flops:
        lines.append(
            f"FLOPs of the network for one clip go from {count(cheapest.flops)} ({cheapest.label}) to "
            f"{count(most_expensive.flops)} ({most_expensive.label}), {most_expensive.flops / cheapest.flops:.1f} times as many."
        )
    lines += _edges(study) if study.recommends else []
    return lines + caveats(study)


def _edges(study):
    lines = []
    for name, value in study.recommended.values.items():
        tried = sorted({configuration.values[name] for configuration in study.configurations}, key=str)
        if len(tried) > 1 and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in tried):
            limits = (SETTINGS[name].metadata["low"], SETTINGS[name].metadata["high"])
            if value in (min(tried), max(tried)) and value not in limits:
                side = "smallest" if value == min(tried) else "largest"
                further = "smaller" if value == min(tried) else "larger"
                lines.append(f"{name} {value_text(value)} is the {side} value tried: a {further} one may do as well.")
    return lines


def caveats(study):
    """Return what weakens the comparison: configurations missing or with few seeds, several machines, versions, devices."""
    lines = []
    if study.missing:
        lines.append(
            f"{len(study.missing)} configurations of the sweep file have no finished run: {'; '.join(study.missing[:12])}."
        )
    few = [configuration for configuration in study.configurations if configuration not in study.compared]
    if few:
        lines.append(f"Not compared, with fewer than {FEWEST_SEEDS} seeds: {_list(few)}.")
    others = {sweep_metric for sweep_metric in study.metrics if sweep_metric != metrics.BEST_VAL_ACCURACY}
    if others:
        lines.append(
            f"The sweep file's metric is {', '.join(sorted(others))}; the choice here is by validation accuracy."
        )
    times, results = "their epoch times", "their results"
    for what, key, effect in (
        ("machines", "host", times),
        ("devices", "device_name", times),
        ("numbers of threads", "threads", times),
        ("ways of making features (ahead of their batch, or not)", "features_prefetched", times),
        ("versions of the code", "git_commit", results),
        ("sets of library versions", "versions", results),
    ):
        kinds = {repr(run.config[key]) for run in study.runs if run.config.get(key) is not None}
        if len(kinds) > 1:
            lines.append(f"The runs come from {len(kinds)} {what}: compare {effect} with care.")
    return lines
