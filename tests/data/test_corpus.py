"""The data set: official splits, verified at every start, and a cache that is rebuilt when the files change."""

import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import REPOSITORY, snapshot
from helpers.corpus import make_corpus

from kws.config import resolve
from kws.data.audio import pad, read_clip
from kws.data.clips import SPLITS
from kws.data.corpus import CACHE_FORMAT, SpeechCommandsWords, cache_folder, load
from kws.data.layout import FOLDERS
from kws.data.torchaudio_import import torchaudio
from kws.errors import KwsError
from kws.training.run import prepare


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A data_dir of the test's own, with its own cache."""
    monkeypatch.setenv("KWS_CACHE", str(tmp_path / "cache"))
    make_corpus(tmp_path / "data", speakers=12)
    return tmp_path / "data"


@pytest.fixture
def folder(root):
    return root / "SpeechCommands" / FOLDERS["speech_commands"]


def refused(root, **arguments):
    with pytest.raises(KwsError) as caught:
        load(root, **arguments)
    return str(caught.value)


def splits_of(corpus):
    return {name: getattr(corpus, name) for name in SPLITS}


# --- splits ---


def test_the_splits_are_those_of_the_lists(root, folder):
    corpus = load(root)
    lists = {name: set((folder / f"{name}_list.txt").read_text().split()) for name in ("validation", "testing")}
    every = {f"{word}/{path.name}" for word in ("no", "yes") for path in (folder / word).iterdir()}
    assert set(corpus.validation.clips) == lists["validation"]
    assert set(corpus.testing.clips) == lists["testing"]
    assert set(corpus.training.clips) == every - lists["validation"] - lists["testing"]
    assert sum(len(split.clips) for split in splits_of(corpus).values()) == len(every) == 48


def test_the_splits_equal_torchaudios(root, folder):
    for name in SPLITS:
        theirs = torchaudio.datasets.SPEECHCOMMANDS(root, url=folder.name, subset=name)
        assert sorted(theirs._walker) == SpeechCommandsWords(root, name)._walker


def test_labels_are_positions_of_words_and_waveforms_those_of_the_files(root, folder):
    corpus = load(root)
    for split in splits_of(corpus).values():
        assert split.waveforms.shape == (len(split.clips), 16000) and split.waveforms.dtype == torch.int16
        for clip, label, waveform in zip(split.clips, split.labels, split.waveforms, strict=True):
            samples, rate = soundfile.read(folder / clip, dtype="int16")
            assert rate == 16000 and label == ("no", "yes").index(clip.split("/")[0])
            assert torch.equal(waveform[: len(samples)], torch.from_numpy(samples))
            assert not waveform[len(samples) :].any()
    turned = load(root, words=("yes", "no"))
    assert torch.equal(turned.testing.labels, 1 - corpus.testing.labels)
    assert turned.testing.clips == corpus.testing.clips


def test_other_words_in_the_folder_are_ignored(root, folder):
    make_corpus(folder.parent / "other", words=("up", "down"), speakers=3)
    (folder.parent / "other" / "SpeechCommands" / folder.name / "up").rename(folder / "up")
    corpus = load(root)
    assert {clip.split("/")[0] for split in splits_of(corpus).values() for clip in split.clips} == {"no", "yes"}


def test_items_equal_torchaudios_zero_padded(root, folder):
    dataset = SpeechCommandsWords(root, "testing")
    for n, clip in enumerate(dataset.clips):
        waveform, rate, word, speaker, utterance = dataset[n]
        samples, _ = soundfile.read(folder / clip, dtype="float32")
        assert waveform.shape == (1, 16000) and rate == 16000
        assert np.array_equal(waveform[0, : len(samples)].numpy(), samples) and not waveform[0, len(samples) :].any()
        assert clip == f"{word}/{speaker}_nohash_{utterance}.wav"


def test_info_counts_clips_and_speakers(root):
    info = load(root).info(synthetic=False)
    # 12 speakers with two takes of two words: four in validation, four in testing
    assert (info["train"], info["val"], info["test"], info["speakers"]) == (16, 16, 16, 12)
    assert info["synthetic"] is False and len(info["fingerprint"]) == 16


def test_padding_is_silence_at_the_end():
    assert torch.equal(pad(torch.ones(3, dtype=torch.int16))[:5], torch.tensor([1, 1, 1, 0, 0], dtype=torch.int16))
    assert len(pad(torch.ones(3))) == len(pad(torch.ones(16000))) == 16000


