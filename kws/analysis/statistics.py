"""Means, intervals and tests of a study, with methods suited to few seeds and accuracies near 100 %.

Accuracies and their differences vary with the seeds of the runs and with the speakers of the clips. Answers of one
configuration are an array (seeds, clips): 1 correct, 0 misclassified, NaN where a seed has not that clip. `speakers`,
shape (clips,), numbers the speaker of each clip. docs/statistics.md explains the methods and how they were checked.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit  # Student's t: its distribution function and the inverse

CONFIDENCE = 0.95
POWER = 0.8
# Clips added to the errors (or to those that two configurations classify differently) and to their variance, where a
# variance is estimated: none at all is no certainty.
PSEUDO_CLIPS = 1 / 6
ADDED_ERRORS = 1 / 3  # clips: with few errors the interval of an accuracy would lie too near to 100 %
SEEDS_TO_PLAN = (5, 10, 15, 20, 30)

Answers = NDArray[np.float64]  # (seeds, clips)
Speakers = NDArray[np.int64]  # (clips,)


@dataclass(frozen=True)
class Estimate:
    """The mean of n values, their standard deviation (NaN for one value) and a 95 % interval of the mean."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The difference in accuracy b - a over n shared seeds, its 95 % interval and p-value.

    `p` is two-sided; `p_holm` is p corrected for the number of comparisons made together (see `holm`).
    """

    n: int
    mean: float
    low: float
    high: float
    p: float
    p_holm: float = math.nan


@dataclass(frozen=True)
class Plan:
    """What decides a comparison with a power of 80 %: seeds of runs with resplit, clips to split, and held out each."""

    seeds: int
    clips: int
    held_out: int


def mean_interval(values: ArrayLike) -> Estimate:
    """Return the Estimate of the mean by Student's t, for times and other quantities far from any bound.

    For a single value the bounds are NaN, for none the mean is, too.
    """
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values)) if len(values) else math.nan
    if n < 2:
        return Estimate(n, mean, math.nan, math.nan, math.nan)
    sd = float(np.std(values, ddof=1))
    half = _t(n - 1) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, mean - half, mean + half)


def _t(df: float, probability: float = 0.5 + CONFIDENCE / 2) -> float:
    return float(stdtrit(df, probability))


class _Crossed:
    """The mean of values (seeds, clips) and its variance over seeds and speakers, which are crossed.

    The mean is that of the seeds' means. Its variance is estimated from the residuals' sums over each seed, each
    speaker, and each speaker in each seed (cells): seeds + n / (n - 1) (speakers - cells) for n seeds, as speakers
    without cells are products of two seeds. It is never less than half of that of cells, which by chance would be no
    variance at all. With one seed it is the variance over speakers.
    Source: Cameron, Gelbach and Miller 2011, J. Bus. Econ. Stat. 29 (without the factor); Owen 2007, arXiv:0707.0246.
    """

    def __init__(self, values: Answers, speakers: Speakers) -> None:
        values = values[~np.isnan(values).all(1)]
        present = ~np.isnan(values)
        values = np.where(present, values, 0.0)
        self.seeds, self.clips = len(values), int(present.any(0).sum())
        self.clips_per_seed = present.sum() / max(self.seeds, 1)
        share = present / (present.sum(1, keepdims=True) * max(self.seeds, 1))  # of each value in the mean
        self.seed_means = np.sum(share * values, 1) * self.seeds
        self.mean = round(float(np.mean(self.seed_means)), 12) if self.seeds else math.nan
        self.mean_size = float(np.sum(share * np.abs(values)))
        group = np.unique(speakers, return_inverse=True)[1]
        residuals = share * (values - self.mean)
        cells, self.shares = (
            np.array([np.bincount(group, row) for row in item]).reshape(self.seeds, group.max() + 1)
            for item in (residuals, share)
        )
        self.speakers = int(self.shares.any(0).sum())
        self.by_seed = float(np.sum(cells.sum(1) ** 2)) * self.seeds / max(self.seeds - 1, 1)
        self.by_speaker = float(np.sum(cells.sum(0) ** 2)) * self.speakers / max(self.speakers - 1, 1)
        self.by_cell = float(np.sum(cells**2))
        self.pseudo = PSEUDO_CLIPS / max(self.clips, 1) ** 2
        crossed = self.by_speaker
        if self.seeds > 1:
            crossed = self.by_seed + self.seeds / (self.seeds - 1) * (self.by_speaker - self.by_cell)
        self.variance = max(crossed, self.by_cell / 2) + self.pseudo

    @property
    def df(self) -> float:
        """Degrees of freedom: the harmonic mean of seeds - 1 and speakers - 1, weighted with the share of seeds.

        Satterthwaite's formula, with squared shares, gives too many if few seeds differ little by chance. The share
        counts the added variance three times: few clips say little of seeds.
        """
        share = min(1.0, self.by_seed / (self.variance + 2 * self.pseudo))
        return 1 / (share / max(self.seeds - 1, 1) + (1 - share) / (self.speakers - 1))


def accuracy_interval(answers: Answers, speakers: Speakers) -> Estimate:
    """Return the Estimate of an accuracy over seeds; the interval is for other seeds and other speakers.

    Wilson's score interval with the effective number of independent clips, which `_Crossed` gives, and Student's t. It
    stays in [0, 1] and is longer below the mean than above it. With one seed it is for that seed's model and other
    speakers; with one speaker its bounds are NaN.
    """
    found = _Crossed(answers, speakers)
    sd = mean_interval(found.seed_means).sd
    if found.speakers < 2:
        return Estimate(found.seeds, found.mean, sd, math.nan, math.nan)
    few, error = (min(1 - found.mean + n / found.clips, 1 - n / found.clips) for n in (PSEUDO_CLIPS, ADDED_ERRORS))
    ratio = _t(found.df) ** 2 * found.variance / (few * (1 - few))  # t² / effective clips
    centre = (error + ratio / 2) / (1 + ratio)
    half = math.sqrt(ratio * error * (1 - error) + ratio**2 / 4) / (1 + ratio)
    low, high = 1 - centre - half, 1 - centre + half
    return Estimate(found.seeds, found.mean, sd, max(0.0, min(low, found.mean)), min(1.0, max(high, found.mean)))


def difference(a: Answers, b: Answers, speakers: Speakers) -> Difference:
    """Return the Difference b - a of two configurations with the same seeds (rows) and clips (columns).

    The values are paired by seed and clip. With fewer than two seeds or speakers, bounds and p are NaN.
    """
    found = _Crossed(b - a, speakers)
    if found.seeds < 2 or found.speakers < 2:
        return Difference(found.seeds, found.mean, math.nan, math.nan, math.nan)
    discordant = found.mean_size + PSEUDO_CLIPS / found.clips
    error = math.sqrt(found.variance)
    low = -_highest(-found.mean, error, discordant, found.df)
    p = 2 * float(stdtr(found.df, -abs(found.mean) / error))
    return Difference(found.seeds, found.mean, low, _highest(found.mean, error, discordant, found.df), p)


def _highest(mean: float, error: float, discordant: float, df: float) -> float:
    """Return the largest true difference that the data do not exclude: a score interval.

    A larger difference than the mean needs more discordant clips if it is further from zero, fewer if it is nearer,
    and the variance is in proportion to their share. At zero it is the one that was seen, as for the p-value.
    """
    spread, slope = (_t(df) * error) ** 2, mean / discordant
    if mean < 0 < mean + math.sqrt(spread):
        slope = 0.0
    half = spread / discordant / 2
    reach = half * slope + math.sqrt((half * slope) ** 2 + spread)
    if reach > discordant:  # then most of them must favour one side
        reach = half + math.sqrt(max(0.0, half**2 + spread * slope))
    return min(1.0, mean + reach)


def differences(reference: Answers, others: Sequence[Answers], speakers: Speakers) -> list[Difference]:
    """Return the Difference other - reference for each of `others`, Holm-corrected over all of them."""
    found = [difference(reference, other, speakers) for other in others]
    corrected = holm([item.p for item in found])
    return [replace(item, p_holm=p) for item, p in zip(found, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's corrected p-values in the given order; they control the family-wise error rate.

    NaN (a comparison that could not be made) stays NaN and is not counted. Source: Holm 1979, Scand. J. Statist. 6.
    """
    corrected = [math.nan] * len(p_values)
    order = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[index] = largest
    return corrected


