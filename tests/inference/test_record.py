"""kws record: clips for training from the microphone, one key each, in the layout of Speech Commands."""

import numpy as np
import soundfile
from conftest import REPOSITORY
from helpers.recordings import synthesize
from helpers.terminal import on_a_terminal

from kws.data.audio import read_clip
from kws.data.clips import speaker

COUNTDOWN = np.zeros(3 * 7 * 1600)


def said(label, loudness=0.5):
    """Return what the microphone hears for one clip: the countdown, then two seconds with the word."""
    quiet = 1e-3 * np.random.default_rng(0).standard_normal(8000)
    return np.concatenate([COUNTDOWN, quiet, np.clip(loudness * 2 * synthesize(label), -1, 1), quiet])


def record(work, sounds, answers, *arguments):
    np.save(work / "sound.npy", np.concatenate(sounds))
    doubles = {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests' / 'doubles'}"}
    doubles |= {"KWS_TEST_SOUND": str(work / "sound.npy"), "KWS_TEST_PLAYED": str(work / "played")}
    command = ("record", "--words=no,yes", "--out=own", *arguments)
    return on_a_terminal(*command, env=doubles, answers=[("(Enter: ", key) for key in answers])


def test_clips_are_checked_played_kept_or_discarded_and_numbered(work):
    quiet, clipped = said(1, 0.01), said(1, 3)
    status, shown = record(work, [said(0), quiet, clipped, said(1)], "\n\nrpxk", "--clips=1", "--speaker= Anna")
    assert status == 0, shown
    assert 'no, clip 1 of 1: 3 2 1  say "no"' in shown
    assert shown.index("too quiet: come closer") < shown.index("clipped: move away") < shown.index("played")
    [no] = (work / "own" / "no").iterdir()
    [yes] = (work / "own" / "yes").iterdir()
    assert no.name == yes.name and len(speaker(f"no/{no.name}")) == 8 and no.name.endswith("_nohash_0.wav")
    for path, label in ((no, 0), (yes, 1)):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype, info.frames) == (16000, 1, "PCM_16", 16000)
        assert np.corrcoef(read_clip(path), synthesize(label))[0, 1] > 0.99
    played = np.fromfile(work / "played", np.float32).reshape(-1, 16000)
    assert len(played) == 3  # each good clip once, and the last one again
    assert not any(b"anna" in path.read_bytes().lower() for path in (no, yes))

    # The same speaker again: what is there counts, and numbers go on.
    status, shown = record(work, [said(0), said(1)], "kq", "--clips=2", "--speaker=anna")
    assert status == 0
    assert "no, clip 2 of 2" in shown and "yes, clip 2 of 2" in shown and "clip 1" not in shown
    assert sorted(path.name[8:] for path in (work / "own").glob("*/*")) == ["_nohash_0.wav"] * 2 + ["_nohash_1.wav"]
    assert "2 of no, 1 of yes" in shown and "kws data --root own --words=no,yes" in shown


def test_ctrl_c_leaves_complete_clips_and_the_terminal_as_it_was(work):
    status, shown = record(work, [said(0)], "k", "--speaker=Anna")  # then the microphone double is interrupted
    assert status == 130 and "Traceback" not in shown
    assert [path.name[8:] for path in (work / "own").glob("*/*")] == ["_nohash_0.wav"]


def test_recording_needs_a_terminal_a_name_and_a_number(work, kws):
    command = ("record", "--words=no,yes")
    assert kws(*command, "--clips=0").notices == ["kws: --clips: is 0, but must be at least 1"]
    assert kws(*command).notices == ["kws: kws record: needs a terminal for its questions; run it in one"]
    assert "words is '../no'" in kws("record", "--words=../no").err
    status, shown = on_a_terminal(*command, answers=[("stored): ", "\x04")])
    assert status == 2 and "kws: --speaker: is empty; give a name" in shown
