"""Studies: which runs belong together, what is recommended, and the sentences made from the numbers."""

import io
import math
import re

import numpy as np
import pytest
from helpers.run_folders import CLIPS, make_run, make_study, record, write_sweep
from rich.console import Console

from kws.analysis.load import load
from kws.analysis.narrative import answer, conclusions
from kws.analysis.records import Excluded, Results
from kws.analysis.statistics import accuracy_interval, plan
from kws.analysis.study import concurrent_jobs, last_epochs_spread, studies
from kws.formatting import percentage_points
from kws.report.charts import figures
from kws.report.content import comparison_rows, difference_heads, difference_rows, facts
from kws.report.misclassified import misclassified
from kws.sweep.spec import load_sweep
from kws.terminal.tables import report, study_table


def study_of(run_dir, val, name="n_mels", test=None, margin=0.005, **arguments):
    """Write runs whose validation (and test) accuracies are given, value -> one for each seed; return their Study."""
    for value, accuracies in val.items():
        for seed, accuracy in enumerate(accuracies):
            summary = {"best/val_accuracy": accuracy}
            if test:
                summary |= {"test/accuracy": test[value][seed], "test/errors": round(200 * (1 - test[value][seed]))}
            make_run(run_dir, seed=seed, study=name, summary=summary, **{name: value}, **arguments)
    (found,) = studies(load([run_dir]), margin)
    return found


CLOSE = {
    20: [0.985, 0.99, 0.98, 0.985, 0.99],
    40: [0.99, 0.985, 0.985, 0.99, 0.985],
    80: [0.98, 0.99, 0.985, 0.99, 0.98],
}


def test_the_best_is_kept_if_every_cheaper_value_is_significantly_worse(tmp_path):
    val = {
        20: [0.95, 0.945, 0.955, 0.95, 0.95],
        40: [0.96, 0.955, 0.96, 0.965, 0.96],
        80: [0.99, 0.985, 0.99, 0.995, 0.99],
    }
    found = study_of(tmp_path, val)
    assert found.decision.verdict == "keep the best" and found.recommended.values == {"n_mels": 80}
    assert found.decision.blocked and found.plan is None  # nothing is left to decide
    sentence = answer(found)[0]
    assert sentence.startswith("Choose n_mels 80: it has the highest mean validation accuracy (99.00 %, 5 seeds)")
    assert "every cheaper value is significantly lower; the nearest, n_mels 40, by 3.00 points" in sentence
    assert "No other value is better by the margin of 0.50 points." in sentence
    assert "n_mels 80 is the largest value tried; a larger one may be as good." in conclusions(found)


def test_without_a_significant_difference_the_study_is_undecided_and_says_what_would_decide_it(tmp_path):
    write_sweep(tmp_path, "abc", method="grid", parameters={"seed": {"values": [0, 1, 2, 3, 4]}})
    found = study_of(tmp_path, CLOSE, record={"sweep_id": "abc"})
    assert found.decision.verdict == "undecided" and not found.recommends
    assert found.margin == 0.005 == studies(load([tmp_path]))[0].margin  # the default
    assert found.best.values == {"n_mels": 40} and found.recommended is found.best
    sentence, _, needs = answer(found)
    high = next(item.val.high for item in found.comparisons if item.configuration.values == {"n_mels": 20})
    assert sentence == (
        "Undecided: n_mels 40 has the highest mean validation accuracy (98.70 %, 5 seeds), but n_mels 20 may be up to "
        f"{percentage_points(high)} points better (95 % interval); the margin is 0.50 points."
    )
    command = f"kws sweep {tmp_path}/sweeps/abc/sweep.yaml --set resplit=true seed=0,1,2,3,4"
    assert "If both are equally good, about 30 seeds with " in needs and command in needs
    assert load_sweep(tmp_path / "sweeps" / "abc" / "sweep.yaml", needs.partition("--set ")[2].split()).expected == 30


