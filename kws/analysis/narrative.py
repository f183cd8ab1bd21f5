"""The sentences of a report: the answer to a study's question and its conclusions, made from the numbers."""

import math
import os
import shlex
from pathlib import Path

from kws import metrics
from kws.analysis.decision import SIGNIFICANT
from kws.analysis.records import SPLITS, Split
from kws.analysis.statistics import POWER, SEEDS_TO_PLAN, Difference, Estimate
from kws.analysis.study import FEWEST_SEEDS, Configuration, Study, concurrent_jobs
from kws.config import SETTINGS
from kws.formatting import count, p_text, percent, percentage_points, value_text
from kws.sweep.spec import sweep_file

MOST_NAMED = 6  # configurations in one sentence


def answer(study: Study) -> list[str]:
    """Return the answer: which configuration to choose and why, its test accuracy, and what would decide the study.

    Last, what validation cannot tell.
    """
    lines = [_recommendation(study), _test(study)]
    if study.decision and study.decision.verdict == "undecided":
        lines.append(_needs(study))
    made_up = any("-" in word for word in study.data_info.get("held_out_words", []))  # see kws.data.labels
    if made_up and "unknown_synthetic" in study.parameters:
        lines.append(
            "Validation is unfair to synthetic words here: its unknown words are made up in the same way as some in "
            "training, which synthetic words replace. Compare the test accuracies instead."
        )
    return lines


def _recommendation(study: Study) -> str:
    best, accuracy = study.best, f"{percent(study.best.mean_accuracy(study.shared_seeds))} on {study.chosen_on} clips"
    if len(study.configurations) == 1:
        if len(study.runs) == 1:
            return f"Nothing was compared: there is one run, with {accuracy}."
        return (
            f"Nothing was compared: all {len(study.runs)} runs have the same settings except the seed, "
            f"and their mean is {accuracy}."
        )
    if max(len(item.runs) for item in study.configurations) == 1:
        return (
            "No recommendation: with one seed per configuration, a difference cannot be distinguished from chance. "
            f"{best.label} has the highest accuracy so far, {accuracy}."
        )
    if study.decision is None:
        seeds = len(study.shared_seeds)
        why = (
            f"No recommendation yet: only {seeds} {'seed is' if seeds == 1 else 'seeds are'} shared by the compared "
            f"values, and at least {FEWEST_SEEDS} (better 5) are needed."
        )
        if seeds >= FEWEST_SEEDS:
            why = f"No recommendation: all {study.chosen_on} clips are of one speaker and say nothing of others."
        return f"{why} {best.label} has the highest mean accuracy so far, {accuracy}."
    return {"within margin": _within, "keep the best": _keep, "undecided": _undecided}[study.decision.verdict](study)


def _within(study: Study) -> str:
    chosen, margin = study.recommended, percentage_points(study.margin)
    shown = f"it is shown to lose less than the margin of {margin} points against every other value (95 % intervals)"
    if chosen is study.best:
        tied = any(item.configuration.flops == chosen.flops for item in study.comparisons)
        return f"Choose {chosen.label}: it {_has_highest(study)}{'' if tied else ' and is cheapest'}, and {shown}."
    cheaper = [item for item in study.comparisons if item.configuration.flops < chosen.flops]
    tail = ""
    if worse := [item.configuration for item in cheaper if item.is_worse]:
        tail += f"; {_list(worse)}, cheaper, {'is' if len(worse) == 1 else 'are'} significantly lower"
    if unknown := [item.configuration for item in cheaper if not item.is_worse]:
        tail += f"; this is not shown for {_list(unknown)}, which would be cheaper"
    loss = next(item.val for item in study.comparisons if item.configuration is study.best)
    lower = f"{percentage_points(loss.mean)} points lower" if loss.mean > 0 else "the same"
    return (
        f"Choose {chosen.label}: {shown}, and needs {count(chosen.flops)} FLOPs. {study.best.label}, which "
        f"{_has_highest(study)}, needs {count(study.best.flops)}; the mean of {chosen.label} is {lower}, and at most "
        f"{percentage_points(max(0.0, loss.high))} points lower by the 95 % interval{tail}."
    )


def _keep(study: Study) -> str:
    cheaper = [item for item in study.comparisons if item.configuration.flops < study.best.flops]
    nearest = max(cheaper, key=lambda item: item.val.mean)
    others = "the cheaper value" if len(cheaper) == 1 else "every cheaper value"
    return (
        f"Choose {study.best.label}: it {_has_highest(study)}, and {others} is significantly lower; the nearest, "
        f"{nearest.configuration.label}, by {percentage_points(-nearest.val.mean)} points "
        f"({_loss_interval(nearest.val)}, Holm-corrected {p_text(nearest.val.p_holm)}). "
        f"No other value is better by the margin of {percentage_points(study.margin)} points."
    )


