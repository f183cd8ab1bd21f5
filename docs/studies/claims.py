"""Print, as Markdown, the claims of an earlier report with a verdict computed from runs.csv.

Usage: python docs/studies/claims.py > docs/studies/earlier-report.md
"""

import csv
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from scipy import stats

from kws import metrics
from kws.analysis.decision import SIGNIFICANT
from kws.analysis.statistics import Difference, holm, mean_interval
from kws.formatting import count, p_text, percent, percentage_points, seconds

ABOUT_EQUAL = 0.005  # half a percentage point of test accuracy
EQUAL_TIME = 0.1  # a tenth
CONFIRMED, NOT_CONFIRMED, REFUTED = "confirmed", "not confirmed", "refuted"

INTRODUCTION = """\
# The claims of an earlier report

An earlier report of this model compared one run per value, without repeated seeds. This page checks its claims against
the 40 runs of no and yes in [report.md](report.md), five seeds per value. Recompute it from [runs.csv](runs.csv) with
`python docs/studies/claims.py > docs/studies/earlier-report.md`. Differences are paired by seed (paired t-test,
Holm-corrected over all pairs of values). *Not confirmed* means that the runs show neither the claim nor its opposite.

| claim | verdict | numbers |
|---|---|---|"""
# Stability needs the validation accuracy of every epoch, which runs.csv does not contain.
STABILITY = (
    "Over a run's last 5 epochs the standard deviation of validation accuracy is 0.35 points at 80 and 0.31 on average "
    "at the others (difference 0.04, 95 % interval −0.21 to 0.29, p = 0.67, 5 seeds). These numbers were computed "
    "when the runs were made; runs.csv does not contain the epochs, so the script repeats them as they are."
)

Row = dict[str, str]  # of runs.csv
Numbers = dict[int, dict[int, float]]  # value of the parameter -> seed -> number
Pairs = dict[tuple[int, int], Difference]  # (a, b) -> b - a, Holm-corrected over all pairs
Verdict = tuple[str, str]  # verdict, numbers


def read(rows: Iterable[Row], parameter: str, metric: str) -> Numbers:
    """Return a metric of the study that is named after its parameter."""
    numbers: Numbers = {}
    rows = [row for row in rows if row["study"] == parameter and not row["excluded"] and row["unknown"] == "False"]
    for row in sorted(rows, key=lambda row: int(row[parameter])):
        numbers.setdefault(int(row[parameter]), {})[int(row["seed"])] = float(row[metric])
    return numbers


def paired_difference(a: dict[int, float], b: dict[int, float], resolution: float) -> Difference:
    """Return b - a by the paired t-test over the seeds that both have.

    `resolution` is the smallest step of a value (1/clips for an accuracy): the standard deviation of the differences is
    at least half of it. runs.csv has no answers per clip, so speakers are not considered, as they are in the report.
    """
    plain = mean_interval([b[seed] - a[seed] for seed in sorted(set(a) & set(b))])
    error = max(plain.sd, resolution / 2, 1e-12) / math.sqrt(plain.n)
    half = float(stats.t.ppf(0.975, plain.n - 1)) * error
    p = 2 * float(stats.t.sf(abs(plain.mean) / error, plain.n - 1))
    return Difference(plain.n, plain.mean, plain.mean - half, plain.mean + half, p)


def compare(numbers: Numbers, resolution: float = 0.0) -> Pairs:
    found = {(a, b): paired_difference(numbers[a], numbers[b], resolution) for a, b in combinations(numbers, 2)}
    corrected = holm([item.p for item in found.values()])
    return {pair: replace(found[pair], p_holm=p) for pair, p in zip(found, corrected, strict=True)}


def compare_accuracy(rows: list[Row]) -> Pairs:
    worst = max(rows, key=lambda row: int(row[metrics.TEST_ERRORS]))
    clips = round(int(worst[metrics.TEST_ERRORS]) / (1 - float(worst[metrics.TEST_ACCURACY])))
    return compare(read(rows, "n_mels", metrics.TEST_ACCURACY), 1 / clips)


def means(numbers: Numbers, text: Callable[[float], str]) -> str:
    return ", ".join(f"{value}: {text(mean_interval(list(item.values())).mean)}" for value, item in numbers.items())


