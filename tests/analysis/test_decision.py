"""The decision between values, and that no sentence contradicts the tables."""

import math
import re
import runpy

import numpy as np
import pytest
from conftest import REPOSITORY
from helpers.run_folders import record
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.analysis.decision import decide
from kws.analysis.narrative import answer, conclusions
from kws.analysis.records import Results
from kws.analysis.statistics import difference
from kws.analysis.study import studies
from kws.report import content

SPEAKERS = np.arange(400) // 2


def value(*errors):
    """Answers of three seeds; `errors` are the numbers of clips, from the first of the 400, that each misclassifies."""
    found = np.ones((3, 400))
    for row, number in zip(found, errors, strict=True):
        row[:number] = 0
    return found


# Numbers of errors of three seeds: each is 1 point (4 clips) worse than the one before it, by far more than chance.
GOOD, FAIR, POOR = value(4, 4, 4), value(8, 8, 8), value(12, 12, 12)


def test_of_equal_values_the_cheapest_is_recommended():
    decision = decide([3, 2, 1], [GOOD, GOOD, GOOD], SPEAKERS, 0.02)
    assert (decision.verdict, decision.best, decision.chosen, decision.blocked) == ("within margin", 2, 2, None)
    assert [(number, item.mean) for number, item in decision.comparisons.items()] == [(0, 0), (1, 0)]


def test_going_down_in_cost_stops_at_the_first_value_that_is_not_within_the_margin():
    """The cheapest value would pass, but the one before it does not."""
    answers = [GOOD, value(5, 5, 5), value(40, 40, 40), value(5, 5, 5)]
    decision = decide([4, 3, 2, 1], answers, SPEAKERS, 0.02)
    assert (decision.verdict, decision.best, decision.chosen) == ("within margin", 0, 1)
    assert decision.blocked[:2] == (2, 0)
    assert decide([4, 3, 1, 2], answers, SPEAKERS, 0.02).chosen == 3  # in order of cost, not of place


def test_of_equally_costly_values_the_best_is_recommended():
    answers = [GOOD, value(6, 6, 6), value(5, 5, 5), value(7, 7, 7)]
    assert decide([2, 1, 1, 1], answers, SPEAKERS, 0.05).chosen == 2


def test_a_loss_within_the_margin_is_accepted_and_a_larger_one_is_not():
    loss = -difference(GOOD, FAIR, SPEAKERS).low
    assert decide([2, 1], [GOOD, FAIR], SPEAKERS, loss + 1e-6).chosen == 1
    assert decide([2, 1], [GOOD, FAIR], SPEAKERS, loss).chosen == 0  # the bound must be smaller than the margin


def test_the_best_is_kept_only_if_every_cheaper_value_is_significantly_worse():
    far = value(40, 40, 40)
    kept = decide([3, 2, 1], [GOOD, far, far], SPEAKERS, 0.03)
    assert (kept.verdict, kept.chosen, kept.blocked[:2]) == ("keep the best", 0, (1, 0))
    assert kept.is_worse(1) and kept.is_worse(2)
    assert decide([3, 3, 2], [GOOD, GOOD, far], SPEAKERS, 0.03).verdict == "keep the best"  # as costly, as good
    open_ = decide([3, 2, 1], [GOOD, far, value(5, 40, 4)], SPEAKERS, 0.03)
    assert (open_.verdict, open_.chosen) == ("undecided", 0)
    assert open_.is_worse(1) and not open_.is_worse(2)
    open_ = decide([3, 2, 1], [GOOD, far, value(5, 6, 4)], SPEAKERS, 0.03)  # the best is within the margin
    assert (open_.verdict, open_.chosen, open_.blocked[:2]) == ("undecided", 0, (1, 0))
    assert open_.is_worse(1) and not open_.is_worse(2)


def test_a_value_that_is_significantly_better_is_not_worse():
    decision = decide([1, 2, 3], [value(5, 5, 5), GOOD, value(40, 40, 40)], SPEAKERS, 0.02)
    assert (decision.best, decision.chosen) == (1, 0)
    assert decision.is_worse(2) and not decision.is_worse(1)
    better = decide([1, 2], [value(13, 12, 14), GOOD], SPEAKERS, 0.06)
    assert better.chosen == 0 and better.comparisons[1].mean > 0 and better.comparisons[1].p_holm < 0.05
    assert not better.is_worse(1)


