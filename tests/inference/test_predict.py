"""kws predict classifies files of any rate, length and channel count; files that are not audio are rejected by name."""

import json

import numpy as np
import pytest
import soundfile
from conftest import finish, start
from helpers.corpus import make_corpus


def synthesize(label, samples=16000, loudness=0.5):
    """Return a falling "no" (label 0) or a rising "yes" (label 1) with some noise, as tests/helpers/corpus.py does."""
    frequency = np.linspace(*((700, 300), (1500, 3000))[label], samples)
    sound = loudness * np.hanning(samples) * np.sin(2 * np.pi * np.cumsum(frequency) / 16000)
    return sound + 0.02 * np.random.default_rng(label).standard_normal(samples)


def resample(sound, rate):
    times = np.arange(0, len(sound) / 16000, 1 / rate)
    return np.interp(times, np.arange(len(sound)) / 16000, sound)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run that has learned the two words: `runs/trained`."""
    folder = tmp_path_factory.mktemp("predict")
    make_corpus(folder / "data", speakers=40)
    settings = ("--channels=16", "--epochs=6", "--batch_size=16", "--augment=false", "--data_dir=data")
    environment = {"WANDB_MODE": "disabled", "WANDB_RUN_ID": "trained", "KWS_CACHE": str(folder / "cache")}
    outcome = finish(start("train", *settings, cwd=folder, env=environment))
    assert outcome.status == 0, outcome.err
    assert json.loads((folder / "runs" / "trained" / "summary.json").read_text())["test/accuracy"] == 1
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return trained / "runs"


def test_files_of_any_rate_length_and_channel_count_are_classified(here, kws):
    files = {}
    for label, word in enumerate(("no", "yes")):
        files[f"{word}.wav"] = (synthesize(label), 16000, word)
        files[f"{word} short.wav"] = (synthesize(label, 12000), 16000, word)
        files[f"{word} 44k.flac"] = (resample(synthesize(label), 44100), 44100, word)
        files[f"{word} 8k stereo.wav"] = (np.stack([resample(synthesize(label), 8000)] * 2, axis=1), 8000, word)
    for name, (sound, rate, _) in files.items():
        soundfile.write(name, sound, rate)
    outcome = kws("predict", *files, "--model=trained", "--run_dir", here, "--json")
    assert outcome.status == 0, outcome.err
    predicted = json.loads(outcome.out)
    assert {item["file"]: item["word"] for item in predicted} == {name: word for name, (*_, word) in files.items()}
    assert all(0.5 < item["probability"] <= 1 and item["milliseconds"] > 0 for item in predicted)
    assert all(len(item["windows"]) == 1 for item in predicted)


def test_a_long_file_is_split_into_windows_and_the_loudest_one_decides(here, kws):
    quiet = 0.02 * np.random.default_rng(2).standard_normal(16000)
    soundfile.write(
        "long.wav", np.concatenate([synthesize(0, loudness=0.3), quiet, synthesize(1), quiet[:4000]]), 16000
    )
    outcome = kws("predict", "long.wav", "--model", here / "trained", "--json")
    [item] = json.loads(outcome.out)
    # 3.25 s: windows begin every half second, the last one is padded
    assert [start for start, *_ in item["windows"]] == [0, 0.5, 1, 1.5, 2, 2.5]
    assert (item["word"], item["start_s"]) == ("yes", 2)
    assert item["windows"][0][1] == "no" and item["windows"][4][1] == "yes"


@pytest.mark.parametrize("model", ("id", "folder", "file"))
def test_a_model_is_given_by_run_id_folder_or_file(here, kws, model):
    soundfile.write("yes.wav", synthesize(1), 16000)
    named = {"id": ["trained", "--run_dir", here], "folder": [here / "trained"], "file": [here / "trained" / "best.pt"]}
    outcome = kws("predict", "yes.wav", "--model", *named[model])
    assert outcome.status == 0 and outcome.err == ""
    assert outcome.out.split("\t")[:2] == ["yes.wav", "yes"]  # without a terminal: tab-separated fields


def test_files_that_are_not_audio_are_rejected_by_name(here, kws, tmp_path):
    (tmp_path / "words.wav").write_text("not a sound")
    (tmp_path / "folder.wav").mkdir()
    soundfile.write("empty.wav", np.zeros(0), 16000)
    soundfile.write("nan.wav", np.full(100, np.nan), 16000, subtype="FLOAT")
    soundfile.write("hour.wav", np.zeros(8000 * 700, dtype=np.int16), 8000)
    soundfile.write("yes.wav", synthesize(1), 16000)
    for name, reason in (
        ("words.wav", "cannot be read as audio (Format not recognised)"),
        ("folder.wav", "cannot be read as audio ("),
        ("missing.wav", "cannot be read as audio ("),
        ("empty.wav", "contains no samples"),
        ("nan.wav", "contains samples that are not finite numbers"),
        ("hour.wav", "is 700 s long, the limit is 600 s; split it"),
    ):
        outcome = kws("predict", name, "yes.wav", "--model", here / "trained")
        assert outcome.status == 2 and outcome.out.startswith("yes.wav\tyes\t"), name  # the valid file is classified
        [line] = outcome.err.splitlines()
        assert line.startswith(f"kws: {name}: {reason}"), line
