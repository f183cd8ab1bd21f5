"""The labels _unknown_ and _silence_: which clips each split has of them, what an epoch draws, and the test set."""

import json
import shutil
from pathlib import Path

import pytest
import soundfile
import torch

from kws.config import resolve
from kws.data.batches import TrainingBatches, epoch_generator
from kws.data.corpus import load
from kws.data.labels import load_labelled
from kws.errors import KwsError
from kws.model.features import LogMelFilterBanks
from tests.helpers.corpus import make_corpus

OTHERS = ("bed", "cat", "happy", "wow")
WORDS = ("no", "yes", *OTHERS)
UNKNOWN, SILENCE = 2, 3  # labels


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    place = tmp_path_factory.mktemp("labelled")
    make_corpus(place, words=WORDS, noise_s=20)
    return place


def labelled(root, notify=lambda line: None, **settings):
    return load_labelled(config(root, **settings), notify)


def config(root, **settings):
    return resolve(("test", {"data_dir": str(root), "unknown": True, "silence": True} | settings))


def count(split, label):
    return int((split.labels == label).sum())


def words_of(split, label=UNKNOWN):
    rows = zip(split.clips, split.labels.int().tolist(), strict=True)
    return {Path(clip).parent.name for clip, of_clip in rows if of_clip == label}


def spoken(split, label=UNKNOWN):
    """Return the other words of a split that somebody said."""
    return {word for word in words_of(split, label) if "-" not in word}


def test_validation_has_made_up_words_that_training_never_has_where_other_words_are_few(root):
    corpus = labelled(root)
    held_out = set(corpus.held_out_words)
    assert len(held_out) == 7  # a fifth of 30 pairs of 6 words, and of 6 words backwards
    assert words_of(corpus.validation) <= held_out and all("-" in word for word in held_out)
    assert spoken(corpus.training) == {*OTHERS} and not words_of(corpus.training) & held_out
    assert words_of(corpus.testing) <= {*OTHERS}
    assert [count(corpus.validation, label) for label in range(4)] == [8, 8, 8, 8]
    assert [count(corpus.testing, label) for label in range(4)] == [8, 8, 8, 8]
    assert [count(corpus.training, label) for label in (0, 1, 3)] == [32, 32, 32]


def test_validation_has_recorded_words_that_training_never_has_where_there_are_enough(root, monkeypatch):
    monkeypatch.setattr("kws.data.labels.MANY_WORDS", len(OTHERS))
    corpus = labelled(root)
    assert words_of(corpus.validation) == set(corpus.held_out_words) and len(corpus.held_out_words) == 1
    assert words_of(corpus.training) == {*OTHERS} - {*corpus.held_out_words}
    assert words_of(corpus.testing) <= {*OTHERS}


def test_the_clips_of_validation_and_test_do_not_depend_on_the_seed(root):
    first, second = labelled(root, seed=1), labelled(root, seed=2)
    for name in ("validation", "testing"):
        a, b = getattr(first, name), getattr(second, name)
        assert a.clips == b.clips and torch.equal(a.waveforms, b.waveforms)
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize("enough", [len(OTHERS), len(OTHERS) + 1], ids=["recorded", "made up"])
def test_resplit_holds_out_other_words_by_seed_for_validation_and_test(root, monkeypatch, enough):
    monkeypatch.setattr("kws.data.labels.MANY_WORDS", enough)
    all_held_out = []
    for seed in range(6):
        corpus = labelled(root, resplit=True, seed=seed)
        held_out = set(corpus.held_out_words)
        assert words_of(corpus.validation) | words_of(corpus.testing) <= held_out
        assert words_of(corpus.validation) and words_of(corpus.testing)
        assert not words_of(corpus.training) & held_out
        all_held_out.append(held_out)
    assert len(set.union(*all_held_out)) > len(all_held_out[0])


def test_one_other_word_is_enough_for_made_up_ones_and_a_notice_says_what_the_test_lacks(tmp_path):
    make_corpus(tmp_path, words=("no", "yes", "bed"), noise_s=20)
    notices = []
    corpus = labelled(tmp_path, notices.append)
    assert notices == [
        "unknown: all other words in the test clips are also in training; accuracy on new words may be lower"
    ]
    assert spoken(corpus.training) == {"bed"} and len(corpus.held_out_words) == 2  # of 9
    assert words_of(corpus.validation) == set(corpus.held_out_words)


@pytest.mark.parametrize("name", ["training", "validation"])
def test_words_that_nobody_says_are_made_of_the_splits_recordings(root, name):
    corpus = labelled(root, words="no,yes,wow")
    split = getattr(corpus, name)
    recordings = load(root, words=("no", "yes", "wow"), others=True)
    of_split = getattr(recordings, name)
    samples = dict(zip(of_split.clips, of_split.waveforms, strict=True))
    made = [n for n, clip in enumerate(split.clips) if "-" in clip.partition("/")[0]]
    assert len(made) >= (100 if name == "training" else 8) and {int(split.labels[n]) for n in made} == {3}
    if name == "training":
        assert {split.clips[n].partition("-")[0] for n in made} == {"no", "yes", "wow", *spoken(split, 3)}
    for n in made:
        word, _, other = split.clips[n].partition("/")[0].partition("-")
        recording, of_clip = samples[f"{word}/{Path(split.clips[n]).name}"], split.waveforms[n]
        if other == "backwards":
            assert torch.equal(of_clip, recording.flip(0)) and word != "wow"  # which is a keyword backwards, too
        else:
            assert word != other and torch.equal(of_clip[:2000], recording[:2000])
            assert not torch.equal(of_clip, recording)


