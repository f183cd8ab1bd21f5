"""Check the statistics of kws on simulated studies: coverage, wrong recommendations, power. Prints Markdown tables.

Usage: python scripts/simulate_statistics.py [--studies 4000] [--jobs 2] > simulation.md

A clip is classified correctly with a probability whose logit is the sum of an intercept (it sets the accuracy) and
normal effects of speaker, clip, seed, and of the interactions of the configuration with each, and of seed and speaker.
Each row has random numbers of its own. docs/statistics.md contains the output, which takes 3 minutes on 2 free cores.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from kws.analysis.decision import decide
from kws.analysis.statistics import SEEDS_TO_PLAN, Answers, Speakers, accuracy_interval, difference, mean_interval, plan
from kws.data.splits import HELD_OUT

# Standard deviations of the effects on the logit.
USUAL = {
    "speaker": 1.2, "clip": 2.0, "seed": 0.25, "seed x speaker": 0.3,
    "configuration x speaker": 0.5, "configuration x clip": 0.8, "configuration x seed": 0.25,
}  # fmt: skip
STRONG_SPEAKERS = USUAL | {"speaker": 2.0, "configuration x speaker": 1.0}
STRONG_SEEDS = USUAL | {"seed": 0.4, "configuration x seed": 0.5}
MARGIN = 0.005
STUDIES = 4000  # in each row of the tables of coverage
INTERVALS = (
    "accuracy", "difference", "wrongly within the margin", "difference by t over seeds", "by crossed bootstrap",
)  # fmt: skip
OUTCOMES = ("wrong", "cheapest", "within margin", "keep the best", "undecided")
Effects = dict[str, float]
Row = tuple[list[object], Callable[..., dict[str, float]], tuple[Any, ...]]  # first cells; what gives the others


@cache
def intercept(accuracy: float, spread: float) -> float:
    """Return the intercept that gives this mean accuracy if the effects' standard deviation is `spread`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)  # mean over a normal distribution
    low, high = -10.0, 40.0
    for _ in range(50):
        middle = (low + high) / 2
        too_low = expit(middle + spread * nodes) @ weights / weights.sum() < accuracy
        low, high = (middle, high) if too_low else (low, middle)
    return low


def simulate(
    random: np.random.Generator, accuracies: Sequence[float], seeds: int, speakers: int, clips_each: float = 4,
    resplit: bool = False, effects: Effects = USUAL,
) -> tuple[list[Answers], Speakers]:  # fmt: skip
    """Return the answers of one configuration for each accuracy, and the clips' speakers."""
    of_clip = np.repeat(np.arange(speakers), 1 + random.poisson(clips_each - 1, speakers))
    clips, configurations = len(of_clip), len(accuracies)

    def effect(name: str, *shape: int) -> NDArray[np.float32]:
        return np.float32(effects[name]) * random.standard_normal(shape, dtype=np.float32)

    by_speaker = effect("speaker", 1, 1, speakers) + effect("configuration x speaker", configurations, 1, speakers)
    logits = (by_speaker + effect("seed x speaker", configurations, seeds, speakers))[..., of_clip]
    logits += effect("clip", clips) + effect("configuration x clip", configurations, 1, clips)
    logits += effect("seed", seeds, 1) + effect("configuration x seed", configurations, seeds, 1)
    spread = math.sqrt(sum(value**2 for value in effects.values()))
    logits += np.array([intercept(accuracy, spread) for accuracy in accuracies], np.float32)[:, None, None]
    answers = (random.random(logits.shape) < expit(logits)).astype(float)
    if resplit:
        ranks = random.random((seeds, speakers)).argsort(1)
        answers[:, (ranks >= max(2, round(2 * HELD_OUT * speakers)))[:, of_clip]] = np.nan
    return list(answers), of_clip


