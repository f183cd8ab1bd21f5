"""python -m benchmarks: every measurement once on a tiny corpus; and what is compared is comparable."""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import REPOSITORY
from torch.utils.data import DataLoader

from benchmarks.loops import BaselineModel, WavDataset, train_baseline
from benchmarks.sections import enlarged
from kws.config import resolve
from kws.data.corpus import load
from kws.model import network

EXPECTED = {
    "epoch": (
        "epoch of the network alone", "kws train", "baseline loop, WAV files", "baseline loop, memory",
        "baseline loop, WAV files / kws train", "baseline loop, memory / kws train",
        "kws train / epoch of the network alone",
    ),
    "step": (
        "batch and augmentation", "forward", "backward", "optimiser", "front end (once per run, not in a step)",
        "matrix product", "forward, backward, optimiser / matrix product",
    ),
    "fixed": (
        "fresh process", "fresh process, W&B disabled", "trial of a sweep", "fresh process / trial of a sweep",
    ),
    "study": (
        "kws sweep --jobs 2", "kws train", "kws sweep --jobs 2 / kws train", "kws sweep --jobs 2, other commit",
        "kws sweep --jobs 2, other commit / kws sweep --jobs 2",
    ),
    "memory": ("200 clips, first run", "200 clips, cached"),
}  # fmt: skip


def benchmarks(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)


def test_quick_takes_every_measurement_and_leaves_no_files(data_dir, work):
    outcome = benchmarks("--quick", "--json", f"--data_dir={data_dir}", "--clips=200", "--only=epoch,step,fixed,memory")

    assert outcome.returncode == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    measured = {(row["section"], row["what"]): row for row in result["measurements"]}
    for section in ("epoch", "step", "fixed", "memory"):
        for name in EXPECTED[section]:
            assert (section, name) in measured
    assert len(measured) == len(result["measurements"])
    for row in measured.values():
        assert min(row["values"]) <= row["median"] <= max(row["values"]) and row["unit"] and row["median"] > 0
    assert result["about"]["torch"] == torch.__version__
    assert result["about"]["threads"] == 1 and result["about"]["cpus"] >= 1
    assert list(work.iterdir()) == []


def test_the_table_compares_the_studies_of_both_commits(data_dir, work):
    outcome = benchmarks("--quick", f"--data_dir={data_dir}", "--only=study", f"--against={REPOSITORY}")

    assert outcome.returncode == 0, outcome.stderr
    cells = [line.split("|")[2].strip() for line in outcome.stdout.splitlines() if line.startswith("| study")]
    assert set(EXPECTED["study"]) <= set(cells)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        (("--data_dir=nowhere", "--only=fixed"), "failed: kws: data: "),
        (("--only=speed",), "kws: --only: there is no section speed"),
        (("--against=nowhere",), "kws: --against: nowhere is not a checkout of kws"),
    ),
)
def test_an_argument_that_cannot_be_measured_is_named(work, arguments, message):
    outcome = benchmarks("--quick", *arguments)

    assert outcome.returncode == 1
    assert message in outcome.stderr.splitlines()[-1]


@pytest.mark.parametrize("kind", ("files", "memory"))
def test_the_baseline_loop_trains_the_same_network_on_the_same_clips(data_dir, kind):
    config = resolve(("test", {"data_dir": str(data_dir), "epochs": 2}))
    ours, baseline = network.build(config).eval(), BaselineModel(config).eval()
    weights = ours.network.state_dict().values()
    baseline.network.load_state_dict(dict(zip(baseline.network.state_dict(), weights, strict=True)))
    corpus = load(config.data_dir, config.data, config.words)

    dataset = WavDataset(config, "testing", in_memory=kind == "memory")
    waveforms, labels = next(iter(DataLoader(dataset, batch_size=len(dataset))))

    assert torch.equal(waveforms, corpus.testing.waveforms / 32768)
    assert torch.equal(labels, corpus.testing.labels)
    with torch.no_grad():
        assert torch.allclose(baseline(waveforms), ours(waveforms), atol=1e-5)
    assert len(WavDataset(config, "training", in_memory=False)) == len(corpus.training.clips)
    seconds = train_baseline(config, kind)
    assert len(seconds) == 2 and min(seconds) > 0


def test_an_enlarged_corpus_repeats_each_clip_in_the_same_split(data_dir, work):
    config = resolve(("test", {"data_dir": str(data_dir)}))
    corpus = load(data_dir, config.data, config.words)
    splits = ("training", "validation", "testing")
    clips = sum(len(getattr(corpus, name).clips) for name in splits)

    larger = load(enlarged(config, 3 * clips, work), config.data, config.words)

    for name in splits:
        one, three = getattr(corpus, name), getattr(larger, name)
        assert len(three.clips) == 3 * len(one.clips)
        assert torch.equal(three.waveforms.unique(dim=0), one.waveforms.unique(dim=0))