# --- the leak of a relative root ---


def training_the_old_way(root):
    """Return the training clips as older releases of torchaudio, and copies of their data set class, choose them.

    The paths from the lists are joined to the root as it is ("./data/…"), those from the folder come from pathlib,
    which drops the "./": so the lists exclude nothing.
    """
    base = os.path.join(root, "SpeechCommands", FOLDERS["speech_commands"])
    excluded = set()
    for name in ("validation_list.txt", "testing_list.txt"):
        excluded |= {os.path.join(base, line) for line in Path(base, name).read_text().split()}
    clips = [str(path) for path in Path(base).glob("*/*.wav") if "_nohash_" in str(path)]
    return [clip for clip in clips if clip not in excluded]


@pytest.mark.parametrize("relative", ("./data", "data", "data/", "../here/data", "././data/../data", "~/data"))
def test_a_relative_root_does_not_leak_the_test_clips_into_training(root, relative, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    root.rename(tmp_path / "here" / "data")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    if relative == "./data":
        assert len(training_the_old_way(relative)) == 48  # every clip became training
    assert len(load(relative).training.clips) == 16
    if not relative.startswith("~"):  # torchaudio's class does not expand it, nor does ours; load does
        assert len(SpeechCommandsWords(relative, "training")) == 16


# --- problems with the data ---


def move(lines, folder, source, target):
    """Move lines from one list of the folder to another."""
    for name, keep in ((source, False), (target, True)):
        path = folder / f"{name}_list.txt"
        old = path.read_text().splitlines()
        path.write_text("".join(f"{line}\n" for line in (old + lines if keep else [x for x in old if x not in lines])))


def test_a_clip_in_two_splits_is_named(root, folder):
    clip = load(root).testing.clips[0]
    with open(folder / "validation_list.txt", "a") as file:
        file.write(clip + "\n")
    assert refused(root) == (f"data: 1 clips appear in validation and testing: {clip}; correct the lists of {folder}")


def test_a_speaker_in_two_splits_is_named(root, folder):
    first = load(root).testing.clips[0]
    speaker = first[3:11]
    move([first], folder, "testing", "validation")
    message = refused(root)
    assert message.startswith(f"data: 1 speakers appear in validation and testing: {first}, no/{speaker}_nohash_1.wav")
    assert f"yes/{speaker}_nohash_0.wav" in message and message.endswith(f"correct the lists of {folder}")


@pytest.mark.parametrize("split", ("validation", "testing"))
def test_a_split_without_a_word_is_named(root, folder, split):
    path = folder / f"{split}_list.txt"
    path.write_text("".join(line + "\n" for line in path.read_text().split() if line.startswith("no/")))
    assert f"has no {split} clip of 'yes'" in refused(root)


def test_a_missing_folder_is_reported_with_the_command_that_creates_it(tmp_path):
    place = tmp_path / "SpeechCommands" / "speech_commands_v0.02"
    assert refused(tmp_path) == (
        f"data: {place} does not exist; run: kws data --root {tmp_path}, or set the right folder with --data_dir"
    )
    assert "run: kws data --synthetic --root" in refused(tmp_path, data="synthetic")


@pytest.mark.parametrize("content,reason", (
    (b"RIFF" + bytes(100), "cannot be read as a WAV file (Format not recognised); replace or remove it"),
    (b"<html>not found</html>" * 9, "cannot be read as a WAV file (Format not recognised); replace or remove it"),
), ids=("zeros", "page"))  # fmt: skip
def test_a_clip_that_is_not_a_wav_file_is_named(root, folder, content, reason):
    clip = next((folder / "no").iterdir())
    clip.write_bytes(content)
    assert refused(root) == f"{clip}: {reason}"


def test_an_empty_clip_is_named(root, folder):
    clip = next((folder / "yes").iterdir())
    soundfile.write(clip, np.zeros(0), 16000, subtype="PCM_16")
    assert f"is incomplete: 1 clips of 'yes' are empty, such as {clip.name}" in refused(root)
    with pytest.raises(KwsError, match=": has no samples; replace or remove it"):
        read_clip(str(clip))


def test_a_truncated_clip_is_named(root, folder):
    clip = next((folder / "no").iterdir())
    clip.write_bytes(clip.read_bytes()[:9000])
    assert refused(root).startswith(f"{clip}: is truncated")


def test_a_list_with_a_path_outside_the_folder_is_an_error(root, folder):
    with open(folder / "testing_list.txt", "a") as file:
        file.write("../elsewhere/no/0132a06d_nohash_1.wav\n")
    assert refused(root) == (
        f"data: testing_list.txt of {folder} has '../elsewhere/no/0132a06d_nohash_1.wav', not WORD/CLIP.wav; correct it"
    )


def test_a_list_with_a_clip_twice_is_an_error(root, folder):
    clip = load(root).testing.clips[0]
    with open(folder / "testing_list.txt", "a") as file:
        file.write(clip + "\n")
    assert refused(root) == f"data: testing_list.txt of {folder} has {clip} twice; correct it"


def test_a_listed_clip_that_is_missing_is_named(root, folder):
    clip = load(root).testing.clips[0]
    (folder / clip).unlink()
    assert f"is incomplete: 1 listed clips are missing, such as {clip}" in refused(root)


# --- the cache ---


def load_with_notices(root):
    notices = []
    return load(root, notify=notices.append), notices


def test_the_cache_is_used_while_the_files_are_unchanged(root, folder):
    first = load(root)
    cached = list(cache_folder().iterdir())
    before = snapshot(cache_folder())
    second, notices = load_with_notices(root)
    assert len(cached) == 1 and snapshot(cache_folder()) == before and notices == []
    assert second.fingerprint == first.fingerprint
    for name in SPLITS:
        assert torch.equal(getattr(second, name).waveforms, getattr(first, name).waveforms)
        assert getattr(second, name).clips == getattr(first, name).clips


def test_long_reading_says_once_how_long_it_takes(root, folder, monkeypatch):
    monkeypatch.setattr("kws.data.corpus.TIMED_CLIPS", 12)
    assert load_with_notices(root)[1] == []  # short
    monkeypatch.setattr("kws.data.corpus.LONG_S", 0)
    (folder / "no" / sorted(os.listdir(folder / "no"))[0]).touch()  # read again
    (notice,) = load_with_notices(root)[1]
    reading = rf"{folder}: reading 48 clips takes about \d+ s; later runs read the cache instead"
    assert re.fullmatch(reading, notice)


def mapped_places():
    """Return [(first address, last address, offset in the file)] of the cache's mappings in this process."""
    (cache,) = cache_folder().iterdir()
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(cache) in line]
    return [(*(int(end, 16) for end in addresses.split("-")), int(offset, 16)) for addresses, _, offset, *_ in lines]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mappings")