def test_significance_is_that_of_the_corrected_p():
    """Each of four comparisons alone has p of about 3 %, so none is significant."""
    cheap = [value(13, 12, 14)] * 4
    decision = decide([5, 4, 3, 2, 1], [GOOD, *cheap], SPEAKERS, 0.005)
    assert all(item.p < 0.05 < item.p_holm for item in decision.comparisons.values())
    assert decision.verdict == "undecided" and not any(map(decision.is_worse, decision.comparisons))
    assert decide([2, 1], [GOOD, cheap[0]], SPEAKERS, 0.005).verdict == "keep the best"


def test_the_best_value_is_recommended_only_if_no_other_may_be_better_by_the_margin():
    """The best value so far is the cheapest, but few seeds cannot exclude that the other is better."""
    few = [value(4, 4, 4), value(3, 12, 3)]
    decision = decide([1, 2], few, SPEAKERS, 0.005)
    assert (decision.verdict, decision.best, decision.chosen, decision.blocked[:2]) == ("undecided", 0, 0, (0, 1))
    assert decision.blocked[2] == difference(few[1], few[0], SPEAKERS)
    # A cheaper value that is near the best, but may be worse than a third, is not recommended either.
    third = [GOOD, value(5, 5, 5), value(0, 30, 0)]
    blocked = decide([2, 1, 3], third, SPEAKERS, 0.02).blocked
    assert blocked[:2] == (0, 2)


def test_of_several_values_that_may_be_better_the_best_is_named_else_the_most_likely():
    answers = [value(4, 4, 4), value(3, 12, 3), value(0, 20, 2)]
    lows = {other: difference(answers[other], answers[0], SPEAKERS).low for other in (1, 2)}
    assert decide([1, 2, 3], answers, SPEAKERS, 0.005).blocked[1] == min(lows, key=lows.get)
    cheap, elsewhere = value(7, 7, 7), value(4, 4, 5)[:, ::-1]
    assert difference(elsewhere, cheap, SPEAKERS).low < difference(GOOD, cheap, SPEAKERS).low < -0.02
    assert decide([1, 2, 2], [cheap, GOOD, elsewhere], SPEAKERS, 0.02).blocked[:2] == (0, 1)


def test_equal_means_in_another_order_of_seeds_are_equal():
    assert decide([1, 2], [value(1, 2, 4), value(4, 1, 2)], SPEAKERS, 0.1).best == 0
    assert decide([2, 1], [value(1, 2, 4), value(4, 1, 2)], SPEAKERS, 0.1).best == 1


# Simulated studies

SIMULATION = runpy.run_path(str(REPOSITORY / "scripts" / "simulate_statistics.py"))


@pytest.mark.parametrize(("accuracy", "seeds", "resplit"), [(0.97, 3, False), (0.985, 5, False), (0.985, 10, True)])
def test_intervals_cover_the_truth_in_about_95_percent_of_simulated_studies(accuracy, seeds, resplit):
    found = SIMULATION["coverage"](300, accuracy, 60, seeds, resplit)
    assert 0.91 < found["accuracy"] < 0.99 and 0.93 < found["difference"] <= 1  # standard error 0.013


@pytest.mark.parametrize("accuracies", [(0.99, 0.985), (0.99, 0.985, 0.985)])
def test_a_value_that_is_worse_by_the_margin_is_rarely_recommended(accuracies):
    found = SIMULATION["decisions"](200, accuracies, 5, 200)
    assert found["wrong"] <= 0.05
    assert SIMULATION["decisions"](100, (0.995, 0.995, 0.995), 5, 400)["cheapest"] > 0.3