def test_within_the_margin_the_cheapest_is_recommended(tmp_path):
    found = study_of(tmp_path, CLOSE, margin=0.03)
    assert found.decision.verdict == "within margin"
    assert found.best.values == {"n_mels": 40} and found.recommended.values == {"n_mels": 20}
    sentence = answer(found)[0]
    best = next(item.val for item in found.comparisons if item.configuration is found.best)
    assert sentence.startswith(
        "Choose n_mels 20: it is shown to lose less than the margin of 3.00 points against every other value "
        "(95 % intervals), and needs "
    )
    assert sentence.endswith(
        "the mean of n_mels 20 is 0.10 points lower, and at most "
        f"{percentage_points(best.high)} points lower by the 95 % interval."
    )
    assert "n_mels 20 is the smallest value tried; a smaller one may be as good." in conclusions(found)


def test_the_sentence_says_that_the_best_value_is_also_the_cheapest(tmp_path):
    val = {20: [0.99] * 5, 40: [0.985, 0.99, 0.99, 0.985, 0.99], 80: [0.95, 0.955, 0.95, 0.945, 0.95]}
    sentence = answer(study_of(tmp_path, val, margin=0.03))[0]
    assert sentence == (
        "Choose n_mels 20: it has the highest mean validation accuracy (99.00 %, 5 seeds) and is cheapest, and it is "
        "shown to lose less than the margin of 3.00 points against every other value (95 % intervals)."
    )


def test_the_choice_is_made_on_validation_and_never_on_test(tmp_path):
    test = {20: [0.90] * 5, 40: [0.96] * 5, 80: [1.0] * 5}
    found = study_of(tmp_path, CLOSE, test=test, margin=0.03)
    assert found.recommended.values == {"n_mels": 20}
    assert "On the 200 test clips n_mels 20 scores 90.00 % on average over 5 seeds" in answer(found)[1]
    for other, points in ((40, "6.00"), (80, "10.00")):
        assert any(f"n_mels {other} is {points} points better than n_mels 20" in line for line in conclusions(found))


def test_three_shared_seeds_are_enough_and_other_seeds_do_not_count(tmp_path):
    val = {20: [0.99, 0.98, 0.995, 0.5, 0.5], 40: [0.95, 0.96, 0.95], 80: [0.99]}
    found = study_of(tmp_path, val, margin=0.1)
    assert found.shared_seeds == [0, 1, 2] and [item.val.n for item in found.comparisons] == [3]
    assert found.best.values == {"n_mels": 20} and found.decision.verdict == "within margin"
    assert (found.chosen_run.config["n_mels"], found.chosen_run.seed) == (20, 2)  # its best run on validation


def test_one_value_with_three_seeds_is_not_compared_with_itself(tmp_path):
    found = study_of(tmp_path, {20: [0.98] * 3, 40: [0.99]})
    assert found.decision is None and "only 1 seed is shared" in answer(found)[0]
    assert found.best.values == {"n_mels": 40}


def test_stability_is_the_standard_deviation_over_the_last_five_epochs(tmp_path):
    make_run(tmp_path)
    [run] = load([tmp_path]).runs
    run.history["val/accuracy"] = [0.1, 0.7, 0.9, 0.8, 0.9, 0.8]
    assert last_epochs_spread(run) == pytest.approx(0.0836660)
    run.history["val/accuracy"] = [0.5, 0.7]
    assert last_epochs_spread(run) == pytest.approx(math.sqrt(0.02))
    run.history["val/accuracy"] = [0.5]
    assert math.isnan(last_epochs_spread(run))


def test_too_few_seeds_give_no_recommendation(tmp_path):
    found = study_of(tmp_path, {value: accuracies[:2] for value, accuracies in CLOSE.items()})
    assert found.decision is None and not found.recommends and not found.comparisons
    assert answer(found)[0] == (
        "No recommendation yet: only 2 seeds are shared by the compared values, and at least 3 (better 5) are needed. "
        "n_mels 20 has the highest mean accuracy so far, 98.75 % on validation clips."
    )


def test_one_seed_gives_no_recommendation(tmp_path):
    found = study_of(tmp_path, {value: accuracies[:1] for value, accuracies in CLOSE.items()})
    assert found.decision is None and all(math.isnan(item.val.low) for item in found.configurations)
    assert answer(found)[0].startswith("No recommendation: with one seed per configuration, a difference")
    assert answer(found)[1].endswith("(one run, no interval).")


