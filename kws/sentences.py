"""What a study's numbers say, in sentences: every one made from the numbers, other numbers, other sentence."""

import math

from kws.formatting import count, p_text, percent, points, value_text
from kws.study import FEWEST_SEEDS, SIGNIFICANT, is_worse


def _interval(item):
    return f"95 % interval {points(item.low)} to {points(item.high)}"


def _list(cells):
    labels = [cell.label for cell in cells]
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
        pairs = min(item.val.n for item in study.comparisons)
        shared = "1 seed is" if pairs == 1 else f"{pairs} seeds are"
        return (
            f"No recommendation yet: only {shared} shared by the compared values, "
            f"and at least {FEWEST_SEEDS} (better 5) are needed. "
            f"{best.label} has the highest mean validation accuracy so far, {percent(best.val.mean)}."
        )
    scores = f"mean validation accuracy ({percent(best.val.mean)}, {best.val.n} seeds)"
    if study.verdict == "clear winner":
        nearest = max(study.comparisons, key=lambda item: item.val.mean)
        rest = "the other value" if len(study.comparisons) == 1 else "every other value"
        return (
            f"Take {best.label}: it has the highest {scores}, and {rest} is distinguishably lower, the nearest, "
            f"{nearest.cell.label}, by {points(-nearest.val.mean)} points "
            f"({_loss_interval(nearest.val)}, Holm-corrected {p_text(nearest.val.p_holm)})."
        )
    equals = [item for item in study.comparisons if not is_worse(item)]
    worse = [item.cell for item in study.comparisons if is_worse(item)]
    tail = f"; {_list(worse)} {'is' if len(worse) == 1 else 'are'} distinguishably lower" if worse else ""
    if taken is best:
        return (
            f"Take {best.label}: it has the highest {scores} and needs the fewest FLOPs ({count(best.flops)}) of the "
            f"values that cannot be told from it ({_list([item.cell for item in equals])}){tail}."
        )
    mine = next(item for item in study.comparisons if item.cell is taken)
    return (
        f"Take {taken.label}: it cannot be told from {best.label}, which has the highest {scores}, and is the cheapest "
        f"of those that cannot ({count(taken.flops)} FLOPs against {count(best.flops)}); its own mean is "
        f"{points(-mine.val.mean)} points lower (at most {points(max(0.0, -mine.val.low))} by the 95 % interval){tail}."
    )


def _loss_interval(difference):
    return f"95 % interval {points(-difference.high)} to {points(-difference.low)}"


def _test(study):
    cell, clips = study.recommended, study.data_info["test"]
    if math.isnan(cell.test.sd):
        return f"On the {clips} test clips {cell.label} scores {percent(cell.test.mean)} (one run, no interval)."
    return (
        f"On the {clips} test clips {cell.label} scores {percent(cell.test.mean)} in the mean of {cell.test.n} seeds "
        f"({_interval(cell.test)} %), {wrong_clips(cell)} wrong clips a run."
    )


def wrong_clips(cell):
    """Return the mean number of test errors a run, as short text."""
    errors = [run.summary.get("test/errors", math.nan) for run in cell.runs]
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
            f"{widest.cell.label}, is {points(widest.test.mean):} points ({_interval(widest.test)})."
        )
    for item in seen if study.recommends else ():
        better, interval = ("better", _interval) if item.test.mean > 0 else ("worse", _loss_interval)
        lines.append(
            f"On the test clips {item.cell.label} is {points(abs(item.test.mean))} points {better} than "
            f"{study.best.label} ({interval(item.test)}, Holm-corrected {p_text(item.test.p_holm)}). "
            "The choice does not rest on this."
        )
    cheapest, dearest = (pick(study.cells, key=lambda cell: cell.flops) for pick in (min, max))
    if dearest.flops > cheapest.flops:
        lines.append(
            f"FLOPs of the network for one clip go from {count(cheapest.flops)} ({cheapest.label}) to "
            f"{count(dearest.flops)} ({dearest.label}), {dearest.flops / cheapest.flops:.1f} times as many."
        )
    lines += _edges(study) if study.recommends else []
    return lines + caveats(study)


def _edges(study):
    lines = []
    for name, value in study.recommended.values.items():
        tried = sorted({cell.values[name] for cell in study.cells}, key=str)
        if len(tried) > 1 and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in tried):
            if value in (min(tried), max(tried)):
                side = "smallest" if value == min(tried) else "largest"
                further = "smaller" if value == min(tried) else "larger"
                lines.append(f"{name} {value_text(value)} is the {side} value tried: a {further} one may do as well.")
    return lines


def caveats(study):
    """Return what weakens the comparison: cells missing, several machines, code versions or devices."""
    lines = []
    if study.missing:
        lines.append(
            f"{len(study.missing)} cells of the sweep file have no finished run: {'; '.join(study.missing[:12])}."
        )
    for what, key in (
        ("machines", "host"),
        ("devices", "device_name"),
        ("versions of the code", "git_commit"),
    ):
        kinds = {run.config.get(key) for run in study.runs}
        if len(kinds) > 1:
            effect = "their results" if key == "git_commit" else "their epoch times"
            lines.append(f"The runs come from {len(kinds)} {what}: compare {effect} with care.")
    return lines
