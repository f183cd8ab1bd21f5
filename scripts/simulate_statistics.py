"""Check the statistics of kws on simulated studies: coverage, wrong recommendations, power. Prints Markdown tables.

Usage: python scripts/simulate_statistics.py [--studies 1000] > simulation.md

A clip is classified correctly with a probability whose logit is the sum of an intercept (it sets the accuracy) and
normal effects of speaker, clip, seed, and of the interactions of the configuration with each, and of seed and speaker.
docs/statistics.md contains the output.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from kws.analysis.decision import decide
from kws.analysis.statistics import Answers, Speakers, accuracy_interval, difference, mean_interval

# Standard deviations of the effects on the logit.
USUAL = {
    "speaker": 1.2, "clip": 2.0, "seed": 0.25, "seed x speaker": 0.3,
    "configuration x speaker": 0.5, "configuration x clip": 0.8, "configuration x seed": 0.25,
}  # fmt: skip
STRONG_SPEAKERS = USUAL | {"speaker": 2.0, "configuration x speaker": 1.0}
STRONG_SEEDS = USUAL | {"seed": 0.4, "configuration x seed": 0.5}
HELD_OUT = 0.2  # share of the speakers that a seed of a resplit study holds out, as in kws.data.splits
MARGIN = 0.005


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
    resplit: bool = False, effects: dict[str, float] = USUAL,
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
        answers[:, (ranks >= max(2, round(HELD_OUT * speakers)))[:, of_clip]] = np.nan
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
    studies: int, accuracies: Sequence[float], speakers: Sequence[int], seeds: Sequence[int],
    effects: dict[str, float] = USUAL, loss: float = MARGIN,
) -> Iterator[tuple[tuple[float, int, int, bool], dict[str, float]]]:  # fmt: skip
    """Yield ((accuracy, speakers, seeds, resplit), {interval: share of studies in which it covers the truth})."""
    random = np.random.default_rng(0)
    for accuracy in accuracies:
        for count in speakers:
            for n, resplit in [(n, False) for n in seeds] + [(max(seeds), True)]:
                hits: dict[str, list[bool]] = {}
                for _ in range(studies):
                    (a, b), of_clip = simulate(random, (accuracy, accuracy - loss), n, count, 4, resplit, effects)
                    one, two = accuracy_interval(a, of_clip), difference(a, b, of_clip)
                    t = mean_interval(np.nanmean(b - a, axis=1))
                    low, high = bootstrap(b - a, of_clip, random)
                    hits.setdefault("accuracy", []).append(one.low <= accuracy <= one.high)
                    hits.setdefault("difference", []).append(two.low <= -loss <= two.high)
                    hits.setdefault("shown to be within the margin", []).append(two.low > -loss)
                    hits.setdefault("t over seeds", []).append(t.low <= -loss <= t.high)
                    hits.setdefault("crossed percentile bootstrap", []).append(low <= -loss <= high)
                yield (accuracy, count, n, resplit), {name: float(np.mean(found)) for name, found in hits.items()}


def decisions(
    studies: int, accuracies: Sequence[float], seeds: int, speakers: int, clips_each: float = 4, resplit: bool = False,
    effects: dict[str, float] = USUAL, margin: float = MARGIN,
) -> dict[str, float]:  # fmt: skip
    """Return the shares of studies with each outcome; `accuracies` are those of the values, most expensive first."""
    random, costs = np.random.default_rng(0), range(len(accuracies), 0, -1)
    found: dict[str, float] = {
        "wrong": 0.0,
        "cheapest": 0.0,
        "within margin": 0.0,
        "keep the best": 0.0,
        "undecided": 0.0,
    }
    for _ in range(studies):
        answers, of_clip = simulate(random, accuracies, seeds, speakers, clips_each, resplit, effects)
        decision = decide(costs, answers, of_clip, margin)
        found[decision.verdict] += 1 / studies
        if decision.verdict != "undecided":
            found["wrong"] += (max(accuracies) - accuracies[decision.chosen] >= margin - 1e-9) / studies
            found["cheapest"] += (decision.chosen == len(accuracies) - 1) / studies
    return found


def main(studies: int, show: Callable[[str], None] = print) -> None:
    """Print the tables."""
    names = ("accuracy", "difference", "shown to be within the margin", "t over seeds", "crossed percentile bootstrap")
    for title, effects in (("usual", USUAL), ("strong speakers", STRONG_SPEAKERS), ("strong seeds", STRONG_SEEDS)):
        show(f"\nCoverage, effects: {title}\n")
        show(f"| accuracy | speakers | clips | seeds | {' | '.join(names)} |\n|{'---:|' * (4 + len(names))}")
        shares = {name: [] for name in names}
        grid = (
            ((0.97, 0.985, 0.995), (60, 150, 400), (3, 5, 10))
            if effects is USUAL
            else ((0.985, 0.995), (60, 200), (3, 10))
        )
        for (accuracy, count, n, resplit), found in coverage(studies, *grid, effects):
            cells = [f"{accuracy:.1%}", count, 4 * count, f"{n}{' (resplit)' if resplit else ''}"]
            show("| " + " | ".join([*map(str, cells), *(f"{found[name]:.3f}" for name in names)]) + " |")
            for name in names:
                shares[name].append(found[name])
        for text, pick in (("lowest", min), ("mean", np.mean), ("highest", max)):
            show(f"| {text} | | | | " + " | ".join(f"{pick(shares[name]):.3f}" for name in names) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    main(parser.parse_args().studies)