def test_one_configuration_gives_no_comparison(tmp_path):
    found = study_of(tmp_path, {20: CLOSE[20]})
    assert found.decision is None and not found.comparisons
    assert answer(found)[0] == (
        "Nothing was compared: all 5 runs have the same settings except the seed, "
        "and their mean is 98.60 % on validation clips."
    )


def study_from(runs, margin=0.005, **sweep):
    """Return the Study of RunRecords, which a sweep file with this content made."""
    for run in runs:
        run.sweep_id = "abc" if sweep else ""
    (found,) = studies(Results(runs, [], {"abc": sweep} if sweep else {}), margin)
    return found


def some_records(values=(20, 40), seeds=5, rate=0.02, **settings):
    """Return a RunRecord for each value of n_mels and seed, with random errors."""
    chance = np.random.default_rng(0)
    return [
        record(range(30), range(30, 50), chance.random(100) < rate, seed=seed, n_mels=n_mels, **settings)
        for n_mels in values
        for seed in range(seeds)
    ]


@pytest.mark.parametrize(("resplit", "rate", "margin"), [(False, 0.15, 0.08), (True, 0.1, 0.05)])
def test_the_plan_is_for_the_undecided_pair_and_all_clips_that_resplit_can_split(resplit, rate, margin):
    found = study_from(some_records(rate=rate, resplit=resplit), margin)
    which, better, _ = found.decision.blocked
    answers = [item.answers for item in found.compared]
    assert found.decision.verdict == "undecided" and answers[0].shape == (5, 100 if resplit else 60)
    speakers = [*range(50), *range(50)] if resplit else [*range(30), *range(30)]  # in order of the clips' names
    clips, made = (1000 + 60 + 40, 5) if resplit else (1000 + 60, 0)  # other runs have to be made without resplit
    assert found.plan == plan(answers[better], answers[which], np.array(speakers), margin, clips, made)
    assert (found.plan.seeds, found.plan.clips) == ((10, 1100) if resplit else (5, 1060))


def test_a_study_with_and_without_resplit_is_compared_on_validation_clips_alone():
    found = study_from(some_records(values=(20,)) + some_records(values=(20,), resplit=True))
    assert found.parameters == ["resplit"] and not found.resplit and found.chosen_on == "validation"
    assert [item.answers.shape for item in found.configurations] == [(5, 60)] * 2


def test_clips_of_one_speaker_give_no_recommendation():
    found = study_from(some_records(rate=0.1, speaker_from="(.)"))
    assert found.decision is None and found.plan is None and math.isnan(found.best.val.low)
    assert answer(found)[0].startswith("No recommendation: all validation clips are of one speaker")


@pytest.mark.parametrize(("held_out", "unfair"), [(["no-bed", "bed-backwards"], True), (["bed"], False)])
def test_the_answer_says_that_made_up_words_are_unfair_to_synthetic_ones(held_out, unfair):
    without = some_records(values=(20,), unknown=True)
    runs = without + some_records(values=(20,), unknown=True, unknown_synthetic=True)
    for run in runs:
        run.config["data_info"]["held_out_words"] = held_out
    assert answer(study_from(runs))[-1].startswith("Validation is unfair to synthetic words here: ") == unfair
    assert not answer(study_from(without))[-1].startswith("Validation is unfair")


def test_seeds_and_configurations_are_in_order():
    runs = [record(range(30), range(30, 50), [0] * 100, seed=seed, n_mels=n) for seed in (8, 1, 3) for n in (40, 20)]
    found = study_from(runs)
    assert found.seeds == found.shared_seeds == [1, 3, 8]
    assert [item.values for item in found.configurations] == [{"n_mels": 20}, {"n_mels": 40}]
    for number, run in enumerate(runs):
        run.config["concurrent_jobs"] = 9 - number
    assert concurrent_jobs(runs) == ["4", "5", "6", "7", "8", "9"]


def test_an_excluded_run_is_named_in_its_study_and_if_its_study_is_unknown_in_each():
    runs = some_records(seeds=1, study="this") + some_records(seeds=1, study="that")
    excluded = [Excluded(name, "", name, "failed") for name in ("this", "that", "")]
    for found in studies(Results(runs, excluded, {})):
        assert [item.name for item in found.excluded] == [found.name, ""]


