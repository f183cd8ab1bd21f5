"""The synthetic corpus: its layout, its sound, reproducible bytes, atomic installation."""

import os
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="the extra `synthetic` is not installed")

from kws import cli
from kws.data.layout import MARKER, read_marker
from kws.data.synthetic.corpus import generate
from kws.errors import KwsError

ROOT = Path(__file__).parents[2]
LOCK = ".speech_commands_synthetic.lock"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("corpus"), clips=60, jobs=1)


def siblings(folder):
    return {path.name for path in folder.parent.iterdir()}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def samples(path):
    with wave.open(str(path)) as file:
        form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
        return form, np.frombuffer(file.readframes(file.getnframes()), "<i2")


def in_python(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes)


def test_torchaudio_reads_it_as_speech_commands(corpus):
    from kws.data.torchaudio_import import torchaudio

    seen = {}
    for subset in ("training", "validation", "testing"):
        data = torchaudio.datasets.SPEECHCOMMANDS(
            corpus.parents[1], "speech_commands_synthetic", folder_in_archive="SpeechCommands", subset=subset
        )
        seen[subset] = [data.get_metadata(i) for i in range(len(data))]
    assert [len(rows) for rows in seen.values()] == [48, 6, 6]
    for rows in seen.values():
        assert {word for _, _, word, _, _ in rows} == {"no", "yes"}
        for path, _, word, speaker, take in rows:
            assert path == f"{corpus.name}/{word}/{speaker}_nohash_{take}.wav"
    speakers = [{row[3] for row in rows} for rows in seen.values()]
    assert len(set.union(*speakers)) == sum(map(len, speakers)), "a speaker is in two splits"


def test_every_clip_is_audible_speech_commands_audio(corpus):
    clips = sorted(corpus.glob("[ny]*/*.wav"))
    assert len(clips) == 60
    for path in clips:
        form, sound = samples(path)
        assert form == (16000, 1, 2) and 0 < len(sound) <= 16000, path
        assert np.abs(sound).max() >= 32767 * 10 ** (-36.1 / 20), path
    noises = sorted(corpus.glob("_background_noise_/*.wav"))
    assert len(noises) >= 3
    for path in noises:
        form, sound = samples(path)
        assert form == (16000, 1, 2) and len(sound) >= 10 * 16000 and sound.std() > 100, path


def test_yes_hisses_at_its_end_and_no_does_not(corpus):
    """The folders have the right words: the s of "yes" carries energy above 4 kHz, in most clips."""

    def share_of_hiss(path):
        power = np.abs(np.fft.rfft(samples(path)[1].astype(float))) ** 2
        return power[4000:7000].sum() / power[100:].sum()

    yes, no = (np.median([share_of_hiss(path) for path in (corpus / word).glob("*.wav")]) for word in ("yes", "no"))
    assert yes > 5 * no


def test_a_text_file_says_that_the_corpus_is_synthetic(corpus):
    text = (corpus / "SYNTHETIC.txt").read_text()
    assert "synthetic" in text and "espeak-ng 1." in text and "Clips: 60\n" in text and "seed 0" in text


def test_the_same_seed_gives_the_same_bytes_with_one_process_and_with_two(tmp_path, monkeypatch):
    monkeypatch.setattr("kws.data.synthetic.corpus.CLIPS_PER_PART", 30)
    one = generate(tmp_path / "one", clips=40, jobs=1)
    two = generate(tmp_path / "two", clips=40, jobs=2)
    assert contents(one) == contents(two)
    other = generate(tmp_path / "two", clips=40, seed=1)
    first, second = ({path.read_bytes() for path in folder.glob("*/*_nohash_*.wav")} for folder in (other, one))
    assert len(first) == len(second) == 40 and first.isdisjoint(second)


def test_a_second_call_changes_nothing_and_other_arguments_replace_the_corpus(tmp_path):
    reports = []
    folder = generate(tmp_path, clips=12, jobs=1, progress=lambda *report: reports.append(report))
    assert reports == [(n, 12) for n in range(1, 13)]
    marker = (folder / MARKER).stat()
    assert generate(tmp_path, words=("yes", "no"), clips=12) == folder
    assert (folder / MARKER).stat().st_ino == marker.st_ino, "generated again without need"
    generate(tmp_path, words=("go", "left", "stop"), clips=12)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        "_background_noise_",
        "go",
        "left",
        "stop",
    }
    assert len(list(folder.glob("*/*_nohash_*.wav"))) == 12
    next(folder.glob("go/*.wav")).unlink()
    generate(tmp_path, words=("go", "left", "stop"), clips=12)
    assert len(list(folder.glob("*/*_nohash_*.wav"))) == 12, "the missing clip was not noticed"
    assert siblings(folder) == {folder.name, LOCK}