def test_the_samples_are_mapped_from_the_cache_also_by_the_call_that_built_it(root):
    for corpus in (load(root), load(root)):
        for samples in (corpus.training.waveforms, corpus.testing.waveforms, corpus.noise):
            assert any(start <= samples.data_ptr() < end for start, end, _ in mapped_places())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mappings")
@pytest.mark.parametrize("resplit", (False, True))
def test_a_prepared_run_has_no_samples_of_training_clips_in_memory(root, resplit):
    settings = {"data_dir": root, "channels": 8, "device": "cpu", "resplit": resplit}
    context = prepare(resolve(("test", settings)))
    assert 0 not in [offset for _, _, offset in mapped_places()]  # where the training clips are in the cache
    assert len(context.corpus.training.waveforms) == 0 and len(context.corpus.training.clips) > 0
    assert bool(mapped_places()) == (not resplit)


def test_kept_samples_serve_later_loads_while_the_files_are_unchanged(root, folder):
    first = load(root, keep=True)
    (cache,) = cache_folder().iterdir()
    cache.write_bytes(b"damaged")
    second, notices = load_with_notices(root)
    assert notices == [] and cache.read_bytes() == b"damaged"  # not read
    assert second.training.waveforms.data_ptr() == first.training.waveforms.data_ptr()
    os.utime(folder / first.training.clips[0], (1, 1))
    third, notices = load_with_notices(root)
    assert len(notices) == 1 and "is damaged" in notices[0]
    assert third.fingerprint == first.fingerprint


def test_changed_samples_give_another_fingerprint(root, folder):
    first = load(root)
    clip = folder / first.training.clips[0]
    samples, rate = soundfile.read(clip, dtype="int16")
    samples[100] += 1
    soundfile.write(clip, samples, rate, subtype="PCM_16")  # same size, another time
    second = load(root)
    assert second.fingerprint != first.fingerprint
    assert second.training.waveforms[0, 100] == samples[100]


