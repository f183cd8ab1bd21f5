"""kws predict classifies files of any rate, length and channel count; files that are not audio are rejected by name."""

import json
import os
import sys

import numpy as np
import pytest
import soundfile
from conftest import start
from helpers.recordings import synthesize, wav, with_lengths
from hypothesis import given
from hypothesis import strategies as st

from kws.data.audio import to_16k_mono
from kws.inference.predict import Predictor
from kws.inference.recording import BLOCK_S, read_blocks, windows


def resample(sound, rate):
    times = np.arange(0, len(sound) / 16000, 1 / rate)
    return np.interp(times, np.arange(len(sound)) / 16000, sound)


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


def test_the_answer_to_a_long_file_is_a_word_that_is_certain_and_loud(here, kws):
    random = np.random.default_rng(2)
    quiet = 0.02 * random.standard_normal(16000)
    tap = quiet.copy()
    tap[8000:8480] += 0.9 * np.exp(-np.arange(480) / 80) * random.standard_normal(480)  # 30 ms, the loudest of all
    for label, word in enumerate(("no", "yes")):
        parts = [synthesize(1 - label, loudness=0.1), quiet, synthesize(label), quiet[:4000], tap]
        soundfile.write(f"{word}.wav", np.concatenate(parts).clip(-1, 1), 16000)
    outcome = kws("predict", "no.wav", "yes.wav", "--model", here / "trained", "--json")
    answers = json.loads(outcome.out)
    # 4.25 s: windows begin every half second, the last one is padded
    assert all([start for start, *_ in item["windows"]] == [n / 2 for n in range(8)] for item in answers)
    assert [(item["word"], item["start_s"]) for item in answers] == [("no", 2), ("yes", 2)]


def test_of_a_model_with_other_labels_a_window_with_a_keyword_answers(here):
    predictor = Predictor(str(here / "trained"))
    soundfile.write("x.wav", np.concatenate([synthesize(0), synthesize(1, loudness=0.2)]), 16000)
    assert predictor.predict("x.wav").word == "no"
    for other in ("_unknown_", "_silence_"):
        predictor.labels = (other, "yes")
        assert predictor.predict("x.wav").word == "yes"
    soundfile.write("no.wav", synthesize(0), 16000)
    assert predictor.predict("no.wav").word == "_silence_"


@pytest.mark.parametrize("model", ("id", "folder", "file"))
def test_a_model_is_given_by_run_id_folder_or_file(here, kws, model):
    soundfile.write("yes.wav", synthesize(1), 16000)
    named = {"id": ["trained", "--run_dir", here], "folder": [here / "trained"], "file": [here / "trained" / "best.pt"]}
    outcome = kws("predict", "yes.wav", "--model", *named[model])
    assert outcome.status == 0 and outcome.err == ""
    assert outcome.out.split("\t")[:2] == ["yes.wav", "yes"]  # without a terminal: tab-separated fields