@pytest.mark.skipif(os.name == "nt", reason="kills by POSIX signal")
def test_a_killed_process_leaves_nothing_in_place_and_the_next_one_cleans_up(tmp_path):
    code = (
        "import sys; from kws.data.synthetic import corpus\n"
        "def report(done, total):\n    print(done, flush=True)\n"
        "corpus.CLIPS_PER_PART = 30\n"
        "corpus.generate(sys.argv[1], clips=4000, jobs=1, progress=report)"
    )
    building = in_python(code, tmp_path)
    while int(building.stdout.readline()) < 20:
        pass
    building.send_signal(signal.SIGKILL)
    building.communicate()
    folder = tmp_path / "SpeechCommands" / "speech_commands_synthetic"
    assert not folder.exists() and not list(tmp_path.rglob(MARKER))
    assert len(list(tmp_path.rglob("*_nohash_*.wav"))) >= 20  # it was killed in the middle of its work
    assert generate(tmp_path, clips=12) == folder
    assert len(list(folder.glob("*/*_nohash_*.wav"))) == 12
    assert siblings(folder) == {folder.name, LOCK}


def test_processes_can_generate_at_once(tmp_path):
    code = (
        "import sys; from kws.data.synthetic.corpus import generate\n"
        "generate(sys.argv[1], clips=40, seed=int(sys.argv[2]))"
    )
    builders = [in_python(code, tmp_path, seed) for seed in (5, 5, 6)]
    for builder in builders:
        _, error = builder.communicate(timeout=120)
        assert builder.returncode == 0, error
    folder = tmp_path / "SpeechCommands" / "speech_commands_synthetic"
    seed = read_marker(folder)["seed"]
    assert contents(folder) == contents(generate(tmp_path / "alone", clips=40, seed=seed))
    assert siblings(folder) == {folder.name, LOCK}


def test_unknown_words_are_near_the_keywords_in_sound_but_none_sounds_the_same(tmp_path, capsys):
    assert cli.main(["data", "--synthetic", "--unknown_words=12", "--clips=40", f"--root={tmp_path}"]) == 0
    folder = tmp_path / "SpeechCommands" / "speech_commands_synthetic_unknown"
    words = {path.name for path in folder.iterdir() if path.is_dir()} - {"_background_noise_"}
    assert len(words) == 12 and len(list(folder.glob("[a-z]*/*.wav"))) == 40
    assert {"note", "guess"} <= words  # near no and yes
    assert not {"know", "no", "yes"} & words  # "know" sounds like "no"
    assert f"12 unknown words in {folder}: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"clips": 4}, "clips is 4"),
        ({"clips": 10**7}, "clips is 10000000"),
        ({"seed": -1}, "seed is -1"),
        ({"words": ("yes",)}, "two words"),
        ({"words": ("yes", "../no")}, "'../no'"),
        ({"words": ("yes", "_background_noise_")}, "'_background_noise_'"),
    ],
)
def test_invalid_arguments_are_errors(tmp_path, arguments, complaint):
    with pytest.raises(KwsError, match=complaint) as caught:
        generate(tmp_path, **arguments)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        KwsError, match=r"cannot be written \(Not a directory\); fix that, or choose another folder with --root"
    ):
        generate(tmp_path / "file", clips=12)


def test_a_missing_espeak_is_an_error_with_the_command_that_installs_it(tmp_path):
    code = (
        "import sys; sys.modules['espeakng_loader'] = None  # what an import of a missing package does\n"
        "from kws.data.synthetic.corpus import generate; from kws.errors import KwsError\n"
        "try:\n    generate(sys.argv[1], clips=12)\n"
        "except KwsError as error:\n    print(error)"
    )
    line, error = in_python(code, tmp_path).communicate(timeout=60)
    assert line.count("\n") == 1 and "pip install espeakng-loader" in line, error
    assert not list(tmp_path.iterdir())
