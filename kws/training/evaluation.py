"""The evaluation of a network on a split: loss, accuracy, misclassified clips, ROC and precision-recall curves."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kws.data.audio import to_float
from kws.data.corpus import Split
from kws.model.network import KeywordModel, label_probabilities, loss_of

EVALUATION_BATCH = 256

Curve = list[tuple[float, float]]


@dataclass
class Evaluation:
    """Labels (clips,) and probabilities (clips, labels) on the CPU, with the clips' paths and the mean loss."""

    clips: list[str]
    labels: Tensor
    probabilities: Tensor
    loss: float

    @property
    def predictions(self) -> Tensor:
        return self.probabilities.argmax(1)  # the first of equal ones

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
        return sorted(rows, key=lambda row: -float(self.probabilities[row].max()))

    @property
    def confusion(self) -> Tensor:
        """The number of clips by label and predicted label, (labels, labels)."""
        n = self.probabilities.shape[1]
        return torch.bincount(self.labels.long() * n + self.predictions, minlength=n * n).view(n, n)

    @property
    def recall(self) -> list[float]:
        """The share of each label's clips that are classified correctly; NaN for a label without clips."""
        counts = self.confusion
        return (counts.diagonal() / counts.sum(1)).tolist()

    @property
    def f1_macro(self) -> float:
        """The mean over labels of F1: 2 x correct / (clips of the label + predictions of the label)."""
        counts = self.confusion.double()
        return float((2 * counts.diagonal() / (counts.sum(0) + counts.sum(1)).clamp_min(1)).mean())

    def rows(self) -> Iterator[tuple[str, int, tuple[float, ...]]]:
        """Return (clip, label, probabilities) of each clip."""
        return zip(self.clips, self.labels.int().tolist(), map(tuple, self.probabilities.tolist()), strict=True)

    def roc(self, label: int = 1) -> Curve:
        """Return [(false positive rate, true positive rate), …] of `label` against the rest, where the curve turns."""
        true, false, positives, negatives = self._counts(label)
        return _corners([(0.0, 0.0), *zip((false / negatives).tolist(), (true / positives).tolist(), strict=True)])

    def precision_recall(self, label: int = 1) -> Curve:
        """Return [(recall, precision), …] of `label` over the thresholds where the curve turns, from recall 0."""
        true, false, positives, _ = self._counts(label)
        recall, precision = true / positives, true / (true + false)
        return _corners([(0.0, float(precision[0])), *zip(recall.tolist(), precision.tolist(), strict=True)])

    def _counts(self, label: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return true and false positives at each threshold, highest first, and the numbers of positives, negatives."""
        probabilities, order = self.probabilities[:, label].double().sort(descending=True, stable=True)
        labels = (self.labels[order] == label).double()
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
    loss = loss_of(logits, split.labels)
    return Evaluation(split.clips, split.labels, label_probabilities(logits), float(loss))
