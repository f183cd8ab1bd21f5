"""The synthetic corpus: its layout, its sound as bytes, its safety."""

import json
import os
import signal
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="the extra `synthetic` is not installed")

from kws.data.synthetic import corpus as synthetic
from kws.errors import KwsError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return synthetic.speak(tmp_path_factory.mktemp("corpus"), clips=60, jobs=1)


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
    assert len(set.union(*speakers)) == sum(map(len, speakers)), "a speaker stands in two splits"


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
    """The words are what the folders say: the s of "yes" carries energy above 4 kHz, in most clips."""

    def share_of_hiss(path):
        power = np.abs(np.fft.rfft(samples(path)[1].astype(float))) ** 2
        return power[4000:7000].sum() / power[100:].sum()

    yes, no = (np.median([share_of_hiss(path) for path in (corpus / word).glob("*.wav")]) for word in ("yes", "no"))
    assert yes > 5 * no


def test_it_says_that_it_is_synthetic(corpus):
    text = (corpus / "SYNTHETIC.txt").read_text()
    assert "synthetic" in text and "espeak-ng 1." in text and "Clips: 60\n" in text and "seed 0" in text


def test_same_seed_same_bytes_with_one_process_and_with_two(tmp_path):
    one = synthetic.speak(tmp_path / "one", clips=300, jobs=1)
    two = synthetic.speak(tmp_path / "two", clips=300, jobs=2)
    assert contents(one) == contents(two)
    other = synthetic.speak(tmp_path / "two", clips=30, seed=1)
    again = synthetic.speak(tmp_path / "three", clips=30, seed=0)
    first, second = ({path.read_bytes() for path in folder.glob("*/*_nohash_*.wav")} for folder in (other, again))
    assert len(first) == len(second) == 30 and first.isdisjoint(second)


def test_a_second_call_finds_it_and_other_arguments_replace_it(tmp_path):
    reports = []
    folder = synthetic.speak(tmp_path, clips=12, jobs=1, progress=lambda *report: reports.append(report))
    assert reports == [(n, 12) for n in range(1, 13)]
    marker = (folder / ".complete").stat()
    assert synthetic.speak(tmp_path, words=("yes", "no"), clips=12) == folder
    assert (folder / ".complete").stat().st_ino == marker.st_ino, "made again without need"
    synthetic.speak(tmp_path, words=("go", "left", "stop"), clips=12)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {
        "_background_noise_",
        "go",
        "left",
        "stop",
    }
    assert len(list(folder.glob("*/*_nohash_*.wav"))) == 12
    next(folder.glob("go/*.wav")).unlink()
    synthetic.speak(tmp_path, words=("go", "left", "stop"), clips=12)
    assert len(list(folder.glob("*/*_nohash_*.wav"))) == 12, "a clip is missing and nobody noticed"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "something is left over"


@pytest.mark.skipif(os.name == "nt", reason="kills by POSIX signal")
def test_a_killed_build_leaves_nothing_that_passes_for_whole(tmp_path):
    code = (
        "import sys; from kws import synthetic\n"
        "def tell(done, total):\n    print(done, flush=True)\n"
        "synthetic.speak(sys.argv[1], clips=4000, jobs=1, progress=tell)"
    )
    building = in_python(code, tmp_path)
    while int(building.stdout.readline()) < 20:
        pass
    building.send_signal(signal.SIGKILL)
    building.communicate()
    folder = tmp_path / "SpeechCommands" / "speech_commands_synthetic"
    assert not folder.exists() and not list(tmp_path.rglob(".complete"))
    assert len(list(tmp_path.rglob("*_nohash_*.wav"))) >= 20  # it did stand in the middle of its work
    for left in folder.parent.iterdir():
        os.utime(left, (0, 0))  # as if it had been killed long ago
    assert synthetic.speak(tmp_path, clips=12) == folder
    assert len(list(folder.glob("*/*_nohash_*.wav"))) == 12
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "the dead build still lies there"


def test_processes_that_build_at_once_do_not_disturb_each_other(tmp_path):
    code = "import sys; from kws.synthetic import speak; generate(sys.argv[1], clips=40, seed=int(sys.argv[2]))"
    builders = [in_python(code, tmp_path, seed) for seed in (5, 5, 6)]
    for builder in builders:
        _, error = builder.communicate(timeout=120)
        assert builder.returncode == 0, error
    folder = tmp_path / "SpeechCommands" / "speech_commands_synthetic"
    seed = json.loads((folder / ".complete").read_text())["seed"]
    assert contents(folder) == contents(synthetic.speak(tmp_path / "alone", clips=40, seed=seed))
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


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
def test_arguments_that_make_no_corpus_are_refused(tmp_path, arguments, complaint):
    with pytest.raises(KwsError, match=complaint) as caught:
        synthetic.speak(tmp_path, **arguments)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KwsError, match="cannot write to .*choose another data_dir"):
        synthetic.speak(tmp_path / "file", clips=12)


def test_without_espeak_one_line_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['espeakng_loader'] = None  # what an import of a missing package does\n"
        "from kws import synthetic; from kws.errors import KwsError\n"
        "try:\n    synthetic.speak(sys.argv[1], clips=12)\n"
        "except KwsError as error:\n    print(error)"
    )
    line, error = in_python(code, tmp_path).communicate(timeout=60)
    assert line.count("\n") == 1 and "pip install espeakng-loader" in line, error
    assert not list(tmp_path.iterdir())
