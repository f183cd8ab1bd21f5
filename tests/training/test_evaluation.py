"""The evaluation of predictions: errors, ROC curve, precision-recall curve."""

import numpy as np
import pytest
import torch

from kws.training.evaluation import Evaluation


def evaluation(labels, probabilities):
    clips = [f"yes/{n:08x}_nohash_0.wav" for n in range(len(labels))]
    positive = torch.tensor(probabilities, dtype=torch.float64)
    probabilities = torch.stack((1 - positive, positive), dim=1)
    return Evaluation(clips, torch.tensor(labels, dtype=torch.float32), probabilities, 0.5)


def random_evaluation(seed, clips=200):
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=clips)
    labels[:2] = 0, 1
    # Rounded to one decimal: many clips share a probability and pass a threshold together.
    return evaluation(labels.tolist(), np.round(np.clip(labels + rng.normal(0, 0.5, clips), 0, 1), 1).tolist())


def test_the_most_confident_mistake_comes_first():
    result = evaluation([1, 0, 1, 0], [0.4, 0.9, 0.8, 0.3])
    assert (result.errors, result.accuracy, result.misclassified) == (2, 0.5, [1, 0])


def test_confusion_recall_and_f1_of_three_labels_by_hand():
    probabilities = torch.tensor([[8, 1, 1], [1, 7, 2], [5, 4, 1], [1, 2, 7], [2, 2, 6], [1, 1, 8]]) / 10
    result = Evaluation(list("abcdef"), torch.tensor([0.0, 1, 1, 2, 2, 0]), probabilities, 0.5)
    assert result.confusion.tolist() == [[1, 0, 1], [1, 1, 0], [0, 0, 2]]
    assert (result.errors, result.misclassified) == (2, [5, 2])
    assert result.recall == [0.5, 0.5, 1.0]
    assert result.f1_macro == pytest.approx((2 / 4 + 2 / 3 + 4 / 5) / 3)
    assert result.roc(label=2) == [(0, 0), (0.25, 0), (0.25, 1), (1, 1)]


def test_curves_of_four_clips_by_hand():
    result = evaluation([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    assert result.roc() == [(0, 0), (0, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)]
    assert result.precision_recall() == [(0, 1), (0.5, 1), (0.5, 0.5), (1, pytest.approx(2 / 3)), (1, 0.5)]


def test_curves_without_errors_have_three_points():
    result = evaluation([1] * 50 + [0] * 50, np.linspace(1, 0, 100).tolist())
    assert result.roc() == [(0, 0), (0, 1), (1, 1)]
    assert result.precision_recall() == [(0, 1), (1, 1), (1, 0.5)]


@pytest.mark.parametrize("seed", range(5))
def test_the_curves_pass_through_every_threshold(seed):
    result = random_evaluation(seed)
    roc, precision_recall = result.roc(), result.precision_recall()
    for threshold in result.probabilities[:, 1].unique().tolist():
        predicted = result.probabilities[:, 1] >= threshold
        true, false = float((predicted * result.labels).sum()), float((predicted * (1 - result.labels)).sum())
        assert on(roc, false / float((1 - result.labels).sum()), true / float(result.labels.sum()))
        assert on(precision_recall, true / float(result.labels.sum()), true / (true + false))


def on(curve, x, y):
    """Whether (x, y) lies on the line through the points of `curve`."""
    for (x0, y0), (x1, y1) in zip(curve, curve[1:], strict=False):
        inside = min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1)
        if inside and abs((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) < 1e-12:
            return True
    return False
