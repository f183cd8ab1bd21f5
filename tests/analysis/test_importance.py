"""Importance of settings: what matters ranks first, however the search was sampled."""

import numpy as np
import pytest

from kws.analysis.importance import importance


def accuracy(lr, chance):
    return 0.98 - 0.03 * (np.log10(lr) + 2.5) ** 2 + chance.normal(0, 0.004, len(lr))


@pytest.mark.parametrize("seed", range(5))
def test_values_that_a_search_preferred_count_no_more_than_others(seed):
    """As TPE does, two thirds of the runs are near the best lr, and near one value of mask that has no effect."""
    chance = np.random.default_rng(seed)
    early, late = 40, 80
    lr = 10 ** np.concatenate([chance.uniform(-4, -1, early), chance.normal(-2.5, 0.3, late)])
    mask = np.concatenate([chance.uniform(0, 1, early), chance.normal(0.8, 0.05, late)])
    channels = chance.choice([16, 32, 64], early + late)
    shares = importance({"mask": mask, "lr": lr, "channels": channels}, accuracy(lr, chance))
    assert list(shares)[0] == "lr" and shares["lr"] > 0.8
    assert shares["mask"] < 0.1 and shares["channels"] < 0.1


def test_few_runs_of_words_numbers_and_lists():
    chance = np.random.default_rng(1)
    lr = 10 ** chance.uniform(-4, -1, 30)
    words = [("no", "yes")[: index % 2 + 1] for index in range(30)]
    names = chance.choice(["adam", "sgd", "lion"], 30)
    shares = importance({"words": words, "lr": list(lr), "name": names}, list(accuracy(lr, chance)))
    assert list(shares)[0] == "lr" and 0.5 < shares["lr"] <= 1
    assert shares["words"] < 0.2 and shares["name"] < 0.2


def test_equal_scores_and_a_single_run_explain_nothing():
    assert importance({"lr": [0.1, 0.2]}, [0.9, 0.9]) == {"lr": 0}
    assert importance({"lr": [0.1]}, [0.9]) == {"lr": 0}
    assert importance({}, [0.9, 0.8]) == {}


def test_an_interaction_belongs_to_no_setting():
    """The score is the exclusive or of two settings: neither explains anything by itself."""
    a, b = [0, 0, 1, 1] * 10, [0, 1, 0, 1] * 10
    shares = importance({"a": a, "b": b}, [float(x != y) for x, y in zip(a, b, strict=True)])
    assert sum(shares.values()) < 0.2
