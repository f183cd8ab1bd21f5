"""docs/studies/claims.py: the committed page is its output, and its verdicts follow the numbers."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

STUDIES = Path(__file__).parents[2] / "docs" / "studies"


def test_the_committed_page_is_what_the_script_prints():
    done = subprocess.run([sys.executable, STUDIES / "claims.py"], capture_output=True, text=True, check=True)
    assert done.stdout == (STUDIES / "earlier-report.md").read_text()


def rows(accuracies, epoch_s=(1.0, 1.0, 1.0), flops=(4, 2, 1), params=(4, 2, 1)):
    """Rows of runs.csv: test accuracies at n_mels 20, 40 and 80; epoch times and costs at groups 1, 2 and 4."""
    found = []
    for seed in range(5):
        row = {"excluded": "", "unknown": "False", "seed": str(seed)}
        for n_mels, accuracy in zip((20, 40, 80), accuracies, strict=True):
            # Every accuracy has its own small variation, by seed.
            errors = round(1000 * (1 - accuracy)) + (seed * n_mels // 20) % 2
            found.append(
                row
                | {"study": "n_mels", "n_mels": str(n_mels), "test/accuracy": str(1 - errors / 1000)}
                | {"test/errors": str(errors)}
            )
        for index, groups in enumerate((1, 2, 4)):
            found.append(
                found[0]
                | row
                | {"study": "groups", "groups": str(groups), "time/epoch_s_median": str(epoch_s[index] + seed / 1000)}
                | {"model/flops": str(flops[index]), "model/params": str(params[index])}
            )
    return found


@pytest.mark.parametrize(
    ("accuracies", "about_equal", "is_best"),
    [
        ((0.985, 0.985, 0.985), "confirmed", "not confirmed"),
        ((0.985, 0.95, 0.95), "refuted", "confirmed"),
        ((0.95, 0.985, 0.95), "refuted", "refuted"),
    ],
)
def test_verdicts_on_accuracy_follow_the_numbers(accuracies, about_equal, is_best):
    claims = runpy.run_path(str(STUDIES / "claims.py"))["claims"](rows(accuracies))
    assert claims["All n_mels give about the same test accuracy."][0] == about_equal
    assert claims["n_mels 20 is the best."][0] == is_best


@pytest.mark.parametrize(
    ("epoch_s", "flops", "verdicts"),
    [
        ((1.0, 1.0, 1.0), (4, 2, 1), ["confirmed", "confirmed", "refuted"]),
        ((1.0, 2.0, 4.0), (1, 2, 4), ["refuted", "confirmed", "confirmed"]),
    ],
)
def test_verdicts_on_cost_follow_the_numbers(epoch_s, flops, verdicts):
    claims = runpy.run_path(str(STUDIES / "claims.py"))["claims"](rows((0.98, 0.98, 0.98), epoch_s, flops))
    assert [verdict for verdict, _ in list(claims.values())[3:]] == verdicts
