"""Intervals, differences and corrections, against textbook values, bounds and simulated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import brentq

from kws.analysis.statistics import (
    SEEDS_TO_PLAN,
    accuracy_interval,
    difference,
    differences,
    holm,
    mean_interval,
    pareto,
    plan,
)


def test_the_mean_interval_is_students_t():
    values = [0.71, 0.74, 0.69, 0.8, 0.77]
    result = mean_interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (result.n, result.mean) == (5, pytest.approx(0.742))
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))
    assert result.sd == pytest.approx(np.std(values, ddof=1))


def test_two_values_have_an_interval_and_a_single_value_has_none():
    low, high = stats.t.interval(0.95, 1, 0.7, 0.1)
    two = mean_interval([0.6, 0.8])
    assert (two.low, two.high) == (pytest.approx(low), pytest.approx(high))
    result = mean_interval([0.99])
    assert (result.n, result.mean) == (1, 0.99)
    assert all(math.isnan(value) for value in (result.sd, result.low, result.high))


PAIRS = np.arange(100) // 2  # two clips of each of 50 speakers


def answers(*errors, clips=100):
    """One row per seed: the clips given are misclassified."""
    found = np.ones((len(errors), clips))
    for row, wrong in zip(found, errors, strict=True):
        row[list(wrong)] = 0
    return found


@given(st.lists(st.sets(st.integers(0, 99)), min_size=1, max_size=6))
def test_an_accuracy_interval_lies_in_0_to_1_and_contains_the_mean(errors):
    found = answers(*errors)
    result = accuracy_interval(found, PAIRS)
    assert result.n == len(errors) and result.mean == pytest.approx(found.mean())
    assert 0 <= result.low <= result.mean <= result.high <= 1
    assert result.low < result.high


def test_without_any_error_the_interval_still_has_a_width():
    few, more = (accuracy_interval(np.ones((3, clips)), np.arange(clips) // 2) for clips in (100, 200))
    assert few.high == 1 and few.low < more.low < 1
    assert 0.95 < few.low < 0.96 and more.low > 0.975  # about as for 100 and 200 independent clips


def test_an_interval_near_one_is_longer_below_the_mean_than_above():
    result = accuracy_interval(answers({0}, {1, 5}, {0}, {3}), PAIRS)
    assert result.mean - result.low > 2 * (result.high - result.mean) > 0


def test_with_independent_clips_the_interval_is_about_wilsons():
    chance = np.random.default_rng(0)
    found = (chance.random((1, 2000)) < 0.9).astype(float)
    result, expected = accuracy_interval(found, np.arange(2000)), stats.binomtest(int(found.sum()), 2000)
    low, high = expected.proportion_ci(method="wilson")
    assert (result.low, result.high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_errors_of_one_speaker_tell_less_than_those_of_many():
    """Ten errors of one speaker in every seed, or of ten speakers; then the same number in every seed, or in one."""
    one, many = (
        accuracy_interval(answers(*[wrong] * 4), np.arange(100) // 10) for wrong in (range(10), range(0, 100, 10))
    )
    assert one.mean == many.mean and one.low < many.low - 0.1
    once, always = (accuracy_interval(answers(*rows), PAIRS) for rows in (
        [range(0, 96, 4), (), (), ()], [range(start, 96, 16) for start in (0, 4, 8, 12)]))  # fmt: skip
    assert once.mean == always.mean and once.low < always.low - 0.1


def test_with_one_speaker_there_is_no_interval():
    one, two = answers({0}, {1}), answers({2}, {1})
    for found in (accuracy_interval(one, np.zeros(100, int)), difference(one, two, np.zeros(100, int))):
        assert found.n == 2 and math.isnan(found.low) and math.isnan(found.high)


def test_a_difference_of_one_seed_has_no_interval():
    found = difference(answers({0}), answers({1, 2}), PAIRS)
    assert (found.n, found.mean) == (1, -0.01) and math.isnan(found.low) and math.isnan(found.p)


def test_clips_that_a_seed_does_not_have_do_not_count():
    found = answers({0, 60}, {60, 61})
    found[0, 50:], found[1, :50] = math.nan, math.nan
    result = accuracy_interval(found, PAIRS)
    assert (result.n, result.mean) == (2, pytest.approx(1 - (1 / 50 + 2 / 50) / 2))
    nothing = difference(found, np.full_like(found, math.nan), PAIRS)
    assert nothing.n == 0 and math.isnan(nothing.mean) and math.isnan(nothing.p)


def test_a_difference_is_paired_by_seed_and_clip():
    a, b = answers({0}, {0, 2}, {0}), answers({0, 7}, {0, 2, 9}, {0, 11})
    result, turned = difference(a, b, PAIRS), difference(b, a, PAIRS)
    assert (result.n, result.mean) == (3, pytest.approx(-0.01))
    assert result.low < result.mean < result.high and 0 < result.p < 1
    assert (turned.low, turned.high) == (pytest.approx(-result.high), pytest.approx(-result.low))
    shared = answers({0, 7, 20, 30}, {0, 2, 9, 20, 30}, {0, 11, 20, 30})
    assert difference(answers({0, 20, 30}, {0, 2, 20, 30}, {0, 20, 30}), shared, PAIRS).low == pytest.approx(result.low)


@given(st.lists(st.tuples(st.sets(st.integers(0, 99)), st.sets(st.integers(0, 99))), min_size=2, max_size=5))
def test_p_is_below_5_percent_if_and_only_if_the_interval_excludes_zero(errors):
    a, b = answers(*[one for one, _ in errors]), answers(*[two for _, two in errors])
    result = difference(a, b, PAIRS)
    assert -1 <= result.low <= result.mean <= result.high <= 1
    assert (result.p < 0.05) == (not result.low <= 0 <= result.high)


def test_a_difference_over_speakers_is_the_paired_t_test_over_their_means():
    """With equal seeds only the speakers vary, so 50 means of two clips are what counts."""
    a, b = answers(*[range(0, 30, 3)] * 3), answers(*[range(0, 32, 2)] * 3)
    result = difference(a, b, PAIRS)
    expected = stats.ttest_1samp((b - a)[0].reshape(50, 2).mean(1), 0)
    low, high = expected.confidence_interval()
    assert result.p == pytest.approx(expected.pvalue, rel=0.2)
    assert (result.low, result.high) == (pytest.approx(low, abs=5e-3), pytest.approx(high, abs=5e-3))


def test_a_difference_over_seeds_is_the_paired_t_test_over_seeds():
    """Each seed has its own number of additional errors, all of different speakers."""
    a = answers(*[range(12000, 15000)] * 3, clips=16000)
    b = answers(range(0, 2400, 2), range(3000, 6600, 2), range(6600, 11400, 2), clips=16000)
    result, expected = difference(a, b, np.arange(16000) // 2), stats.ttest_1samp((b - a).mean(1), 0)
    assert result.p == pytest.approx(expected.pvalue, rel=0.1)
    low, high = expected.confidence_interval()
    assert (result.low, result.high) == (pytest.approx(low, abs=5e-3), pytest.approx(high, abs=5e-3))


def test_bounds_further_from_zero_allow_for_more_discordant_clips_and_nearer_ones_for_fewer():
    """All discordant clips are in favour of a."""
    result = difference(answers((), (), ()), answers(*[range(0, 40, 2)] * 3), PAIRS)
    plain = stats.t.isf(result.p / 2, 49)  # of the standard error
    error = 0.2 / plain
    assert result.mean - result.low > 1.15 * 2 * error and 0 < result.high - result.mean < 0.85 * 2 * error


def test_equal_answers_exclude_only_differences_that_would_have_been_seen():
    result = difference(np.ones((3, 1000)), np.ones((3, 1000)), np.arange(1000))
    assert (result.mean, result.p) == (0, 1)
    # The "rule of three": without a discordant clip in n a share of 3.7/n is excluded with 97.5 %.
    assert result.high == -result.low == pytest.approx(3.84 / 1000, rel=0.02)


def test_one_clip_that_differs_in_each_seed_is_no_significant_difference():
    """All seeds have the same difference, by other clips of other speakers: neither seeds nor speakers seem to vary."""
    result = difference(answers({0}, {20}, {40}), np.ones((3, 100)), PAIRS)
    assert result.mean == 0.01 and result.p > 0.05 and result.low < 0


def test_comparisons_made_together_are_corrected_together():
    reference, others = answers({0}, {1}, {2}), [answers({0, 5}, {1, 6}, {2, 7}), answers({0}, {1}, {2, 4})]
    found = differences(reference, others, PAIRS)
    assert [item.p for item in found] == [difference(reference, other, PAIRS).p for other in others]
    assert [item.p_holm for item in found] == holm([item.p for item in found])


def test_a_plan_needs_fewer_seeds_for_a_wider_margin_and_more_clips_if_these_do_not_suffice():
    chance = np.random.default_rng(0)
    a, b = ((chance.random((5, 400)) < 0.985).astype(float) for _ in range(2))
    speakers = np.arange(400) // 2
    wide, narrow, few = (plan(a, b, speakers, *item) for item in ((0.01, 4000), (0.005, 4000), (0.005, 400)))
    assert wide.seeds < narrow.seeds and wide.clips == narrow.clips == 4000 and wide.held_out == 800
    assert few.seeds == SEEDS_TO_PLAN[-1] and 400 < few.clips < 4000 and few.held_out == round(0.2 * few.clips)
    changing = a.copy()
    changing[0, :100] = 0
    assert plan(a, changing, speakers, 0.005, 4000) is None


# The same by a plain computation in loops, as docs/statistics.md describes it.


def by_loops(values, speakers):
    """Return mean, clips, variance with the sixth of a clip, degrees of freedom, and what they are made of."""
    cells, shares = {}, {}
    rows = [[(k, x) for k, x in zip(speakers, row, strict=True) if not math.isnan(x)] for row in values]
    rows = [row for row in rows if row]
    mean = sum(sum(x for _, x in row) / len(row) for row in rows) / len(rows)
    for seed, row in enumerate(rows):
        for k, x in row:
            share = 1 / len(row) / len(rows)
            cells[seed, k] = cells.get((seed, k), 0) + share * (x - mean)
            shares[seed, k] = shares.get((seed, k), 0) + share
    clips = sum(any(not math.isnan(x) for x in column) for column in zip(*values, strict=True))
    numbers = [len({key[place] for key in cells}) for place in (0, 1)]
    parts = [sum(x**2 for x in sums(cells, place).values()) * n / max(n - 1, 1) for place, n in enumerate(numbers)]
    of_cells = sum(x**2 for x in cells.values())
    crossed = parts[0] + (parts[1] - of_cells) * numbers[0] / (numbers[0] - 1) if numbers[0] > 1 else parts[1]
    variance = max(crossed, of_cells / 2) + 1 / 6 / clips**2
    share = min(1, parts[0] / (variance + 1 / 3 / clips**2))
    inverse = share / (numbers[0] - 1 or 1) + (1 - share) / (numbers[1] - 1)
    return mean, clips, variance, 1 / inverse, parts, of_cells, [sums(shares, 0), sums(shares, 1), shares]


def sums(cells, place):
    """Return the sums of the cells over each seed (place 0) or speaker (1)."""
    found = {}
    for key, value in cells.items():
        found[key[place]] = found.get(key[place], 0) + value
    return found


def some_answers(seeds, per_speaker, resplit=False, rate=0.15, spread=0.1, seed=0):
    """Random answers of speakers with these numbers of clips; each seed has its own rate of errors."""
    chance = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(len(per_speaker)) + 3, per_speaker)  # a speaker may be missing, such as 0
    rates = rate + spread * chance.random((seeds, 1)) + 0.2 * (speakers % 5 == 0)
    found = (chance.random((seeds, len(speakers))) > rates).astype(float)
    if resplit:
        found[:, chance.random(len(speakers)) < 0.1] = math.nan
        for row in found:
            row[np.isin(speakers, chance.permutation(len(per_speaker))[: len(per_speaker) // 2] + 3)] = math.nan
    return found, speakers


CASES = {
    "few speakers": some_answers(4, [1, 2, 3, 2, 1, 4, 2, 5]),
    "many clips, other seeds": some_answers(3, [9, 11, 30, 8, 12, 15] * 4, spread=0.5),
    "few errors": some_answers(6, [1, 2, 3] * 12, rate=0.0, spread=0.02),
    "resplit": some_answers(5, [1, 2, 3, 2, 7, 4, 2, 5, 3, 6], resplit=True),
    "two seeds": some_answers(2, [1, 2, 3, 2, 1, 4, 2, 5]),
    "two speakers": some_answers(4, [20, 30]),
    "one seed": some_answers(1, [1, 2, 3, 2, 1, 4, 2, 5]),
    "a seed without clips": (np.vstack([some_answers(3, [2, 3] * 5)[0], np.full(25, math.nan)]), np.arange(25) // 3),
    "another error in each seed": (answers({0}, {9}, {18}, clips=27), np.arange(27) // 3),
    "no error": (np.ones((3, 25)), np.arange(25) // 3),
    "all wrong": (np.zeros((3, 25)), np.arange(25) // 3),
    "nearly all wrong": (1 - some_answers(3, [2, 3] * 5, rate=0.0, spread=0.02)[0], np.arange(25) // 3),
}


@pytest.mark.parametrize("case", CASES)
def test_an_accuracy_interval_solves_wilsons_equation_with_the_crossed_variance(case):
    found, speakers = CASES[case]
    mean, clips, variance, df, *_ = by_loops(found, speakers)
    result = accuracy_interval(found, speakers)
    seeds = [np.nanmean(row) for row in found if not np.isnan(row).all()]
    assert (result.n, result.mean) == (len(seeds), pytest.approx(mean))
    assert result.sd == pytest.approx(np.std(seeds, ddof=1)) if len(seeds) > 1 else math.isnan(result.sd)
    few, error = (min(1 - mean + more / clips, 1 - more / clips) for more in (1 / 6, 1 / 3))
    independent = few * (1 - few) / variance  # clips
    t = stats.t.ppf(0.975, df)
    bounds = []
    for start, end in ((1e-12, error), (error, 1 - 1e-12)):
        bounds.append(brentq(lambda x: (x - error) ** 2 - t**2 * x * (1 - x) / independent, start, end))
    assert (result.high, result.low) == (
        pytest.approx(max(1 - bounds[0], mean)), pytest.approx(min(1 - bounds[1], mean))
    )  # fmt: skip


PAIRED = {  # the second: with fewer discordant clips, which may all favour one side
    "few speakers": (some_answers(4, [1, 2, 3, 2, 1, 4, 2, 5], seed=1), CASES["few speakers"]),
    "resplit": ((1 - 2 * (CASES["resplit"][0] == 0) * (np.arange(35) % 7 > 2), None), CASES["resplit"]),
    "two seeds": (some_answers(2, [1, 2, 3, 2, 1, 4, 2, 5], seed=1), CASES["two seeds"]),
    "two speakers": (some_answers(4, [20, 30], seed=1), CASES["two speakers"]),
    "few errors": ((np.ones((6, 72)), None), CASES["few errors"]),
    "one error": ((np.ones((3, 72)), None), (1.0 - (np.arange(216) == 100).reshape(3, 72), CASES["few errors"][1])),
    "another error in each seed": ((np.ones((3, 27)), None), CASES["another error in each seed"]),
    "other seeds": (some_answers(3, [9, 11, 30, 8, 12, 15] * 4, seed=2), CASES["many clips, other seeds"]),
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("case", PAIRED)
def test_a_difference_solves_the_score_equation_with_the_crossed_variance(case, turned):
    (a, _), (b, speakers) = PAIRED[case]
    a = np.where(np.isnan(b), b, np.clip(a, 0, 1))
    a, b = (b, a) if turned else (a, b)
    mean, clips, variance, df, *_ = by_loops(b - a, speakers)
    result = difference(a, b, speakers)
    assert (result.n, result.mean) == (len(a), pytest.approx(mean, abs=1e-12))
    assert result.p == pytest.approx(2 * stats.t.sf(abs(mean) / math.sqrt(variance), df))
    discordant = np.mean([np.nanmean(np.abs(row)) for row in b - a]) + 1 / 6 / clips
    spread = stats.t.ppf(0.975, df) ** 2 * variance
    for sign, bound in ((1, result.high), (-1, result.low)):
        reach, slope = sign * (bound - mean), sign * mean / discordant
        if slope < 0 < sign * mean + math.sqrt(spread):
            slope = 0  # the variance at zero, as for the p-value
        expected = spread * (1 + slope * reach / discordant)
        if reach > discordant:
            expected = spread * (slope + reach / discordant)
        assert reach > 0 and (reach**2 == pytest.approx(expected) or (bound == sign and reach**2 < expected))


PAIRED_FOR_PLAN = PAIRED | {
    "no speaker twice": (
        (np.ones((3, 30)), None),
        (np.where(np.arange(30) // 10 == np.arange(3)[:, None], np.arange(30) % 7 > 0, math.nan), np.arange(30) // 2),
    ),
}


@pytest.mark.parametrize("case", PAIRED_FOR_PLAN)
@pytest.mark.parametrize(
    ("margin", "clips", "made"), [(0.2, 200, 0), (0.2, 200, 10), (0.2, 50, 15), (0.05, 900, 0), (0.02, 50, 0)]
)
def test_a_plan_has_the_fewest_seeds_whose_error_shows_the_margin_with_80_percent(case, margin, clips, made):
    (a, _), (b, speakers) = PAIRED_FOR_PLAN[case]
    a = np.where(np.isnan(b), b, np.clip(a, 0, 1))
    *_, (by_seed, by_speaker), by_cell, shares = by_loops(b - a, speakers)
    seed, speaker, cell = (sum(x**2 for x in item.values()) for item in shares)
    of_seeds = max(0, by_seed - by_cell) / (seed - cell)
    of_speakers = max(0, by_speaker - by_cell) / (speaker - cell) if case != "no speaker twice" else 0
    rest = max(0, by_cell / cell - of_seeds - of_speakers)
    used = int((~np.isnan(a)).any(0).sum())
    of_speakers += 1 / 6 / used**2 / speaker
    clips_per_speaker = cell * (~np.isnan(a)).sum()  # of as many equal ones
    needed = None
    for seeds in (number for number in (5, 10, 15, 20, 30) if number > made):
        most = (margin / (stats.t.ppf(0.975, seeds - 1) + stats.t.ppf(0.8, seeds - 1))) ** 2 - of_seeds / seeds
        if most > 0:
            # A fifth of `clips` is held out by each seed: other speakers by each, but all of them in the end.
            of_clips = clips_per_speaker * (of_speakers + (0.8 * of_speakers + rest) / (0.2 * seeds))
            needed = seeds, max(clips, math.ceil(of_clips / most))
            if needed[1] == clips:
                break
    found = plan(a, b, speakers, margin, clips, made)
    assert (found and (found.seeds, found.clips, found.held_out)) == (needed and (*needed, round(0.2 * needed[1])))


def test_holm_on_a_textbook_example():
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([0.02, math.nan, 0.5])
    assert corrected[0] == pytest.approx(0.04) and math.isnan(corrected[1]) and corrected[2] == 0.5


def test_rounding_differences_add_no_point_to_the_pareto_front():
    assert pareto([(1.0, 0.9947136563876651), (2.0, 0.9947136563876653)]) == [0]


def test_the_pareto_front():
    assert pareto([(4, 0.9), (1, 0.7), (2, 0.8), (3, 0.75), (2, 0.6)]) == [1, 2, 0]
    assert pareto([(2, 0.6), (2, 0.8)]) == [1]
