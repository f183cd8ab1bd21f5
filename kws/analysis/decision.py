"""Which configuration to recommend: the cheapest that is shown to be about as accurate as every other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from kws.analysis.statistics import Answers, Difference, Speakers, difference, differences

SIGNIFICANT = 0.05
MARGIN = 0.005  # of accuracy, if none is given


@dataclass(frozen=True)
class Decision:
    """The numbers (positions) of the configurations that the decision names, and why.

    within margin: `chosen` is shown to lose less than the margin against every other configuration. keep the best: it
    is shown for the best one, and every cheaper one is significantly worse. undecided: `chosen` is the best so far.
    """

    verdict: Literal["within margin", "keep the best", "undecided"]
    best: int  # highest mean accuracy; of equal ones the cheapest
    chosen: int
    # The first configuration that is not shown to be within the margin, one that may be better by the margin, and the
    # former minus the latter.
    blocked: tuple[int, int, Difference] | None
    comparisons: dict[int, Difference]  # every other configuration minus `chosen`, Holm-corrected

    def is_worse(self, other: int) -> bool:
        """Whether a configuration is significantly worse than the chosen one."""
        return self.comparisons[other].p_holm < SIGNIFICANT and self.comparisons[other].mean < 0


def decide(costs: Sequence[float], answers: Sequence[Answers], speakers: Speakers, margin: float) -> Decision:
    """Return the Decision between configurations, which have the same seeds (rows of their answers) and clips.

    From the best one down in cost, and of equally costly ones the best, the 95 % interval of the difference to each
    other configuration must lie above -margin. Comparing with all others, not with the best alone, makes up for
    choosing the best on the same clips: a configuration that is worse than another by the margin must pass a test
    against just that one. Tests in a fixed order that stop at the first failure need no correction.
    """
    numbers = range(len(costs))
    means = [mean_accuracy(item) for item in answers]
    best = max(numbers, key=lambda i: (means[i], -costs[i]))
    lower = sorted({cost for cost in costs if cost < costs[best]}, reverse=True)
    best_of = [max((i for i in numbers if costs[i] == cost), key=lambda i: means[i]) for cost in lower]
    chosen, blocked = None, None
    for i in (best, *best_of):
        found = {j: difference(answers[j], answers[i], speakers) for j in numbers if j != i}
        better = [j for j, item in found.items() if not item.low > -margin]  # NaN is not shown either
        if better:
            other = best if best in better else min(better, key=lambda j: found[j].low)
            blocked = i, other, found[other]
            break
        chosen = i
    verdict: Literal["within margin", "keep the best", "undecided"] = "undecided" if chosen is None else "within margin"
    chosen = best if chosen is None else chosen
    others = [j for j in numbers if j != chosen]
    compared = differences(answers[chosen], [answers[j] for j in others], speakers)
    decision = Decision(verdict, best, chosen, blocked, dict(zip(others, compared, strict=True)))
    if blocked and chosen == best != blocked[0]:
        worse = all(decision.is_worse(j) for j in others if costs[j] < costs[best])
        return replace(decision, verdict="keep the best" if worse else "undecided")
    return decision


def mean_accuracy(answers: Answers) -> float:
    """Return the mean over seeds, rounded so that equal numbers of errors give equal means in any order."""
    return round(float(np.mean(np.nanmean(answers, axis=1))), 9)