def test_the_documented_simulation_is_that_of_the_script():
    text = (REPOSITORY / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert f"{SIMULATION['STUDIES']:,} studies in each row" in text
    for title, heads, rows in SIMULATION["tables"](SIMULATION["STUDIES"]):
        table = text.partition(f"**{title}**")[2].split("\n\n")[1].splitlines()
        assert table[0] == f"| {' | '.join(heads)} |"
        for cells, line in zip(rows, table[2 : 2 + len(rows)], strict=True):
            assert line.startswith(f"| {' | '.join(map(str, cells[0]))} |")


# Sentences


@st.composite
def results(draw):
    """Results of one study; small and large differences, few and many seeds, some runs missing."""
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    number, seeds = draw(st.integers(1, 4)), draw(st.sampled_from((1, 3, 3, 4, 5)))
    rates = draw(st.lists(st.sampled_from((0.0, 0.01, 0.02, 0.1, 0.3)), min_size=number, max_size=number))
    resplit, missing = draw(st.booleans()), draw(st.sampled_from((0.0, 0.0, 0.2)))
    cost = draw(st.sampled_from(("n_mels", "lr")))  # another n_mels is another cost, another lr is not
    runs = []
    for place, rate in enumerate(rates):
        chosen = {cost: (20, 40, 80, 120)[place] if cost == "n_mels" else (place + 1) / 1000}
        for seed in range(seeds):
            if not runs or chance.random() >= missing:
                splits = np.random.default_rng(seed).permutation(60) if resplit else np.arange(60)
                wrong = chance.random(120) < rate
                runs.append(record(splits[:30], splits[30:], wrong, seed=seed, resplit=resplit, **chosen))
    return Results(runs, [], {})


NUMBER = re.compile(r"−?\d+\.\d\d(?= points| %| to | points better| against)|(?<=to )−?\d+\.\d\d|p [<=] [\d.]+\d")


@settings(max_examples=150, deadline=None)
@given(results(), st.sampled_from((0.005, 0.05, 0.2)))
def test_no_sentence_contradicts_a_table(found, margin):
    [study] = studies(found, margin)
    recommendation, test, *_ = answer(study)
    further = conclusions(study)
    rows = {row[0]: row for row in content.difference_rows(study)}
    chosen = study.recommended
    marked = [item for item in study.configurations if content.is_marked(study, item)]
    assert marked == ([chosen] if recommendation.startswith("Choose") else [])
    assert recommendation.startswith("Choose") == study.recommends
    if study.recommends:
        assert recommendation.startswith(f"Choose {chosen.label}:")
        # Every other value is less than the margin better, as the table of differences shows.
        assert all(item.val.high < margin for item in study.comparisons)
        cheaper = [item for item in study.comparisons if item.configuration.flops < chosen.flops]
        for item in cheaper:
            named_worse = re.search(rf"{item.configuration.label}\b[^;]*significantly lower", recommendation)
            every = "every cheaper value is significantly lower" in recommendation
            every = every or "the cheaper value is significantly lower" in recommendation
            assert bool(named_worse or every) == (item.val.p_holm < 0.05 and item.val.mean < 0)
    elif study.comparisons:
        assert recommendation.startswith("Undecided") and len(answer(study)) == 3
        assert any(not item.val.high < margin or not -margin < item.val.low for item in study.comparisons) or (
            "against" in recommendation
        )
    # Differences on the test clips.
    text = " ".join(further)
    if study.comparisons and not study.resplit:
        significant = [item for item in study.comparisons if item.test.p_holm < 0.05]
        assert ("no value is significantly different" in text) == (not significant)
        for item in significant:
            better = "better" if item.test.mean > 0 else "worse"
            points = content.percentage_points(abs(item.test.mean))
            assert f"{item.configuration.label} is {points} points {better} than {chosen.label}" in text
    else:
        assert "On the test clips" not in text
    # Every accuracy, difference, bound and p of a sentence is in a table, but for the sign.
    tables = repr([content.comparison_rows(study.configurations), *rows.values()]).replace("−", "")
    tables += f"{content.percentage_points(margin)} points"
    sentences = " ".join([recommendation, test, *further]).replace("−", "")
    if study.shared_seeds != study.seeds or any(len(item.runs) != len(study.seeds) for item in study.configurations):
        sentences = re.sub(r"\(\d+\.\d\d %, \d+ shared seeds\)|so far, \d+\.\d\d %", "", sentences)
    for number in NUMBER.findall(sentences):
        assert number in tables, (number, recommendation, test, text)


def test_a_generated_study_has_each_of_the_outcomes():
    """The strategy above would be worth little if it never led to a recommendation."""
    seen = set()

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(results(), st.sampled_from((0.005, 0.05, 0.2)))
    def collect(found, margin):
        [study] = studies(found, margin)
        seen.add(study.decision.verdict if study.decision else None)

    collect()
    assert seen == {"within margin", "keep the best", "undecided", None}
    assert math.isnan(
        studies(Results([record(range(30), range(30, 60), [False] * 120, seed=0)], [], {}))[0].best.val.low
    )
