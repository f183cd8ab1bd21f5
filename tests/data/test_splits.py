"""Speaker-disjoint random splits of all clips except the test list's, reproducible by seed."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY
from helpers.training import rows

from kws.data.corpus import load
from kws.data.splits import resplit
from kws.errors import KwsError
from kws.training.run_folder import read_predictions

WORDS = ("no", "yes")


@pytest.fixture(scope="module")
def corpus(data_dir):
    return load(data_dir)


def splits(corpus):
    return corpus.training, corpus.validation, corpus.testing


def test_all_clips_except_those_of_the_test_list_are_split(corpus):
    split_again = resplit(corpus, WORDS, 0)
    clips = [clip for split in splits(split_again) for clip in split.clips]
    assert sorted(clips) == sorted(corpus.training.clips + corpus.validation.clips)
    for split in (split_again.validation, split_again.testing):
        assert 0.1 * len(clips) <= len(split.clips) < 0.1 * len(clips) + 12  # a whole speaker at a time


def test_no_speaker_is_in_two_splits(corpus):
    for seed in range(5):
        training, validation, testing = (split.speakers for split in splits(resplit(corpus, WORDS, seed)))
        assert not (training & validation or training & testing or validation & testing)


def test_waveforms_and_labels_stay_with_their_clips(corpus):
    known = {
        clip: (waveform, label)
        for split in (corpus.training, corpus.validation)
        for clip, waveform, label in zip(split.clips, split.waveforms, split.labels, strict=True)
    }
    for split in splits(resplit(corpus, WORDS, 3)):
        for clip, waveform, label in zip(split.clips, split.waveforms, split.labels, strict=True):
            assert torch.equal(waveform, known[clip][0]) and label == known[clip][1]


def test_the_splits_depend_on_the_seed(corpus):
    first, again, other = (resplit(corpus, WORDS, seed).testing.clips for seed in (0, 0, 1))
    assert first == again != other


def test_a_split_without_a_word_is_an_error(corpus):
    silent = [replace(split, labels=torch.zeros_like(split.labels)) for split in splits(corpus)]
    with pytest.raises(KwsError, match="resplit: seed 0 leaves no .* clip of 'yes'; choose another seed"):
        resplit(replace(corpus, training=silent[0], validation=silent[1]), WORDS, 0)


def test_a_run_with_resplit_tests_no_clip_of_the_test_list(kws, work, data_dir):
    listed = set(load(data_dir).testing.clips)
    assert kws("train", *TINY, "--resplit", f"--data_dir={data_dir}").status == 0
    (folder,) = (work / "runs").iterdir()
    predictions = read_predictions(folder)
    tested, validated = set(predictions["test"]), set(predictions["validation"])
    assert tested and validated and not (tested | validated) & listed and not tested & validated
    assert len(rows(folder)) == 2
