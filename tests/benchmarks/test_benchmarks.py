"""kws bench: every measurement of it, done once on a tiny corpus; and what it compares is comparable."""

import json
import math

import pytest
import torch
from conftest import finish, start

from kws import bench_baseline, bench_clock, bench_runs
from kws.config import resolve
from kws.data.corpus import load
from kws.model import network as model

EXPECTED = {
    "epoch": ("kws", "plain loop, WAV files", "plain loop, WAV files / kws", "plain loop, in memory, 2 workers / kws"),
    "step": (
        "batch assembly", "augmentation", "front end", "forward", "backward", "optimiser", "matrix product",
        "network / matrix product",
    ),
    "inference": ("batch 1, one thread", "batch 256, one thread"),
    "run, fresh process": ("imports", "data", "W&B init", "complexity", "test", "W&B finish", "exit", "total"),
    "run, in a sweep's process": ("data", "W&B init", "complexity", "test", "W&B finish", "exit", "total"),
    "tracking": ("offline / disabled", "log call", "log call / epoch"),
    "study, 1 epochs a run": (
        "kws sweep --jobs 1", "kws train, a process a run", "plain loop, a process a run",
        "kws sweep / plain loop, a process a run",
    ),
}  # fmt: skip


def test_every_measurement_is_taken_and_nothing_is_left_behind(data_dir, work):
    outcome = finish(start("bench", "--quick", "--json", f"--data_dir={data_dir}"), timeout=400)

    assert outcome.status == 0, outcome.err
    result = json.loads(outcome.out)
    measured = {(row["section"], row["what"]): row for row in result["measurements"]}
    for section, names in EXPECTED.items():
        for name in names:
            assert (section, name) in measured
    assert any(what.endswith("peak memory, from the cache") for _, what in measured)
    assert len(measured) == len(result["measurements"])
    assert all(row["low"] <= row["value"] <= row["high"] and row["unit"] for row in measured.values())
    assert all(row["value"] > 0 for row in measured.values() if row["unit"] in ("x", "GFLOP/s", "GB", "runs a minute"))
    for section in ("run, fresh process", "run, in a sweep's process"):
        parts = {what: row["value"] for (at, what), row in measured.items() if at == section}
        assert math.isclose(sum(parts.values()), 2 * parts["total"])
    assert result["versions"]["torch"] == torch.__version__
    assert result["settings"]["threads"] == 1 and result["machine"]["cores"] >= 1
    assert list(work.iterdir()) == []


def test_data_that_are_missing_are_named(kws, work):
    outcome = kws("bench", "--quick", "--data_dir=nowhere")

    assert outcome.status == 2
    assert outcome.err.splitlines()[-1].startswith("kws: data: ")


@pytest.mark.parametrize("normalize", ("none", "clip", "band"))
def test_the_plain_loop_trains_the_same_network_on_the_same_clips(data_dir, normalize):
    config = resolve(("test", {"data_dir": str(data_dir), "groups": 4, "normalize": normalize}))
    ours = model.build(config).eval()
    plain = bench_baseline.PlainLoop(config, workers=0)
    names = list(plain.model.network.state_dict())
    weights = ours.network.state_dict().values()
    plain.model.network.load_state_dict(dict(zip(names, weights, strict=True)))
    corpus = load(config.data_dir, config.data, config.words)

    waveforms, labels = zip(*plain.loader("testing"), strict=True)
    waveforms, labels = torch.cat(waveforms), torch.cat(labels)

    assert torch.equal(waveforms, corpus.testing.waveforms / 32768)
    assert torch.equal(labels, corpus.testing.labels)
    with torch.no_grad():
        assert torch.allclose(plain.model.eval()(waveforms), ours(waveforms), atol=1e-5)
    assert len(plain.training.dataset) == len(corpus.training.clips)
    assert plain.epoch() > plain.epoch() > 0


def test_a_larger_corpus_has_each_clip_so_often_in_the_same_split(data_dir, work):
    config = resolve(("test", {"data_dir": str(data_dir)}))

    larger = load(bench_runs.enlarged(config, 3), config.data, config.words)

    corpus = load(data_dir, config.data, config.words)
    for name in ("training", "validation", "testing"):
        one, three = getattr(corpus, name), getattr(larger, name)
        assert len(three.clips) == 3 * len(one.clips)
        assert torch.equal(three.waveforms.unique(dim=0), one.waveforms.unique(dim=0))


def test_fixed_costs_are_all_but_the_epochs():
    spans = [
        ["imports", 11.0, 12.0],
        ["checkpoint", 15.5, 16.0],  # inside an epoch
        ["epoch", 13.0, 16.0],
        ["log", 16.0, 16.25],
        ["epoch", 17.0, 18.0],
        ["log", 18.0, 18.25],
        ["epoch", 18.5, 19.5],
        ["log", 19.5, 19.75],
        ["complexity", 20.0, 20.5],
        ["test", 20.0, 22.0],  # holds complexity
    ]

    parts, repeated = bench_clock.fixed_costs(spans, began=10.0, ended=23.0)

    assert repeated == pytest.approx({"epoch": 1.0, "log": 0.25, "checkpoint": 0.5 / 3})
    assert parts == pytest.approx(
        {
            "start of the process": 1.0,
            "imports": 1.0,
            "complexity": 0.5,
            "test": 1.5,
            "first epoch, beyond the others": 2.0,
            "exit": 1.0,
            "rest": 2.25,  # 12 to 13, 16.25 to 17, 18.25 to 18.5 and 19.75 to 20
            "total": 9.25,
        }
    )