def plan(a: Answers, b: Answers, speakers: Speakers, margin: float, clips: int, made: int = 0) -> Plan | None:
    """Return what shows with a power of 80 % that b is less than `margin` worse than a, if they are equally good.

    That is a number of seeds of runs with resplit, above the number `made`, and `clips` (those that resplit can split)
    if these suffice, else the larger number that does; None if no number of clips does. The variance of b - a is split
    into that of seeds, speakers and the rest by the method of moments; each seed holds out a part of the speakers.
    """
    from kws.data.splits import HELD_OUT  # imports torch

    found, held_out = _Crossed(b - a, speakers), 2 * HELD_OUT  # validation and testing
    shares = found.shares
    seed_share, speaker_share, cell_share = (float(np.sum(x**2)) for x in (shares.sum(1), shares.sum(0), shares))
    of_seeds = max(0.0, found.by_seed - found.by_cell) / (seed_share - cell_share)
    repeated = speaker_share - cell_share  # 0 if no two seeds share a speaker: then nothing is known of speakers alone
    of_speakers = max(0.0, found.by_speaker - found.by_cell) / repeated if repeated > 1e-9 else 0.0
    rest = max(0.0, found.by_cell / cell_share - of_seeds - of_speakers)
    of_speakers += found.pseudo / speaker_share
    speakers_per_clip = 1 / (cell_share * found.seeds * found.clips_per_seed)  # as many equal ones would be as precise
    needed = None
    for seeds in SEEDS_TO_PLAN:
        error = margin / (_t(seeds - 1) + _t(seeds - 1, POWER))
        of_clips = of_speakers + (of_speakers * (1 - held_out) + rest) / (seeds * held_out)
        if seeds > made and error**2 > of_seeds / seeds:
            enough = max(clips, math.ceil(of_clips / speakers_per_clip / (error**2 - of_seeds / seeds)))
            needed = Plan(seeds, enough, round(held_out * enough))
            if enough == clips:
                break
    return needed


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the (cost, accuracy) points that no other point dominates, cheapest first."""
    accuracy = [round(y, 9) for _, y in points]  # equal error counts, added in another order, give the same mean
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -accuracy[i])):
        if not front or accuracy[index] > accuracy[front[-1]]:
            front.append(index)
    return front
