"""Means, intervals and differences of a study: which method, and why it is right for few seeds near 100 %."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats


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
    """Mean of the paired differences b - a over n equal seeds, its 95 % interval and the p-value of no difference.

    `p` is two-sided; `p_holm` is p corrected for the number of comparisons made together (see `holm`).
    """

    n: int
    mean: float
    low: float
    high: float
    p: float
    p_holm: float = math.nan


def _t_half_width(n, sd, confidence):
    return stats.t.ppf(0.5 + confidence / 2, n - 1) * sd / math.sqrt(n)


def mean_interval(values, confidence=0.95):
    """Return the Estimate of the mean by Student's t: for times and other quantities far from a bound.

    One value has no interval: its bounds are NaN.
    """
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Estimate(n, mean, math.nan, math.nan, math.nan)
    sd = float(np.std(values, ddof=1))
    half = _t_half_width(n, sd, confidence)
    return Estimate(n, mean, sd, mean - half, mean + half)


def accuracy_interval(accuracies, clips, confidence=0.95):
    """Return the Estimate of the mean accuracy over seeds, for one set of `clips` clips.

    The interval is Student's t on the arcsine scale, asin(sqrt(mean error)), where the spread of a share hardly
    depends on the share: it never leaves [0, 1] and reaches further down than up, as it must near 100 %. Two
    corrections serve few seeds and few errors. Half an error is added to the pooled count, so that no error at all is
    not certainty. And the standard deviation is taken as at least half a clip: five runs with one count of errors
    do not show that the sixth will have it too, only that the spread is below what whole clips can show.

    In simulation (3 and 5 seeds, 227 to 824 clips, mean error 0.2 to 3 %, clips equally hard or a few always hard, with
    and without spread between seeds) it covered the true mean in 93 to 100 % of the cases, 96 % in the mean; plain
    t in as few as 72 %. The logit scale was rejected: at no errors in 5 x 227 clips it
    reaches from 82 %, this from 99.3 %.

    It says where the mean of many more seeds would lie on these same clips. What other clips would do to it is
    another question: see `clip_interval`. One value has no interval: its bounds are NaN.
    """
    accuracies = np.asarray(accuracies, float)
    n, mean = len(accuracies), float(np.mean(accuracies))
    if n < 2:
        return Estimate(n, mean, math.nan, math.nan, math.nan)
    sd = float(np.std(accuracies, ddof=1))
    error = ((1 - mean) * n * clips + 0.5) / (n * clips + 1)
    # The derivative of asin(sqrt(x)) is 1 / (2 sqrt(x (1 - x))).
    half = _t_half_width(n, max(sd, 0.5 / clips), confidence) / (2 * math.sqrt(error * (1 - error)))
    centre = math.asin(math.sqrt(error))
    high, low = (1 - math.sin(min(max(angle, 0.0), math.pi / 2)) ** 2 for angle in (centre - half, centre + half))
    return Estimate(n, mean, sd, min(low, mean), max(high, mean))


def clip_interval(accuracy, clips, confidence=0.95):
    """Return (low, high), Wilson's interval of an accuracy measured on `clips` clips drawn at random.

    The clips of a data set are not quite that (a speaker speaks several), so it is rather too short than too long.
    """
    z = stats.norm.ppf(0.5 + confidence / 2)
    centre = (accuracy + z * z / (2 * clips)) / (1 + z * z / clips)
    half = z / (1 + z * z / clips) * math.sqrt(accuracy * (1 - accuracy) / clips + z * z / (4 * clips**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def paired_difference(a, b, resolution=0.0, confidence=0.95):
    """Return the Difference b - a of two {seed: value}, over the seeds that both have, by the paired t-test.

    A seed fixes the order of the batches and the augmentation, so pairs share that part of the noise. An exact
    permutation test was rejected: with five pairs its smallest p is 2/32, so it could never find anything.
    `resolution` is the smallest step of a value (1/clips for an accuracy): the differences' standard deviation is
    taken as at least half of it, as in `accuracy_interval`. With fewer than two pairs, bounds and p are NaN.
    """
    seeds = sorted(set(a) & set(b))
    differences = np.array([b[seed] - a[seed] for seed in seeds], float)
    n = len(differences)
    if n < 2:
        mean = float(differences.mean()) if n else math.nan
        return Difference(n, mean, math.nan, math.nan, math.nan)
    mean, sd = float(differences.mean()), max(float(differences.std(ddof=1)), resolution / 2)
    if sd == 0:  # identical in every pair, with no resolution to say how finely that was seen
        return Difference(n, mean, mean, mean, 1.0 if mean == 0 else 0.0)
    half = _t_half_width(n, sd, confidence)
    p = 2 * stats.t.sf(abs(mean) / (sd / math.sqrt(n)), n - 1)
    return Difference(n, mean, mean - half, mean + half, float(p))


def holm(p_values):
    """Return Holm's corrected p-values, in the order given: the chance of one false finding among all stays at p.

    NaN (a comparison that could not be made) stays NaN and does not count. Source: Holm 1979, Scand. J. Statist. 6.
    """
    corrected = [math.nan] * len(p_values)
    order = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for rank, (p, index) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[index] = largest
    return corrected


def mcnemar(correct_a, correct_b):
    """Return (only_a, only_b, p): McNemar's exact test on the clips of one test set.

    `correct_a` and `correct_b`, shape (clips,), count for each clip the seeds of a configuration that heard it right
    (the same number of seeds in both; 0 or 1 for one seed). only_a is the number of clips that a heard right in
    more seeds than b, only_b the other way round. If neither is better, each of these clips falls to either side like a
    coin: p is the two-sided exact binomial probability. With one seed this is McNemar's test as it is known.
    Source: McNemar 1947, Psychometrika 12.
    """
    correct_a, correct_b = np.asarray(correct_a), np.asarray(correct_b)
    only_a, only_b = int(np.sum(correct_a > correct_b)), int(np.sum(correct_b > correct_a))
    if only_a + only_b == 0:
        return 0, 0, 1.0
    return only_a, only_b, float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def importance(values, scores, most_bins=4):
    """Return the share (0 to 1) of the variance of the scores' ranks that one parameter explains by itself.

    The parameter's values, shape (runs,), are taken as they are where they are few or words, and else cut into
    `most_bins` bins of equally many runs. The share is epsilon squared, the correlation ratio without its
    upward bias of small samples: noise scores near 0 however many bins there are.
    """
    ranks = stats.rankdata(scores)
    kinds = sorted(set(values), key=str)
    if len(kinds) > most_bins and all(isinstance(value, (int, float)) for value in kinds):
        bins = (stats.rankdata(values) - 1) * most_bins // len(values)
    else:
        bins = np.array([kinds.index(value) for value in values])
    n, used = len(ranks), sorted(set(bins))
    total = float(np.sum((ranks - ranks.mean()) ** 2))
    if total == 0 or n <= len(used) or len(used) < 2:
        return 0.0
    within = sum(float(np.sum((ranks[bins == bin] - ranks[bins == bin].mean()) ** 2)) for bin in used)
    return max(0.0, 1 - (within / (n - len(used))) / (total / (n - 1)))