def test_each_epoch_draws_other_words_of_its_own(root):
    corpus = labelled(root)
    settings = config(root, augment=False, unknown_share=1.5)
    batches = TrainingBatches(settings, corpus, LogMelFilterBanks(n_mels=20))
    drawn = []
    for number in (1, 2, 1):
        features, labels = zip(*batches.epoch(epoch_generator(0, number)), strict=True)
        features, labels = torch.cat(list(features)), torch.cat(labels)
        assert [int((labels == label).sum()) for label in range(4)] == [32, 32, 48, 32]
        drawn.append(features[labels == UNKNOWN])
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    assert batches.clips == 144 and len(batches) == 3


def test_silence_is_noise_at_random_level_from_its_own_part_of_the_recordings(root):
    corpus = labelled(root)
    recording, _ = soundfile.read(next(root.glob("SpeechCommands/*/_background_noise_/*.wav")), dtype="int16")
    parts = {"training": (0, 16), "validation": (16, 18), "testing": (18, 20)}  # seconds
    for name, (start, end) in parts.items():
        split = getattr(corpus, name)
        clips = split.waveforms[split.labels == SILENCE].float()
        part = torch.from_numpy(recording[16000 * start : 16000 * end].copy()).double()
        loud = clips[clips.abs().amax(1) > 300].double()
        # Of each clip with each second of the part: products by FFT, energies by sums.
        products = torch.fft.irfft(torch.fft.rfft(part) * torch.fft.rfft(loud, len(part)).conj(), len(part))
        energy = torch.nn.functional.pad(part.square().cumsum(0), (1, 0))
        seconds = energy[16000:] - energy[:-16000]
        likeness = products[:, : len(seconds)] / seconds.sqrt() / loud.norm(dim=1, keepdim=True)
        assert len(loud) > 4 and (likeness.amax(1) > 0.99).all()
    silence = corpus.training.waveforms[corpus.training.labels == SILENCE]
    assert (silence == 0).all(1).any()  # digital silence
    assert len(corpus.noise) == 16000 * 16


def test_the_official_test_set_replaces_the_test_split_if_it_has_all_labels(root, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    lists = labelled(tmp_path)
    assert lists.test_set == "lists"
    place = tmp_path / "SpeechCommands" / "speech_commands_test_set_v0.02"
    for label, name in (("no", "a_nohash_0.wav"), ("yes", "a_nohash_0.wav"), ("_unknown_", "dog_a_nohash_0.wav.wav")):
        (place / label).mkdir(parents=True)
        soundfile.write(place / label / name, torch.zeros(9000).numpy() + 0.1, 16000, subtype="PCM_16")
    assert labelled(tmp_path).test_set == "lists"  # it lacks _silence_
    (place / "_silence_").mkdir()
    soundfile.write(place / "_silence_" / "0.wav", torch.zeros(16000).numpy(), 16000, subtype="PCM_16")
    load_labelled.__globals__["_official_test_set"].cache_clear()
    official = labelled(tmp_path)
    assert official.test_set == "official" and official.fingerprint != lists.fingerprint
    assert official.testing.clips == [
        "no/a_nohash_0.wav", "yes/a_nohash_0.wav", "_unknown_/dog/a_nohash_0.wav", "_silence_/0.wav"
    ]  # fmt: skip
    assert official.testing.speaker_of == ["a", "a", "a", ""]  # the dog's, too
    assert labelled(tmp_path, resplit=True).test_set == "lists"
    assert labelled(tmp_path, unknown=False, silence=False).test_set == "lists"


def test_synthetic_words_are_for_training_alone(root, tmp_path):
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    with pytest.raises(
        KwsError, match="unknown_synthetic: .* does not exist; run: kws data --synthetic --unknown_words"
    ):
        labelled(tmp_path, unknown_synthetic=True)
    synthetic = make_corpus(tmp_path, "speech_commands_synthetic_unknown", words=("yet", "note"), noise_s=10)
    (synthetic / ".kws-complete").write_text('{"words": ["note", "yet"], "clips": {"note": 48, "yet": 48}}')
    corpus = labelled(tmp_path, unknown_synthetic=True)
    assert {"yet", "note"} <= words_of(corpus.training) and corpus.synthetic_unknown == 96
    assert not {"yet", "note"} & (words_of(corpus.validation) | words_of(corpus.testing))
    assert corpus.info(False)["synthetic_unknown"] == 96


def test_where_all_clips_are_synthetic_so_are_the_words_that_are_held_out(tmp_path, monkeypatch):
    monkeypatch.setattr("kws.data.labels.MANY_WORDS", 4)
    words = ("no", "yes", "note", "yet", "wow", "cat")
    for name, of_corpus in (("speech_commands_synthetic", words[:2]), ("speech_commands_synthetic_unknown", words[1:])):
        folder = make_corpus(tmp_path, name, words=of_corpus, noise_s=20)
        counts = dict.fromkeys(of_corpus, 48)
        (folder / ".kws-complete").write_text(json.dumps({"words": list(of_corpus), "clips": counts}))
    corpus = labelled(tmp_path, data="synthetic", unknown_synthetic=True)
    (held_out,) = corpus.held_out_words
    assert words_of(corpus.validation) == {held_out} < {*words[2:]}
    assert words_of(corpus.training) == {*words[2:]} - {held_out}


def test_without_other_words_the_error_says_how_to_get_some(data_dir):
    with pytest.raises(
        KwsError, match="unknown: .* has no words other than no, yes; add recordings of others, or run: "
    ):
        labelled(data_dir)


def test_recordings_of_noise_that_are_too_short_for_silence_are_an_error(data_dir):
    with pytest.raises(KwsError, match="silence: the recordings of .* are shorter than 10 s; add a longer one"):
        labelled(data_dir, unknown=False)
