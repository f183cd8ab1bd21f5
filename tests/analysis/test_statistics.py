"""Intervals, differences and corrections, against textbook values, bounds and simulated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

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


def test_a_single_value_has_no_interval():
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
    assert math.isnan(accuracy_interval(answers({0}, {1}), np.zeros(100, int)).low)
    assert math.isnan(difference(answers({0}, {1}), answers({2}, {1}), np.zeros(100, int)).low)


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


def test_holm_on_a_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([0.02, math.nan, 0.5])
    assert corrected[0] == pytest.approx(0.04) and math.isnan(corrected[1]) and corrected[2] == 0.5


def test_rounding_differences_add_no_point_to_the_pareto_front():
    assert pareto([(1.0, 0.9947136563876651), (2.0, 0.9947136563876653)]) == [0]


def test_the_pareto_front():
    assert pareto([(4, 0.9), (1, 0.7), (2, 0.8), (3, 0.75), (2, 0.6)]) == [1, 2, 0]