def gap(pairs: Pairs, pick: Callable[..., tuple[int, int]]) -> str:
    """Return the smallest (min) or largest (max) difference as text, in the direction in which it is positive."""
    low, high = pick(pairs, key=lambda pair: abs(pairs[pair].mean))
    item = pairs[low, high]
    bounds = (item.low, item.high)
    if item.mean < 0:
        low, high, bounds = high, low, (-item.high, -item.low)
    return (
        f"{percentage_points(abs(item.mean))} points between n_mels {low} and n_mels {high} (95 % interval "
        f"{percentage_points(bounds[0])} to {percentage_points(bounds[1])}, Holm-corrected {p_text(item.p_holm)})"
    )


def judge_margin(pairs: Pairs, margin: float) -> str:
    """Return the verdict on the claim that all differences are within `margin`."""
    if all(-margin < item.low and item.high < margin for item in pairs.values()):
        return CONFIRMED
    outside = any(item.p_holm < SIGNIFICANT and abs(item.mean) > margin for item in pairs.values())
    return REFUTED if outside else NOT_CONFIRMED


def about_equal(rows: list[Row]) -> Verdict:
    pairs = compare_accuracy(rows)
    equal = f"equal means within {percentage_points(ABOUT_EQUAL, 1)} points"
    return judge_margin(pairs, ABOUT_EQUAL), f"The largest difference is {gap(pairs, max)}; {equal}."


def is_best(rows: list[Row], value: int) -> Verdict:
    pairs = {pair: item for pair, item in compare_accuracy(rows).items() if value in pair}
    accuracies = means(read(rows, "n_mels", metrics.TEST_ACCURACY), percent)
    numbers = f"Mean test accuracy is {accuracies}; the smallest difference is {gap(pairs, min)}."
    leads = [(item.mean if pair[1] == value else -item.mean, item.p_holm) for pair, item in pairs.items()]
    if all(lead > 0 and p < SIGNIFICANT for lead, p in leads):
        return CONFIRMED, numbers
    return (REFUTED if any(lead < 0 and p < SIGNIFICANT for lead, p in leads) else NOT_CONFIRMED), numbers


def equal_time(rows: list[Row]) -> Verdict:
    times = read(rows, "groups", metrics.EPOCH_S_MEDIAN)
    pairs = compare({value: {seed: math.log(s) for seed, s in times[value].items()} for value in times})
    (a, b), item = max(pairs.items(), key=lambda pair: abs(pair[1].mean))
    ratio, low, high = (f"{math.exp(number):.2f}" for number in (item.mean, item.low, item.high))
    return judge_margin(pairs, math.log(1 + EQUAL_TIME)), (
        f"Mean epoch time is {means(times, seconds)}; groups {b} takes {ratio} times as long as groups {a} "
        f"(95 % interval {low} to {high}, Holm-corrected {p_text(item.p_holm)})."
    )


def scales_with_groups(rows: list[Row], metric: str, factor: float) -> Verdict:
    """Judge whether each doubling of groups multiplies `metric` by about `factor`."""
    costs = {value: next(iter(numbers.values())) for value, numbers in read(rows, "groups", metric).items()}
    ratios = [costs[2 * value] / costs[value] for value in costs if 2 * value in costs]
    text = f"For groups {', '.join(map(str, costs))}: {', '.join(map(count, costs.values()))}. "
    text += f"Each doubling multiplies them by {', '.join(f'{ratio:.2f}' for ratio in ratios)}."
    return (CONFIRMED if all(0.9 * factor < ratio < 1.1 * factor for ratio in ratios) else REFUTED), text


def claims(rows: list[Row]) -> dict[str, Verdict]:
    """Return the verdict on each claim from the rows of runs.csv."""
    return {
        "All n_mels give about the same test accuracy.": about_equal(rows),
        "n_mels 80 trains less stably.": (NOT_CONFIRMED, STABILITY),
        "n_mels 20 is the best.": is_best(rows, 20),
        "Epoch time does not change with groups.": equal_time(rows),
        "Parameters halve with each doubling of groups.": scales_with_groups(rows, metrics.PARAMS, 0.5),
        "FLOPs double with each doubling of groups.": scales_with_groups(rows, metrics.FLOPS, 2.0),
    }


if __name__ == "__main__":
    with open(Path(__file__).parent / "runs.csv", encoding="utf-8", newline="") as file:
        found = claims(list(csv.DictReader(file)))
    print(INTRODUCTION)
    for claim, (verdict, numbers) in found.items():
        print(f"| {claim} | {verdict} | {numbers} |")