def test_clips_of_one_speaker_count_together_and_clips_without_a_speaker_alone():
    for settings, speakers in (({}, [*range(30), *range(30)]), ({"speaker_from": "(.)$^"}, range(60))):
        for item in study_from(some_records(rate=0.2, **settings)).configurations:
            expected = accuracy_interval(item.answers, np.array(speakers))
            assert (item.val.low, item.val.high) == (expected.low, expected.high)


def test_the_run_to_deploy_is_the_best_on_validation_then_the_one_with_the_lowest_loss():
    wrong = np.zeros(100, bool)
    runs = [record(range(30), range(30, 50), wrong, seed=seed) for seed in range(4)]
    for run, loss in zip(runs[:3], (0.3, 0.1, 0.2), strict=True):  # the fourth has none
        run.summary["best/val_loss"] = loss
    runs.append(record(range(30), range(30, 50), ~wrong, seed=4))
    runs[4].summary["best/val_loss"] = 0.0
    assert study_from(runs).chosen_run.seed == 1


@pytest.mark.parametrize(
    ("description", "settings", "question"),
    [
        (None, {"values": (20, 40)}, "What does n_mels change?"),
        ("", {"values": (20, 40), "vary": "lr"}, "What do n_mels and lr change?"),
        (None, {"values": (20,)}, "How accurate is this configuration?"),
        ("Question: are 40\n bands enough? Then: more?", {}, "Are 40 bands enough?"),
        ("Bands and accuracy. And more.", {}, "Bands and accuracy"),
    ],
)
def test_the_question_is_that_of_the_sweep_file_or_names_the_settings(description, settings, question):
    vary = settings.pop("vary", None)
    runs = some_records(seeds=2, **settings)
    if vary:
        runs += [record(range(30), range(30, 50), [0] * 100, seed=seed, lr=0.1) for seed in range(2)]
    sweep = {} if description is None else {"description": description, "method": "random"}
    assert study_from(runs, **sweep).question == question


def test_the_key_of_a_study_is_short_and_in_letters_that_files_and_anchors_can_have():
    key = study_from(some_records(study="Bänder_20/40: wie viele sind genug, und warum?")).key
    assert re.fullmatch("B-nder_20-40--wie-viele-sind-genug--und--[0-9a-f]{6}", key)


def test_each_study_name_and_data_set_is_a_study(tmp_path):
    make_study(tmp_path / "a", "n_mels", seeds=1)
    make_study(tmp_path / "b", "groups", (1, 2), seeds=1)
    make_study(tmp_path / "c", "n_mels", seeds=1, fingerprint="e" * 16, synthetic=True, data="synthetic")
    found = studies(load([tmp_path / name for name in "abc"]))
    assert sorted((item.name, item.synthetic, len(item.runs)) for item in found) == [
        ("groups", False, 2),
        ("n_mels", False, 3),
        ("n_mels", True, 3),
    ]
    assert len({item.key for item in found}) == 3
    assert all(item.parameters == [item.name] for item in found)


def test_studies_of_one_name_on_other_data_are_told_apart_by_the_settings_of_the_data(tmp_path):
    for resplit, fingerprint in ((False, "one"), (True, "other")):
        make_study(tmp_path / fingerprint, "n_mels", seeds=3, fingerprint=fingerprint, resplit=resplit)
    found = studies(load([tmp_path / "one", tmp_path / "other"]))
    assert sorted(study.title for study in found) == ["n_mels, resplit False", "n_mels, resplit True"]
    assert all(facts(study)["Study"] == study.title for study in found) and len({study.key for study in found}) == 2


def test_the_question_and_the_missing_configurations_come_from_the_sweep_file(tmp_path):
    parameters = {"n_mels": {"values": [20, 40]}, "seed": {"values": [0, 1, 2]}, "study": {"value": "n_mels"}}
    write_sweep(
        tmp_path, "abc", description="Question: how many bands? And more.", method="grid", parameters=parameters
    )
    make_study(tmp_path, values=(20, 40), seeds=2, record={"sweep_id": "abc"})
    make_run(tmp_path, seed=2, n_mels=20, study="n_mels", state="failed", record={"sweep_id": "abc"})
    (found,) = studies(load([tmp_path]))
    assert found.question == "How many bands?"
    assert found.missing == ["n_mels 20, seed 2", "n_mels 40, seed 2"]
    assert [item.reason for item in found.excluded] == ["failed"]
    assert conclusions(found)[-1].startswith(
        "2 configurations of the sweep file have no finished run: n_mels 20, seed 2"
    )


