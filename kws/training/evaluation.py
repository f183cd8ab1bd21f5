"""The evaluation of a network on a split: loss, accuracy, misclassified clips, ROC and precision-recall curves."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kws.data.audio import to_float
from kws.data.corpus import Split
from kws.model.network import KeywordModel

EVALUATION_BATCH = 256

Curve = list[tuple[float, float]]


@dataclass
class Evaluation:
    """Labels and probabilities of label 1, both (clips,) on the CPU, with the clips' paths and the mean loss."""

    clips: list[str]
    labels: Tensor
    probabilities: Tensor
    loss: float

    @property
    def predictions(self) -> Tensor:
        return (self.probabilities > 0.5).float()

    @property
    def errors(self) -> int:
        return int((self.predictions != self.labels).sum())

    @property
    def accuracy(self) -> float:
        return 1 - self.errors / len(self.labels)

    @property
    def misclassified(self) -> list[int]:
        """Rows of the misclassified clips, the most confident mistake first."""
        rows = torch.nonzero(self.predictions != self.labels).flatten().tolist()
        return sorted(rows, key=lambda row: -abs(float(self.probabilities[row]) - 0.5))

    def rows(self) -> Iterator[tuple[str, int, float]]:
        """Return (clip, label, probability of label 1) of each clip."""
        return zip(self.clips, self.labels.int().tolist(), self.probabilities.tolist(), strict=True)

    def roc(self) -> Curve:
        """Return [(false positive rate, true positive rate), …] where the curve turns, from (0, 0) to (1, 1)."""
        true, false, positives, negatives = self._counts()
        return _corners([(0.0, 0.0), *zip((false / negatives).tolist(), (true / positives).tolist(), strict=True)])

    def precision_recall(self) -> Curve:
        """Return [(recall, precision), …] over the thresholds where the curve turns, from recall 0."""
        true, false, positives, _ = self._counts()
        recall, precision = true / positives, true / (true + false)
        return _corners([(0.0, float(precision[0])), *zip(recall.tolist(), precision.tolist(), strict=True)])

    def _counts(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return true and false positives at each threshold, highest first, and the numbers of positives, negatives."""
        probabilities, order = self.probabilities.double().sort(descending=True, stable=True)
        labels = self.labels[order].double()
        # Clips of equal probability pass a threshold together: count at the last of them.
        last = torch.cat([probabilities[1:] != probabilities[:-1], torch.tensor([True])])
        true, false = labels.cumsum(0)[last], (1 - labels).cumsum(0)[last]
        return true, false, labels.sum(), (1 - labels).sum()


def _corners(points: Curve) -> Curve:
    """Drop points inside horizontal and vertical lines: nearly all, where few clips are misclassified."""
    inside = zip(points, points[1:], points[2:], strict=False)
    kept = [b for a, b, c in inside if not (a[0] == b[0] == c[0] or a[1] == b[1] == c[1])]
    return [points[0], *kept, points[-1]]


@torch.no_grad()
def features_of(model: KeywordModel, split: Split) -> list[Tensor]:
    """Return the log-mel features of a Split in batches. They can serve every epoch: the layer has no weights."""
    device = next(model.parameters()).device
    return [model.features(to_float(batch.to(device))) for batch in torch.split(split.waveforms, EVALUATION_BATCH)]


@torch.no_grad()
def evaluate(model: KeywordModel, split: Split, features: list[Tensor]) -> Evaluation:
    """Run `model` in evaluation mode over the features of a Split and return its Evaluation."""
    model.eval()
    logits = torch.cat([model.network(batch).float().cpu() for batch in features])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, split.labels)
    return Evaluation(split.clips, split.labels, torch.sigmoid(logits.double()), float(loss))
