"""A model that has learned two tones, and recordings of them."""

import io
import json
import os

import numpy as np
import pytest
import soundfile
from helpers import forked
from helpers.corpus import make_corpus


def synthesize(label, samples=16000, loudness=0.5):
    """Return a falling "no" (label 0) or a rising "yes" (label 1) with some noise, as tests/helpers/corpus.py does."""
    frequency = np.linspace(*((700, 300), (1500, 3000))[label], samples)
    sound = loudness * np.hanning(samples) * np.sin(2 * np.pi * np.cumsum(frequency) / 16000)
    return sound + 0.02 * np.random.default_rng(label).standard_normal(samples)


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A folder with a run that has learned the two words: `runs/trained`."""
    folder = tmp_path_factory.mktemp("predict")
    make_corpus(folder / "data", speakers=40)
    settings = ("--channels=16", "--epochs=6", "--batch_size=16", "--augment=false", "--data_dir=data")
    environment = {"WANDB_MODE": "disabled", "WANDB_RUN_ID": "trained", "KWS_CACHE": str(folder / "cache")}
    done = forked.run("-m", "kws", "train", *settings, cwd=folder, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "runs" / "trained" / "summary.json").read_text())["test/accuracy"] == 1
    return folder


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return trained / "runs"


def wav(sound):
    """Return a WAV file with a header of 44 bytes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, 16000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def with_lengths(content, riff, data):
    return content[:4] + riff.to_bytes(4, "little") + content[8:40] + data.to_bytes(4, "little") + content[44:]
