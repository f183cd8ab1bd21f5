"""Intervals, differences and corrections, against textbook values, bounds and simulated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kws.analysis.statistics import (
    accuracy_interval,
    clip_interval,
    holm,
    mcnemar,
    mean_interval,
    paired_difference,
    pareto,
)


def test_the_mean_interval_is_students_t():
    values = [0.71, 0.74, 0.69, 0.8, 0.77]
    result = mean_interval(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (result.n, result.mean) == (5, pytest.approx(0.742))
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))
    assert result.sd == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("interval", [mean_interval, lambda values: accuracy_interval(values, 100)])
def test_a_single_value_has_no_interval(interval):
    result = interval([0.99])
    assert (result.n, result.mean) == (1, 0.99)
    assert all(math.isnan(value) for value in (result.sd, result.low, result.high))


@given(st.lists(st.integers(0, 200), min_size=2, max_size=10))
def test_an_accuracy_interval_lies_in_0_to_1_and_contains_the_mean(errors):
    result = accuracy_interval([1 - count / 200 for count in errors], 200)
    assert 0 <= result.low <= result.mean <= result.high <= 1
    assert result.low < result.high


def test_without_any_error_the_interval_still_has_a_width():
    few, more = (accuracy_interval([1.0] * n, 227) for n in (3, 5))
    assert few.high == 1 and few.low < more.low < 1
    assert more.low > 0.99


def test_an_interval_near_one_is_longer_below_the_mean_than_above():
    result = accuracy_interval([0.995, 0.99, 0.985, 0.995, 0.99], 200)
    assert result.mean - result.low > result.high - result.mean > 0


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("error", [0.002, 0.01, 0.03])
def test_the_interval_has_at_least_its_nominal_coverage(seeds, error):
    chance = np.random.default_rng(seeds)
    counts = chance.binomial(455, error, size=(600, seeds))
    results = [accuracy_interval(1 - row / 455, 455) for row in counts]
    assert np.mean([item.low <= 1 - error <= item.high for item in results]) > 0.92


def test_wilsons_interval():
    low, high = clip_interval(0.5, 10)  # the textbook's 5 of 10
    assert (low, high) == (pytest.approx(0.2366, abs=1e-4), pytest.approx(0.7634, abs=1e-4))
    low, high = clip_interval(1.0, 455)
    assert high == pytest.approx(1) and 0.99 < low < 1


def test_a_paired_difference_is_the_paired_t_test():
    a, b = {0: 0.99, 1: 0.97, 2: 0.98, 3: 0.96}, {0: 0.98, 1: 0.95, 2: 0.97, 3: 0.955}
    result = paired_difference(a, b)
    expected = stats.ttest_rel(list(b.values()), list(a.values()))
    assert (result.n, result.mean, result.p) == (4, pytest.approx(-0.01125), pytest.approx(expected.pvalue))
    low, high = expected.confidence_interval()
    assert (result.low, result.high) == (pytest.approx(low), pytest.approx(high))


def test_only_seeds_that_both_have_are_paired():
    result = paired_difference({0: 0.9, 1: 0.9, 7: 0.1}, {0: 0.8, 1: 0.7, 8: 1.0})
    assert (result.n, result.mean) == (2, pytest.approx(-0.15))
    lonely = paired_difference({0: 0.9}, {0: 0.8})
    assert lonely.mean == pytest.approx(-0.1) and math.isnan(lonely.p)
    assert math.isnan(paired_difference({0: 0.9}, {1: 0.8}).mean)


def test_with_a_known_resolution_equal_differences_have_an_interval():
    a, b = dict.fromkeys(range(3), 0.99), dict.fromkeys(range(3), 0.98)
    assert paired_difference(a, b).p == 0
    result = paired_difference(a, b, resolution=1 / 100)
    assert 0 < result.p < 0.1 and result.low < result.mean < result.high


def test_without_a_true_difference_about_five_percent_are_significant():
    chance = np.random.default_rng(0)
    found = 0
    for _ in range(1000):
        a, b = (dict(enumerate(1 - chance.binomial(455, 0.01, 5) / 455)) for _ in range(2))
        found += paired_difference(a, b, 1 / 455).p < 0.05
    assert found / 1000 < 0.07


def test_holm_on_a_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([0.02, math.nan, 0.5])
    assert corrected[0] == pytest.approx(0.04) and math.isnan(corrected[1]) and corrected[2] == 0.5


def test_mcnemar_on_one_seed_is_the_binomial_test_of_the_discordant_clips():
    a = [1] * 90 + [1] * 8 + [0] * 2
    b = [1] * 90 + [0] * 8 + [1] * 2
    only_a, only_b, p = mcnemar(a, b)
    assert (only_a, only_b) == (8, 2)
    assert p == pytest.approx(2 * sum(math.comb(10, k) for k in range(3)) / 2**10)
    assert mcnemar(a, a) == (0, 0, 1.0)


def test_mcnemar_over_seeds_counts_clips_not_seeds():
    assert mcnemar([5, 5, 3, 0], [5, 2, 4, 0])[:2] == (1, 1)


def test_rounding_differences_add_no_point_to_the_pareto_front():
    assert pareto([(1.0, 0.9947136563876651), (2.0, 0.9947136563876653)]) == [0]


def test_the_pareto_front():
    assert pareto([(4, 0.9), (1, 0.7), (2, 0.8), (3, 0.75), (2, 0.6)]) == [1, 2, 0]