def _undecided(study: Study) -> str:
    assert study.decision and study.decision.blocked
    which, better = (study.compared[number] for number in study.decision.blocked[:2])
    margin, most = percentage_points(study.margin), percentage_points(-study.decision.blocked[2].low)
    if which is study.best:
        why = f"but {better.label} may be up to {most} points better (95 % interval); the margin is {margin} points"
    else:
        why = f"and the next cheaper value, {which.label}, is not shown to lose less than the margin of {margin} points"
        # The differences table has no row for two values of which neither is the best.
        why += f": it may be up to {most} points lower" if better is study.best else f" against {better.label}"
        why += " (95 % interval)"
    return f"Undecided: {study.best.label} {_has_highest(study)}, {why}."


def _needs(study: Study) -> str:
    """Return what would decide the study with a power of 80 %, if the values are equally good, and the command."""
    plan = study.plan
    if plan is None:
        return f"More than {SEEDS_TO_PLAN[-1]} seeds would be needed to show it: the results vary too much by seed."
    first, made = (max(study.seeds) + 1, len(study.shared_seeds)) if study.resplit else (0, 0)
    seeds = ",".join(str(first + number) for number in range(plan.seeds - made))
    clips = sum(study.data_info[split] for split in (SPLITS if study.resplit else SPLITS[:2]))
    more = "" if plan.clips == clips else f" (of {plan.clips:,} in all, but these data have {clips:,})"
    command = f"kws sweep {_sweep_path(study)} --set resplit=true seed={seeds}"
    return (
        f"If both are equally good, about {plan.seeds} seeds with {plan.held_out:,} held-out clips each{more} would "
        f"show it with a probability of {100 * POWER:.0f} %: {command}"
    )


def _sweep_path(study: Study) -> str:
    """Return the sweep file as it was run, if it is on this machine."""
    paths = (sweep_file(Path(run.where).parent, run.sweep_id) for run in study.runs if run.sweep_id)
    return next((shlex.quote(str(path)) for path in paths if os.path.isfile(path)), "SWEEP.yaml")


def _has_highest(study: Study) -> str:
    """Return "has the highest mean validation accuracy (...)" for the best configuration, with any ties."""
    mean = study.best.mean_accuracy(study.shared_seeds)
    ties = [item for item in study.compared if item.mean_accuracy(study.shared_seeds) == mean]
    ties = [item for item in ties if item is not study.best]
    has = f"has, like {_list(ties)}, the highest" if ties else "has the highest"
    unshared = any(len(item.runs) > len(study.shared_seeds) for item in study.compared)
    seeds = f"{len(study.shared_seeds)} {'shared ' if unshared else ''}seeds"
    return f"{has} mean {study.chosen_on} accuracy ({percent(mean)}, {seeds})"


def _test(study: Study) -> str:
    chosen, clips = study.recommended, f"{split_sizes(study, 'test')} test clips"
    if study.runs[0].config.get("resplit"):
        clips += " (different for each seed; the choice uses them, too)"
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
    lines = _test_differences(study) if study.comparisons and not study.resplit else []
    low, high = (pick(study.configurations, key=lambda item: item.flops) for pick in (min, max))
    if high.flops > low.flops:
        lines.append(
            f"The network's FLOPs per clip range from {count(low.flops)} ({low.label}) to {count(high.flops)} "
            f"({high.label}), a factor of {high.flops / low.flops:.1f}."
        )
    return lines + (_edges(study) if study.recommends else []) + _caveats(study)


def _test_differences(study: Study) -> list[str]:
    chosen = study.recommended.label
    significant = [item for item in study.comparisons if item.test.p_holm < SIGNIFICANT]
    if not significant:
        widest = max(study.comparisons, key=lambda item: abs(item.test.mean))
        return [
            f"On the test clips no value is significantly different from {chosen}; the largest difference, "
            f"{widest.configuration.label}, is {percentage_points(widest.test.mean)} points ({_interval(widest.test)})."
        ]
    lines = []
    for item in significant:
        better, interval = ("better", _interval) if item.test.mean > 0 else ("worse", _loss_interval)
        lines.append(
            f"On the test clips {item.configuration.label} is {percentage_points(abs(item.test.mean))} points {better} "
            f"than {chosen} ({interval(item.test)}, Holm-corrected {p_text(item.test.p_holm)}); not used for selection."
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