def test_bad_files_are_named_with_what_to_do_and_the_others_are_answered(here, kws, tmp_path):
    (tmp_path / "words.wav").write_text("not a sound")
    (tmp_path / "words.txt").write_text("not a sound")
    (tmp_path / "two\nlines.wav").write_text("not a sound")
    (tmp_path / "phone.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0")
    (tmp_path / "it's.webm").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(100))
    (tmp_path / "samples.raw").write_bytes(bytes(32000))
    (tmp_path / "nothing.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    soundfile.write("empty.wav", np.zeros(0), 16000)
    soundfile.write("nan.wav", np.full(100, np.nan), 16000, subtype="FLOAT")
    soundfile.write("low.wav", np.zeros(100), 100)
    soundfile.write("wide.wav", np.zeros((100, 33)), 16000)
    soundfile.write("yes.wav", synthesize(1), 16000)
    convert = "cannot be read as audio (Format not recognised); if it is a recording, convert it: ffmpeg -i"
    bad = {
        "words.wav": f"{convert} words.wav words.converted.wav",
        "words.txt": f"{convert} words.txt words.wav",
        "two\nlines.wav": f"{convert} 'two lines.wav' 'two lines.converted.wav'",
        "phone.m4a": f"{convert} phone.m4a phone.wav",
        "it's.webm": f"""{convert} 'it'"'"'s.webm' 'it'"'"'s.wav'""",
        "samples.raw": "has no header that gives sample rate and format; if you know them, add one: ffmpeg -f s16le "
        "-ar RATE -ac CHANNELS -i samples.raw samples.wav",
        "nothing.wav": "is empty; replace it",
        "folder.wav": "is a folder; give the files in it",
        "missing.wav": "does not exist; check the name",
        "empty.wav": "contains no samples; record it again",
        "nan.wav": "contains samples that are not finite numbers; convert it again",
        "low.wav": "has a sample rate of 100 Hz, not 4000 to 192000; resample it",
        "wide.wav": "has 33 channels, at most 32 are read; mix it down",
    }
    outcome = kws("predict", "yes.wav", *bad, "yes.wav", "--model", here / "trained")
    assert outcome.status == 2
    assert [line.split("\t")[:2] for line in outcome.out.splitlines()] == 2 * [["yes.wav", "yes"]]
    assert outcome.notices == [f"kws: {name.replace(chr(10), ' ')}: {reason}" for name, reason in bad.items()]
    assert json.loads(kws("predict", "missing.wav", "--model", here / "trained", "--json").out) == []


def test_damaged_and_unusual_recordings_are_heard_with_a_notice_where_the_answer_may_suffer(here, kws, tmp_path):
    sound = synthesize(1)
    content = wav(sound)
    wrong, listed = "has a header with a wrong length; it is read to its end", b"LIST\x04\0\0\0INFO"
    files = {
        "unfinished.wav": (with_lengths(content, 36, 0), wrong),
        "stale.wav": (with_lengths(content, 1036, 1000), wrong),
        "streamed.wav": (with_lengths(content, 2**32 - 1, 2**32 - 1), None),
        "tagged.wav": (with_lengths(content, 32048, 32000) + listed, None),
        "cut.wav": (content[: 44 + 24000], "is truncated: 75% of its samples are there"),
    }
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
    soundfile.write("long.flac", np.concatenate([sound, sound]), 16000)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "long.flac").read_bytes()[:-5000])
    soundfile.write("inverted.wav", np.stack([sound, -sound], 1), 16000)
    soundfile.write("voicemail.wav", sound[::2], 8000, subtype="GSM610")
    soundfile.write("silent.wav", np.zeros(16000), 16000)
    expected = {name: notice for name, (_, notice) in files.items()} | {
        "cut.flac": "is truncated: ",
        "inverted.wav": None,
        "voicemail.wav": "has a sample rate of 8000 Hz, which lacks the frequencies above 4000 Hz",
        "silent.wav": "is silent: the answer means nothing",
    }
    outcome = kws("predict", *expected, "--model", here / "trained", "--json")
    assert outcome.status == 0, outcome.err
    answers = {item["file"]: item for item in json.loads(outcome.out)}
    notices = [f"kws: {name}: {notice}" for name, notice in expected.items() if notice]
    assert len(outcome.notices) == len(notices)
    assert all(line.startswith(notice) for line, notice in zip(outcome.notices, notices, strict=True)), outcome.err
    assert all(answers[name]["word"] == "yes" for name in expected if name != "silent.wav")
    whole = answers["streamed.wav"]["probability"]
    for name in ("unfinished.wav", "stale.wav", "tagged.wav", "inverted.wav"):
        assert answers[name]["probability"] == pytest.approx(whole, abs=1e-6)


def test_pipes_names_of_any_bytes_and_any_rate_are_read_in_little_memory(here, tmp_path):
    name = b"\xff n\xe9.wav"
    (tmp_path / os.fsdecode(name)).write_bytes(wav(synthesize(1)))
    soundfile.write("odd.wav", resample(synthesize(0), 44101), 44101)
    fds = []
    for sound in (synthesize(0), synthesize(1)):
        read, write = os.pipe()  # takes 64 kB before anybody reads
        os.write(write, with_lengths(wav(sound), 2**32 - 1, 2**32 - 1))
        os.close(write)
        fds.append(read)
    arguments = ("predict", "-", os.fsdecode(name), "odd.wav", f"/dev/fd/{fds[1]}", "--model", here / "trained")
    with open("out", "wb") as out, open("err", "wb") as err:
        process = start(*arguments, stdin=fds[0], stdout=out, stderr=err, pass_fds=fds[1:])
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    for fd in fds:
        os.close(fd)
    assert (process.returncode, (tmp_path / "err").read_bytes()) == (0, b"")
    answers = [line.split(b"\t")[:2] for line in (tmp_path / "out").read_bytes().splitlines()]
    assert answers == [[b"-", b"no"], [name, b"yes"], [b"odd.wav", b"no"], [os.fsencode(arguments[4]), b"yes"]]
    assert used.ru_maxrss < (1 << 30 if sys.platform == "darwin" else 1 << 20)  # torchaudio's resampler took 12 GB


@pytest.mark.parametrize("rate", (8000, 16000, 22050, 44101))
def test_blocks_are_resampled_as_the_whole_recording_is(here, rate):
    sound = 0.3 * np.random.default_rng(0).standard_normal((9 * rate + 1234, 2))
    soundfile.write("x.wav", sound, rate, subtype="FLOAT")
    blocks = list(read_blocks("x.wav", []))
    assert max(map(len, blocks)) == BLOCK_S * 16000
    whole = to_16k_mono(sound.astype(np.float32), rate)
    assert np.allclose(np.concatenate(blocks), whole, atol=1e-6)


@given(st.lists(st.integers(1, 50_000), min_size=1, max_size=6), st.sampled_from((1600, 8000, 16000)))
def test_windows_do_not_depend_on_the_blocks(lengths, hop):
    samples = np.arange(1, sum(lengths) + 1, dtype=np.float32)
    blocks = np.split(samples, np.cumsum(lengths)[:-1])
    found = np.concatenate(list(windows(iter(blocks), hop)))
    n_windows = 1 + max(0, -(-(len(samples) - 16000) // hop))
    padded = np.pad(samples, (0, max(0, 16000 + (n_windows - 1) * hop - len(samples))))
    assert np.array_equal(found, [padded[n * hop : n * hop + 16000] for n in range(n_windows)])
