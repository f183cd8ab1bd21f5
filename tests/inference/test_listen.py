"""kws listen detects each keyword of a stream once, whatever the stream comes from."""

import json
import sys

import numpy as np
import pytest
import soundfile
from conftest import start
from helpers.recordings import synthesize, wav, with_lengths

WORDS = ((2, "no"), (5, "yes"), (8, "yes"), (11, "no"))


def stream(seconds=14, words=WORDS):
    """Return faint noise with a word in the second that begins at each of `words`."""
    sound = 1e-4 * np.random.default_rng(0).standard_normal(16000 * seconds)
    for at, word in words:
        sound[at * 16000 : (at + 1) * 16000] += synthesize(("no", "yes").index(word))
    return sound


def assert_heard(lines, words=WORDS):
    assert [line["word"] for line in lines] == [word for _, word in words]
    assert all(abs(line["time_s"] - at - 0.5) < 0.8 for line, (at, _) in zip(lines, words, strict=True)), lines
    assert all(0.7 <= line["probability"] <= 1 for line in lines)


def test_each_word_of_a_recording_is_detected_once(here, kws):
    soundfile.write("words.flac", np.stack([np.repeat(stream(), 3)] * 2, 1), 48000)
    soundfile.write("clip.wav", synthesize(1), 16000)
    model = ("--model", here / "trained", "--threshold=0.7")
    outcome = kws("listen", "words.flac", "missing.wav", "clip.wav", *model, "--json")
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert_heard(lines[:-1])
    assert (lines[-1]["file"], lines[-1]["word"]) == ("clip.wav", "yes")
    assert outcome.status == 2
    assert outcome.notices == [
        "kws: the model has no label _unknown_ or _silence_: other sounds are keywords to it; "
        "train with --unknown=true --silence=true",
        "kws: missing.wav: does not exist; check the name",
    ]
    [line] = kws("listen", "clip.wav", *model).out.splitlines()
    assert line.split("\t")[::2] == ["clip.wav", "yes"]
    assert kws("listen", "clip.wav", *model, "--threshold=1").out == ""


def test_a_stream_on_standard_input_is_heard_while_it_comes(here):
    process = start("listen", "-", "--model", here / "trained", "--json", "--threshold=0.7", stdin=-1, text=False)
    content = with_lengths(wav(stream(4, WORDS[:1])), 2**32 - 1, 2**32 - 1)
    process.stdin.write(content)
    process.stdin.flush()
    assert_heard([json.loads(process.stdout.readline())], WORDS[:1])  # standard input is still open
    out, err = process.communicate()
    assert (process.returncode, out, b"truncated" in err) == (0, b"", False)


def test_the_microphone_is_heard(here, kws, tmp_path, monkeypatch):
    from doubles import sounddevice

    monkeypatch.setitem(sys.modules, "sounddevice", sounddevice)
    np.save("sound.npy", stream())
    monkeypatch.setenv("KWS_TEST_SOUND", str(tmp_path / "sound.npy"))
    command = ("listen", "--model", here / "trained", "--json", "--threshold=0.7")
    outcome = kws(*command)
    lines = [json.loads(line) for line in outcome.out.splitlines()]
    assert_heard(lines)
    assert {line["file"] for line in lines} == {"microphone"}
    assert outcome.status == 130
    monkeypatch.delenv("KWS_TEST_SOUND")
    outcome = kws(*command)
    assert outcome.status == 2
    assert outcome.notices[-1].startswith("kws: microphone: cannot be opened (Error querying device -1)")
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert "pip install 'kws[microphone]'" in kws(*command).err


@pytest.mark.parametrize("threshold", ("0", "1.5", "nan", "high"))
def test_a_threshold_is_a_probability(here, kws, threshold):
    outcome = kws("listen", "x.wav", "--model", here / "trained", "--threshold", threshold)
    assert outcome.status == 2 and "--threshold" in outcome.err and len(outcome.notices) == 1