def test_sweep_files_that_fix_other_settings_are_studies_of_their_own(tmp_path):
    parameters = {"n_mels": {"values": [20, 40]}, "seed": {"values": [0, 1, 2]}, "study": {"value": "n_mels"}}
    for sweep_id, epochs, seeds in (("full", 8, 3), ("small", 2, 2)):
        write_sweep(tmp_path, sweep_id, method="grid", parameters=parameters | {"epochs": {"value": epochs}})
        make_study(tmp_path, values=(20, 40), seeds=seeds, epochs=epochs, record={"sweep_id": sweep_id})
    full, small = sorted(studies(load([tmp_path])), key=lambda item: -len(item.runs))
    assert (full.title, len(full.runs), full.parameters) == ("n_mels, epochs 8", 6, ["n_mels"])
    assert (small.title, len(small.runs), small.parameters) == ("n_mels, epochs 2", 4, ["n_mels"])
    assert full.decision and full.missing == [] and full.key != small.key
    assert small.missing == ["n_mels 20, seed 2", "n_mels 40, seed 2"]  # though the other sweep has these seeds


def test_missing_configurations_are_found_by_value_whatever_its_spelling(tmp_path):
    parameters = {"lr": {"values": ["1e-3", 0.003]}, "seed": {"min": 0, "max": 2}, "study": {"value": "lr"}}
    write_sweep(tmp_path, "abc", method="grid", parameters=parameters)
    for lr in (0.001, 0.003):
        for seed in (0, 1):
            make_run(tmp_path, seed=seed, lr=lr, study="lr", record={"sweep_id": "abc"})
    (found,) = studies(load([tmp_path]))
    assert found.missing == ["lr 0.001, seed 2", "lr 0.003, seed 2"]


def test_a_grid_with_a_run_cap_is_complete_when_the_cap_is_reached(tmp_path):
    write_sweep(tmp_path, "abc", method="grid", run_cap=2, parameters={"seed": {"values": [0, 1, 2, 3]}})
    for seed in (0, 1):
        make_run(tmp_path, seed=seed, record={"sweep_id": "abc"})
    (found,) = studies(load([tmp_path]))
    assert found.missing == []


def test_the_best_configuration_is_the_best_over_the_shared_seeds(tmp_path):
    """n_mels 40 has only the hard seeds 0 to 3: it is better for each of them, but its own mean is lower."""
    accuracies = {20: [0.95, 0.955, 0.95, 0.955, 0.99, 0.99, 0.99, 0.99], 40: [0.965, 0.965, 0.96, 0.97]}
    found = study_of(tmp_path, accuracies)
    assert found.recommended.values == {"n_mels": 40} and found.shared_seeds == [0, 1, 2, 3]
    (comparison,) = found.comparisons
    assert comparison.val.mean < 0 and comparison.val.n == 4
    assert "n_mels 40 has the highest mean validation accuracy (96.50 %, 4 shared seeds)" in answer(found)[0]


def test_a_configuration_with_one_run_does_not_prevent_a_recommendation(tmp_path):
    make_run(tmp_path, n_mels=30, study="n_mels")
    found = study_of(tmp_path, CLOSE)
    assert found.decision and len(found.comparisons) == 2
    assert "Not compared (fewer than 3 seeds): n_mels 30." in conclusions(found)


def test_the_sentence_names_values_of_equal_mean_and_cost(tmp_path):
    found = study_of(tmp_path, {0.001: [0.98, 0.99, 0.98], 0.01: [0.99, 0.98, 0.98]}, name="lr")
    assert answer(found)[0].startswith(
        "Undecided: lr 0.001 has, like lr 0.01, the highest mean validation accuracy (98.33 %, 3 seeds), but lr 0.01 "
    )


