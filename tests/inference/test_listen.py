"""kws listen detects each keyword of a stream once, whatever the stream comes from."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY, start
from helpers import forked
from helpers.recordings import synthesize, wav, with_lengths
from helpers.terminal import on_a_terminal

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


def test_on_a_terminal_there_are_bars_for_level_and_labels_below_the_detections(here):
    soundfile.write("words.wav", stream(), 16000)
    command = ("listen", "words.wav", "missing.wav", "--model", here / "trained", "--threshold=0.7")
    status, shown = on_a_terminal(*command)
    assert status == 2 and "Traceback" not in shown
    assert re.search(r"level +.* -\d+ dB", shown) and re.search(r"no +.* 0\.\d\d", shown)
    assert [word for _, word in re.findall(r"words.wav +(\S+) s +(no|yes)", shown)] == [word for _, word in WORDS]
    assert "kws: missing.wav: does not exist; check the name" in shown
    status, shown = on_a_terminal(*command, "--json")
    assert "level" not in shown and len(re.findall(r"^\{.*\}", shown, re.MULTILINE)) == len(WORDS)


def test_a_stream_on_standard_input_is_heard_while_it_comes(here):
    process = start("listen", "-", "--model", here / "trained", "--json", "--threshold=0.7", stdin=-1, text=False)
    content = with_lengths(wav(stream(4, WORDS[:1])), 2**32 - 1, 2**32 - 1)
    process.stdin.write(content)
    process.stdin.flush()
    assert_heard([json.loads(process.stdout.readline())], WORDS[:1])  # standard input is still open
    out, err = process.communicate()
    assert (process.returncode, out, b"truncated" in err) == (0, b"", False)


def test_a_format_that_cannot_be_streamed_is_named_with_what_to_pipe(here, kws):
    soundfile.write("words.flac", stream(2, ()), 16000)
    receiver, sender = os.pipe()
    os.write(sender, Path("words.flac").read_bytes()[:60000])
    os.close(sender)
    before = os.dup(0)
    os.dup2(receiver, 0)
    try:
        outcome = kws("listen", "-", "--model", here / "trained")
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(receiver)
    assert outcome.status == 2
    assert "FLAC and MP3 cannot be read as they come: ffmpeg -i - -f wav -" in outcome.notices[-1]


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


LABELS = "file,time,label\nwords.wav,2.5,no\nwords.wav,5.4,yes\nwords.wav,8.5,yes\nwords.wav,11.5,no\n"


def test_misses_and_false_alarms_are_counted_at_every_threshold(here, kws):
    Path("sounds").mkdir()
    soundfile.write("sounds/words.wav", stream(), 16000)
    soundfile.write("other.wav", stream(6, ((3, "yes"),)), 16000)  # of which the file names no keyword: a false alarm
    # Of words.wav the file lacks one word that is said, and has one that is not.
    Path("sounds/labels.csv").write_text("\ufeff" + LABELS.replace("5.4,yes", "5.4,no") + "\n")
    command = ("listen", "sounds/words.wav", "other.wav", "--evaluate", "sounds/labels.csv", "--threshold=0.7")
    command += ("--model", here / "trained")
    found = json.loads(kws(*command, "--json").out)
    assert (found["keywords"], found["missed"], found["false_alarms"], found["threshold"]) == (4, 1, 2, 0.7)
    assert found["hours"] == pytest.approx(20 / 3600) and found["false_alarms_per_hour"] == pytest.approx(360)
    thresholds = [point["threshold"] for point in found["curve"]]
    assert thresholds == sorted(thresholds) and len(thresholds) > 30 and 0.7 in thresholds
    for point in found["curve"]:  # as live detection at that threshold
        if point["threshold"] in (thresholds[0], 0.7, thresholds[-1]):
            live = (*command[:3], f"--threshold={point['threshold']}", *command[6:])
            assert len(kws(*live).out.splitlines()) == point["false_alarms"] + 4 - point["missed"]
    shown = kws(*command, "--plot=det").out
    assert Path("det.png").stat().st_size > 5000
    assert "4 keywords in 0.01 h; large: threshold 0.7" in Path("det.svg").read_text()
    assert kws(*command[:3], *command[6:], "--plot=det").notices[-1].startswith("kws: --plot: needs --evaluate")
    assert "--plot: no/det cannot be written (No such file" in kws(*command, "--plot=no/det").err
    assert "missed        1 of 4 keywords (25.0 %)" in shown and "false alarms  2 (360.0 per hour)" in shown
    Path("none.csv").write_text("file,time,label\n")
    assert json.loads(kws(*command[:3], "--evaluate", "none.csv", *command[5:], "--json").out)["miss_rate"] is None


@pytest.mark.parametrize(
    "content,line",
    (
        (LABELS.replace("time", "seconds"), "line 1: has no column time; begin with file,time,label"),
        ("", "line 1: has no column file; begin with file,time,label"),
        (LABELS + "words.wav,1,5,no\n", "line 6: has more or fewer fields than line 1; correct it"),
        (LABELS.replace("2.5", "0:02"), "line 2: time is '0:02', not seconds such as 12.5; correct it"),
        (LABELS.replace("2.5", "-1"), "line 2: time is '-1', not seconds such as 12.5; correct it"),
        (LABELS.replace("2.5", "nan"), "line 2: time is 'nan', not seconds such as 12.5; correct it"),
        (LABELS.replace("8.5,yes", "8.5,si"), "line 4: 'si' is not a keyword of the model (no, yes); correct it"),
        (LABELS + "word.wav,1,no\n", "line 6: 'word.wav' is not a recording given; correct it, or give it too"),
        (LABELS + "wo\0rds.wav,1,no\n", "line 6: 'wo rds.wav' is not a recording given; correct it, or give it too"),
        (LABELS + "words.wav,2.50,no\n", "line 6: is a repetition; remove it"),
        (LABELS.replace("8.5", "80"), "line 4: time is 80 s, but words.wav ends at 14.0 s; correct it"),
        (LABELS.encode("utf-16"), "line 1: has no column file; begin with file,time,label"),
    ),
)
def test_a_mistake_in_the_labels_is_named_with_its_line(here, kws, content, line):
    soundfile.write("words.wav", stream(), 16000)
    Path("labels.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    outcome = kws("listen", "words.wav", "--model", here / "trained", "--evaluate", "labels.csv")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.notices[1:] == [f"kws: labels.csv, {line}"]


def test_evaluation_needs_labels_and_recordings(here, kws):
    command = ("listen", "--model", here / "trained", "--evaluate", "labels.csv")
    assert kws(*command).notices[1].startswith("kws: --evaluate: needs the recordings")
    missing = "kws: --evaluate: labels.csv cannot be read (No such file or directory); give a CSV file"
    assert kws(*command, "words.wav").notices[1:] == [missing]


def test_a_threshold_is_chosen_on_the_runs_validation_clips_in_noise(here, kws, monkeypatch):
    monkeypatch.setattr("kws.inference.material.CALIBRATION_H", 0.05)
    monkeypatch.setenv("KWS_CACHE", str(here.parent / "cache"))
    command = ("listen", "--model", here / "trained", "--data_dir", here.parent / "data")
    shown = kws(*command, "--calibrate=30").out
    found = json.loads(kws(*command, "--calibrate=30", "--json").out)
    assert (found["keywords"], found["other_words"], found["hours"]) == (10, 0, pytest.approx(0.05, rel=0.1))
    assert found["false_alarms"] <= 1
    assert min(point["missed"] for point in found["curve"]) <= 5  # the keywords are where they are said to be
    lower = [point for point in found["curve"] if point["threshold"] < found["threshold"]]
    assert not lower or lower[-1]["false_alarms"] > 1  # no lower threshold would do
    assert f"command       kws listen --model {here / 'trained'} --threshold {found['threshold']:g}\n" in shown
    refused = "needs false alarms per hour, from 0, and no FILE: it takes the run's own data"
    assert kws(*command, "--calibrate=nan").notices[1:] == [f"kws: --calibrate: {refused}"]
    assert kws(*command, "--calibrate=1", "x.wav").notices[1:] == [f"kws: --calibrate: {refused}"]
    assert "not allowed with" in kws(*command, "--calibrate=1", "--evaluate=x.csv").err
    # Labels that name other times make false alarms of all that is detected, at every threshold.
    monkeypatch.setattr("kws.inference.rates.MATCH_S", -1)
    monkeypatch.setattr("kws.inference.rates.THRESHOLDS", [0.1, 0.2])
    outcome = kws(*command, "--calibrate=30")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.notices[1].startswith(
        "kws: --calibrate: no threshold has at most 30 false alarms per hour, even 0.2 has "
    )


def test_the_hour_of_the_documentation_can_be_made_from_a_run(here, kws):
    script = REPOSITORY / "scripts" / "make_hour.py", here / "trained", "hour", "--hours=0.05"
    environment = os.environ | {"KWS_CACHE": str(here.parent / "cache")}
    forked.run(*script, "--data_dir", here.parent / "data", env=environment).check_returncode()
    command = ("listen", "hour.wav", "--model", here / "trained", "--evaluate", "hour.csv", "--json", "--threshold=0.7")
    found = json.loads(kws(*command).out)
    assert (found["keywords"], found["hours"]) == (10, pytest.approx(0.05, rel=0.1))
    assert min(point["missed"] for point in found["curve"]) <= 5


@pytest.mark.parametrize("threshold", ("0", "1.5", "nan", "high"))
def test_a_threshold_is_a_probability(here, kws, threshold):
    outcome = kws("listen", "x.wav", "--model", here / "trained", "--threshold", threshold)
    assert outcome.status == 2 and "--threshold" in outcome.err and len(outcome.notices) == 1