def test_a_touched_file_is_read_again_to_the_same_fingerprint(root, folder):
    first = load(root)
    before = snapshot(cache_folder())
    os.utime(folder / first.training.clips[0], (1, 1))
    assert load(root).fingerprint == first.fingerprint
    assert snapshot(cache_folder()) != before


def test_a_removed_a_new_and_a_moved_clip_are_noticed(root, folder):
    prints = [load(root).fingerprint]
    clip = load(root).training.clips[0]
    (folder / clip).rename(folder / clip.replace("_nohash_0", "_nohash_9"))
    prints.append(load(root).fingerprint)
    (folder / clip.replace("_nohash_0", "_nohash_9")).unlink()
    prints.append(load(root).fingerprint)
    clip = load(root).validation.clips[0]
    for moved in (clip, clip.replace("_0.wav", "_1.wav")):
        speaker_clips = [moved, moved.replace("no/", "yes/")]
        move(speaker_clips, folder, "validation", "testing")
    prints.append(load(root).fingerprint)
    assert len(set(prints)) == 4


@pytest.mark.parametrize("damage", ("cut", "empty", "noise", "other", "pickle", "directory"))
def test_a_damaged_cache_is_reported_and_rebuilt(root, damage):
    whole = load(root)
    (path,) = cache_folder().iterdir()
    content = path.read_bytes()
    if damage == "directory":
        path.unlink()
        path.mkdir()
        corpus, notices = load_with_notices(root)
        assert notices and notices[0].startswith(f"cannot write the cache {path} (Is a directory)")
    else:
        path.write_bytes({
            "cut": content[: len(content) // 2], "empty": b"", "noise": os.urandom(5000),
            "pickle": pickle.dumps(print, protocol=2), "other": b"",
        }[damage])  # fmt: skip
        if damage == "other":
            torch.save({"format": CACHE_FORMAT}, path)
        corpus, notices = load_with_notices(root)
        assert len(notices) == 1 and notices[0].startswith(f"cache {path} is damaged (")
        assert load_with_notices(root)[1] == []  # rebuilt
    assert corpus.fingerprint == whole.fingerprint


def test_a_deleted_cache_is_rebuilt_without_a_notice(root):
    first = load(root)
    next(cache_folder().iterdir()).unlink()
    second, notices = load_with_notices(root)
    assert notices == [] and second.fingerprint == first.fingerprint and len(list(cache_folder().iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_reported_and_not_needed(root, tmp_path, monkeypatch):
    place = tmp_path / "file" / "cache"
    place.parent.write_text("")
    monkeypatch.setenv("KWS_CACHE", str(place))
    corpus, (line,) = load_with_notices(root)
    assert len(corpus.testing.clips) == 16
    assert line.startswith(f"cannot write the cache {place}/speech_commands_v0.02-no-yes-")
    assert line.endswith(".samples (Not a directory); set KWS_CACHE to a writable folder")


def test_two_processes_can_build_one_cache_at_once(root):
    code = "import sys; from kws.data.corpus import load; print(load(sys.argv[1], notify=print).fingerprint)"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    prints = [process.communicate(timeout=60)[0] for process in processes]
    assert prints[0] == prints[1] and len(prints[0].split()) == 1
    assert [path.suffix for path in cache_folder().iterdir()] == [".samples"]  # and no temporary file is left
    assert load_with_notices(root)[0].fingerprint == prints[0].strip()


def test_two_corpora_and_two_orders_of_words_have_separate_caches(root, tmp_path):
    make_corpus(tmp_path / "second", speakers=12, seed=5)
    prints = {load(root).fingerprint, load(tmp_path / "second").fingerprint}
    load(root, words=("yes", "no"))
    assert len(prints) == 2 and len(list(cache_folder().iterdir())) == 3


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache_folder().parts[-2:] == (".cache", "kws")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "kws"
    monkeypatch.setenv("KWS_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_read_clip_gives_the_samples(tmp_path):
    samples = np.arange(-500, 500, dtype=np.int16)
    soundfile.write(tmp_path / "clip.wav", samples, 16000, subtype="PCM_16")
    assert np.array_equal(read_clip(str(tmp_path / "clip.wav")), samples)