def test_with_resplit_the_held_out_clips_of_all_seeds_are_pooled(tmp_path):
    for seed in range(3):
        for n_mels in (20, 40):
            clips = CLIPS[40 * seed : 40 * seed + 40]
            make_run(tmp_path, seed=seed, n_mels=n_mels, clips=clips, resplit=True, study="n_mels", accuracy=0.7)
    (found,) = studies(load([tmp_path]))
    assert found.best.answers.shape == (3, 320) and found.best.test_answers.shape == (3, 120)  # 200 for validation
    assert found.chosen_on == "held-out"
    assert "the highest mean held-out accuracy" in answer(found)[0]
    assert "On the 40 test clips (different for each seed; the choice uses them, too) n_mels" in answer(found)[1]
    assert [len(row) for row in difference_rows(found)] == [len(difference_heads(found))] == [3]
    assert not any("test clips" in line for line in conclusions(found))
    assert misclassified(found)[2] == 120


def test_different_libraries_and_thread_counts_are_reported(tmp_path):
    versions = {"torch": "2.13.0", "torchaudio": "2.11.0"}
    make_run(tmp_path, seed=0, record={"versions": versions | {"python": "3.10.1"}})
    make_run(tmp_path, seed=1, record={"versions": versions | {"python": "3.11.2"}}, threads=2)
    (found,) = studies(load([tmp_path]))
    text = " ".join(conclusions(found))
    assert "2 sets of library versions" in text and "2 thread counts" in text


def test_the_code_that_made_a_study_is_reported(tmp_path, capsys):
    found = study_of(tmp_path, CLOSE)
    code = "kws 000000000000, torch 2.13.0, torchaudio 2.11.0"
    assert facts(found)["Code"] == f"{code}, Python 3.11.2"
    report([found], [], tmp_path)
    assert f"made with    {code}\n" in capsys.readouterr().out


def test_words_in_another_order_are_a_study_of_their_own(tmp_path):
    for words in (("no", "yes"), ("yes", "no")):
        make_study(tmp_path, seeds=3, words=words)
    results = load([tmp_path])
    assert len(results.runs) == 18 and results.excluded == []
    found = studies(results)
    assert sorted(item.title for item in found) == ["n_mels, words no,yes", "n_mels, words yes,no"]
    for item in found:
        assert item.parameters == ["n_mels"] and len({run.config["words"] for run in item.runs}) == 1
    assert len({item.key for item in found}) == 2


@pytest.mark.parametrize("words", [{"values": [["no", "yes"], ["yes", "no"]]}, {"value": ["yes", "no"]}])
def test_a_sweep_file_that_names_words_has_a_study_for_each_order(tmp_path, words):
    orders = words.get("values") or [words["value"]]
    write_sweep(tmp_path, "abc", method="grid", parameters={"seed": {"values": [0, 1]}, "words": words})
    for order in orders:
        for seed in (0, 1):
            make_run(tmp_path, seed=seed, words=tuple(order), record={"sweep_id": "abc"})
    found = studies(load([tmp_path]))
    assert [(len(item.runs), item.parameters, item.missing) for item in found] == [(2, [], [])] * len(orders)


@pytest.mark.parametrize(("jobs", "named"), [((1, 2, 2), "1, 2"), ((4, None, 4), "4, unknown")])
def test_epoch_times_are_not_compared_across_numbers_of_concurrent_jobs(tmp_path, jobs, named):
    for seed, number in enumerate(jobs):
        for n_mels in (20, 40):
            make_run(tmp_path, seed=seed, n_mels=n_mels, study="n_mels", record={"concurrent_jobs": number})
    (found,) = studies(load([tmp_path]))
    sentence = f"Epoch times are not compared: the runs' numbers of concurrent jobs differ ({named})."
    assert sentence in conclusions(found)
    assert all(math.isnan(item.epoch_s.mean) for item in found.configurations)
    assert [row[-1] for row in comparison_rows(found.configurations)] == ["n/a", "n/a"]
    assert "epoch-time" not in str(figures(found))