def bootstrap(
    values: Answers, speakers: Speakers, random: np.random.Generator, draws: int = 200
) -> tuple[float, float]:
    """Return the percentile interval of the crossed ("pigeonhole") bootstrap over seeds and speakers."""
    seeds, count = len(values), int(speakers.max()) + 1
    sums = np.stack([np.bincount(speakers, row, count) for row in np.nan_to_num(values)])
    sizes = np.stack([np.bincount(speakers, row, count) for row in ~np.isnan(values)])
    by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), draws)
    by_speaker = random.multinomial(count, np.full(count, 1 / count), draws)
    means = np.sum(by_seed @ sums * by_speaker, 1) / np.sum(by_seed @ sizes * by_speaker, 1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def coverage(
    studies: int, accuracy: float, speakers: int, seeds: int, resplit: bool = False, effects: Effects = USUAL,
    loss: float = MARGIN, stream: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Return the share of studies in which each interval contains the true accuracy, or difference of two values."""
    random = np.random.default_rng(stream)
    hits: dict[str, list[bool]] = {name: [] for name in INTERVALS}
    for number in range(studies):
        (a, b), of_clip = simulate(random, (accuracy, accuracy - loss), seeds, speakers, 4, resplit, effects)
        one, two = accuracy_interval(a, of_clip), difference(a, b, of_clip)
        t = mean_interval(np.nanmean(b - a, axis=1))
        hits["accuracy"].append(one.low <= accuracy <= one.high)
        hits["difference"].append(two.low <= -loss <= two.high)
        hits["wrongly within the margin"].append(two.low > -loss)
        hits["difference by t over seeds"].append(t.low <= -loss <= t.high)
        if number % 16 == 0:  # it takes most of the time
            low, high = bootstrap(b - a, of_clip, random)
            hits["by crossed bootstrap"].append(low <= -loss <= high)
    return {name: float(np.mean(found)) for name, found in hits.items()}


def decisions(
    studies: int, accuracies: Sequence[float], seeds: int, speakers: int, clips_each: float = 4, resplit: bool = False,
    stream: int = 0,
) -> dict[str, float]:  # fmt: skip
    """Return the share of studies with each outcome; `accuracies` are those of the values, most expensive first."""
    random, costs = np.random.default_rng(stream), range(len(accuracies), 0, -1)
    found = dict.fromkeys(OUTCOMES, 0.0)
    for _ in range(studies):
        answers, of_clip = simulate(random, accuracies, seeds, speakers, clips_each, resplit)
        decision = decide(costs, answers, of_clip, MARGIN)
        found[decision.verdict] += 1 / studies
        if decision.verdict != "undecided":
            found["wrong"] += (max(accuracies) - accuracies[decision.chosen] > MARGIN - 1e-9) / studies
            found["cheapest"] += (decision.chosen == len(accuracies) - 1) / studies
    return found


def planned(studies: int, accuracy: float, speakers: int, clips_each: float, stream: int = 0) -> dict[str, float]:
    """Return the median number of seeds that a first study of 5 seeds plans, and the power of a second with as many.

    The first study has a tenth of the speakers for validation; the second re-splits nine tenths for each seed.
    """
    random, seeds = np.random.default_rng(stream), []
    pool = round(0.9 * speakers)
    for _ in range(studies):
        (a, b), of_clip = simulate(random, (accuracy, accuracy), 5, round(0.1 * speakers), clips_each)
        needed = plan(a, b, of_clip, MARGIN, round(pool * clips_each))
        seeds.append(needed.seeds if needed else SEEDS_TO_PLAN[-1])
    median = float(np.median(seeds))
    found = decisions(studies, (accuracy, accuracy), round(median), pool, clips_each, True, stream)
    return {"seeds planned (median)": median, "power with these": found["within margin"]}


def tables(studies: int) -> Iterator[tuple[str, list[str], list[Row]]]:
    """Yield title, column heads and rows of each table."""
    for title, effects, accuracies, speakers, seeds in (
        ("usual", USUAL, (0.97, 0.985, 0.995), (60, 150, 400), (3, 5, 10)),
        ("strong effects of speakers", STRONG_SPEAKERS, (0.985, 0.995), (60, 400), (3, 10)),
        ("strong effects of seeds", STRONG_SEEDS, (0.985, 0.995), (60, 400), (3, 10)),
    ):
        yield f"Coverage: {title}", ["accuracy", "speakers", "seeds", *INTERVALS], [
            ([f"{accuracy:.1%}", count, f"{n}{', resplit' * resplit}"],
             coverage, (studies, accuracy, count, n, resplit, effects))
            for accuracy, count in product(accuracies, speakers)
            for n, resplit in [(n, False) for n in seeds] + [(max(seeds), True)]
        ]  # fmt: skip
    worse = ((0.985, 0.98), (0.995, 0.99), (0.985, 0.9825, 0.98), (0.985, 0.98, 0.98, 0.98), (0.99, 0.985, 0.99, 0.985))
    equal = ((0.985, 0.985), (0.99, 0.99, 0.99), (0.995, 0.995, 0.995, 0.995))
    yield "Decisions", ["true accuracies, most expensive first", "seeds", "speakers", *OUTCOMES], [
        ([", ".join(f"{100 * accuracy:.4g}" for accuracy in accuracies), f"{n}{', resplit' * resplit}", count],
         decisions, (studies // 4, accuracies, n, count, 4, resplit))
        for accuracies in (*worse, *equal)
        for n, count, resplit in ((3, 60, False), (5, 60, False), (10, 400, False), (10, 1500, True))
    ]  # fmt: skip
    yield (
        "Plans",
        ["accuracy", "speakers", "clips", "seeds planned (median)", "power with these"],
        [
            ([f"{accuracy:.1%}", count, count * each], planned, (studies // 16, accuracy, count, each))
            for accuracy, count, each in ((0.99, 1000, 2), (0.995, 1000, 2), (0.985, 2000, 4), (0.99, 2000, 4))
        ],
    )


def main(studies: int, jobs: int) -> None:
    """Print the tables, whose rows `jobs` processes make."""
    chance = math.sqrt(0.95 * 0.05 / studies)
    print(f"{studies:,} studies in each row (a quarter for decisions, a sixteenth for the bootstrap and the plans):")
    print(f"a share of 0.95 varies by ±{chance:.4f} by chance (one standard deviation).")
    found = list(tables(studies))
    tasks = [task for _, _, rows in found for _, *task in rows]
    with ProcessPoolExecutor(jobs) as pool:
        results = pool.map(run_row, *zip(*tasks, strict=True), range(len(tasks)))
        for title, heads, rows in found:
            print(f"\n**{title}**\n")
            row(*heads)
            row(*["---:"] * len(heads))
            shares = []
            for cells, *_ in rows:
                shares.append(list(next(results).values()))
                row(*cells, *(f"{share:.3f}" if share < 2 else f"{share:g}" for share in shares[-1]))
            for name, pick in (("lowest", np.min), ("mean", np.mean), ("highest", np.max)) if "Cov" in title else ():
                row(f"**{name}**", "", "", *(f"{share:.3f}" for share in pick(shares, axis=0)))


def run_row(function: Callable[..., dict[str, float]], arguments: tuple[Any, ...], stream: int) -> dict[str, float]:
    return function(*arguments, stream=stream)


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=STUDIES, help="studies in each row (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="rows that are made at once (default: %(default)s)")
    main(**vars(parser.parse_args()))