def test_epoch_times_are_compared_if_all_runs_had_as_many_concurrent_jobs(tmp_path):
    make_study(tmp_path, values=(20, 40), seeds=3, record={"concurrent_jobs": 2})
    (found,) = studies(load([tmp_path]))
    assert all(item.epoch_s.low > 0 for item in found.configurations)
    assert not any("concurrent jobs" in line for line in conclusions(found))
    assert "epoch-time" in str(figures(found))


def test_no_smaller_value_is_suggested_than_the_smallest_possible(tmp_path):
    found = study_of(tmp_path, {1: [0.99] * 3, 2: [0.95] * 3}, name="groups")
    assert found.recommends
    assert found.recommended.values == {"groups": 1}
    assert not any("may be as good" in line for line in conclusions(found))


def test_runs_from_several_machines_are_reported(tmp_path):
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1, record={"host": "other"})
    (found,) = studies(load([tmp_path]))
    assert "The runs used 2 machines: compare their epoch times with care." in conclusions(found)


def test_the_terminal_table_fits_80_columns(tmp_path):
    found = study_of(tmp_path, CLOSE, margin=0.03)
    text = io.StringIO()
    Console(file=text, width=80).print(study_table(found))
    lines = text.getvalue().splitlines()
    row = next(line for line in lines if line.strip().startswith("20 *"))
    assert "98.60" in row and "±" in row and "M" in row and "–" in row
    assert "recommended, by validation accuracy" in text.getvalue()
    assert all(len(line) <= 80 for line in lines)


def kinds(found):
    return [figure.kind for figure in figures(found)]


def test_the_figures_follow_the_number_of_parameters(tmp_path):
    make_study(tmp_path / "one", seeds=2)
    for lr in (0.001, 0.003):
        for channels in (8, 16):
            make_run(tmp_path / "two", lr=lr, channels=channels, study="both")
    for number in range(9):
        settings = {"lr": 0.001 * (number + 1), "channels": 8 * (number % 3 + 1), "batch_size": 16 * (number % 2 + 1)}
        make_run(tmp_path / "many", study="search", accuracy=0.9 + number / 100, **settings)
    one, two, many = (studies(load([tmp_path / name]))[0] for name in ("one", "two", "many"))
    assert kinds(one) == ["dots", "lines", "lines", "dots", "dots", "scatter", "steps", "steps"]
    assert kinds(two)[:2] == ["heat", "lines"] and two.parameters == ["channels", "lr"]
    assert kinds(many)[:2] == ["parallel", "bars"]
    heads, rows = figures(many)[1].table()
    assert heads == ["setting", "share explained#"] and rows[0][0] == "lr"


def test_curves_have_the_mean_and_the_range_of_the_runs(tmp_path):
    make_study(tmp_path, seeds=3, epochs=7)
    found = studies(load([tmp_path]))[0]
    loss, accuracy = figures(found)[1:3]
    assert accuracy.table()[0] == ["epoch#", "configuration", "validation accuracy#", "lowest#", "highest#"]
    for curve, metric in ((loss, "train/loss"), (accuracy, "val/accuracy")):
        assert len(curve.rows) == 3 * 7
        row = curve.rows[3 * 4 + 1]
        values = [run.history[metric][4] for run in found.configurations[1].runs]
        assert list(row.values())[:2] == [5, "n_mels 40"]
        assert list(row.values())[2:] == pytest.approx([sum(values) / 3, min(values), max(values)])


def test_a_random_search_over_one_setting_is_a_search(tmp_path):
    write_sweep(tmp_path, "s", method="random", description="Which lr?", parameters={})
    for number in range(5):
        make_run(tmp_path, lr=0.001 * (number + 1), study="lr", record={"sweep_id": "s"})
    (found,) = studies(load([tmp_path]))
    assert found.is_search and kinds(found)[0] == "parallel" and found.missing == []


def test_a_search_of_one_run_has_its_figures(tmp_path):
    write_sweep(tmp_path, "s", method="bayes", description="Which lr?", parameters={})
    make_run(tmp_path, study="lr", record={"sweep_id": "s"})
    (found,) = studies(load([tmp_path]))
    assert [len(figure.rows) for figure in figures(found)[:2]] == [1, 0]
    assert facts(found)["Code"].startswith("kws 000000000000, torch 2.13.0")
