"""A folder of the user's own recordings: layouts, splits without lists, conversion, and what is left out."""

import codecs
import shutil
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY
from helpers.corpus import make_corpus

from kws.data.audio import read_clip, to_16k_mono
from kws.data.clips import official_split
from kws.data.corpus import load
from kws.errors import KwsError
from kws.training.run_folder import read_config

WORDS = ("нет", "да")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KWS_CACHE", str(tmp_path / "cache"))


def record(folder, names, words=WORDS, samples=None, rate=16000, **options):
    """Write a file for each name into each word's folder; of each its own samples, unless they are given."""
    random = np.random.default_rng(0)
    for word in words:
        (folder / word).mkdir(parents=True, exist_ok=True)
        for name in names:
            sound = random.uniform(-0.5, 0.5, 4000) if samples is None else samples
            soundfile.write(folder / word / name, sound, rate, **{"subtype": "PCM_16"} | options)
    return folder


def noise(folder):
    (folder / "_background_noise_").mkdir(parents=True)
    soundfile.write(folder / "_background_noise_" / "hum.wav", np.zeros(16000), 16000)
    return folder


def opened(data_dir, words=WORDS, **options):
    """Return (corpus, notices), each notice without the folder that it begins with."""
    notices = []
    corpus = load(data_dir, words=words, notify=notices.append, **options)
    assert all(notice.startswith(f"{corpus.folder}: ") for notice in notices)
    return corpus, [notice.removeprefix(f"{corpus.folder}: ") for notice in notices]


def refused(data_dir, words=WORDS, **options):
    with pytest.raises(KwsError) as caught:
        load(data_dir, words=words, **options)
    return str(caught.value)


def split_of(corpus):
    """Return {file name without suffix: splits}."""
    splits = {}
    for split in ("training", "validation", "testing"):
        for clip in getattr(corpus, split).clips:
            splits.setdefault(Path(clip).stem, set()).add(split)
    return splits


SPEAKERS = [f"{n:08x}" for n in range(40)]


# --- splits without lists ---


def test_the_rule_is_that_of_speech_commands():
    # Speakers of the official lists.
    assert official_split("10f2bb12") == "validation"
    assert [official_split(speaker) for speaker in ("1528225c", "0132a06d")] == ["testing", "training"]


def test_a_folder_of_words_is_split_by_the_hash_of_the_speaker(tmp_path):
    noise(record(tmp_path / "mine", [f"{speaker}_nohash_{take}.wav" for speaker in SPEAKERS for take in (0, 1)]))
    corpus, notices = opened(tmp_path / "mine")
    assert notices == [] and corpus.folder == tmp_path / "mine" and corpus.name == "recordings in mine"
    splits = split_of(corpus)
    assert splits == {f"{speaker}_nohash_{take}": {official_split(speaker)} for speaker in SPEAKERS for take in (0, 1)}
    assert corpus.info(False)["speakers"] == 40
    more = record(tmp_path / "mine", [f"{n:08x}_nohash_0.wav" for n in range(100, 140)])
    assert split_of(load(more, words=WORDS)).items() > splits.items()  # further speakers change none of them


def test_few_speakers_are_in_three_splits_too(tmp_path):
    noise(record(tmp_path, [f"{name}_nohash_{take}.wav" for name in ("ann", "bob", "cid") for take in range(4)]))
    corpus, notices = opened(tmp_path)
    assert notices == [] and len(corpus.training.speakers) == 1
    assert (
        not corpus.training.speakers & corpus.validation.speakers | corpus.validation.speakers & corpus.testing.speakers
    )


def test_files_that_name_no_speaker_are_split_one_by_one_with_a_warning(tmp_path):
    for word in WORDS:  # names of their own in each word, and just enough of them
        noise_free = record(tmp_path, [f"{word} {n}.wav" for n in range(10)], words=(word,))
    corpus, notices = opened(noise(noise_free))
    assert notices == [
        "20 clips name no speaker, such as да/да 0.wav, so a speaker may be in several splits; --speaker_from says "
        "where in a file's name the speaker is"
    ]
    assert [len(split.clips) for split in (corpus.training, corpus.validation, corpus.testing)] == [16, 2, 2]
    assert corpus.info(False)["speakers"] == 0
    assert [set(split.labels.tolist()) for split in (corpus.validation, corpus.testing)] == [{0, 1}, {0, 1}]


def test_speaker_from_says_where_the_speaker_is(tmp_path):
    names = [f"take{take}-{speaker}-x.wav" for speaker in ("anna", "bo", "cy", "di") for take in range(3)]
    noise(record(tmp_path, names))
    corpus, notices = opened(tmp_path, speaker_from="-([a-z]+)-")
    assert notices == [] and corpus.training.speakers | corpus.testing.speakers < {"anna", "bo", "cy", "di"}
    assert all(len(splits) == 1 for splits in split_of(corpus).values())
    whole, _ = opened(tmp_path, speaker_from="anna|bo|cy|di")  # no group: the whole match
    assert whole.info(False)["speakers"] == 4 and split_of(whole).keys() == split_of(corpus).keys()
    assert opened(tmp_path)[1][0].startswith("24 clips name no speaker")


def test_one_speaker_is_an_error_that_says_what_to_do(tmp_path):
    record(tmp_path, [f"me_nohash_{n}.wav" for n in range(20)])
    assert refused(tmp_path).endswith("add recordings of more speakers, or split by file: --speaker_from=.+")
    assert len(opened(tmp_path, speaker_from=".+")[0].training.clips) > 20


def test_resplit_keeps_clips_without_a_speaker_apart(tmp_path, kws, work):
    record(tmp_path / "mine", [f"{n}.wav" for n in range(30)])
    done = kws("train", *TINY, f"--data_dir={tmp_path}/mine", "--words=нет,да", "--resplit", "--epochs=1")
    assert done.status == 0 and "there is no recording in _background_noise_: augmentation uses generated" in done.err
    (run,) = (work / "runs").iterdir()
    assert read_config(run)["data_info"]["corpus"] == "recordings in mine"
    assert "recordings in mine" in done.out and "Speech Commands" not in done.out


# --- layouts ---


@pytest.fixture
def official(tmp_path):
    """A corpus with names and splits as those of Speech Commands."""
    folder = make_corpus(tmp_path / "official", speakers=40)
    lists = {"validation": [], "testing": [], "training": []}
    for path in sorted(folder.glob("[ny]*/*.wav")):
        lists[official_split(path.name[:8])].append(f"{path.parent.name}/{path.name}\n")
    for name in ("validation", "testing"):
        (folder / f"{name}_list.txt").write_text("".join(lists[name]))
    return folder


def test_kaggles_and_hugging_faces_folders_are_recognised(official, tmp_path):
    plain, _ = opened(tmp_path / "official", ("no", "yes"))
    assert plain.name == "Speech Commands v0.02"
    kaggle = tmp_path / "kaggle"
    shutil.copytree(official, kaggle / "train" / "audio")
    for name in ("validation_list.txt", "testing_list.txt"):
        (kaggle / "train" / "audio" / name).rename(kaggle / "train" / name)
    face = tmp_path / "face"
    names = {"training": "train", "validation": "dev", "testing": "test"}
    for split, name in names.items():
        for clip in getattr(plain, split).clips:
            (face / "data" / name / clip).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(official / clip, face / "data" / name / clip)
    for root, folder in (
        (kaggle, kaggle / "train/audio"),
        (kaggle / "train", kaggle / "train/audio"),
        (face, face / "data"),
    ):
        corpus, _ = opened(root, ("no", "yes"))
        assert split_of(corpus) == split_of(plain)
        assert (corpus.folder, corpus.name) == (folder, "Speech Commands")
    shutil.rmtree(face / "data" / "dev")
    corpus, _ = opened(face, ("no", "yes"))
    assert corpus.testing.clips == [f"test/{clip}" for clip in plain.testing.clips]  # the folder's own
    assert corpus.validation.clips and not corpus.validation.speakers & corpus.training.speakers
    assert corpus.name == "recordings in data"


@pytest.mark.parametrize("change", ("names", "lists", "words"))
def test_own_recordings_in_the_place_of_speech_commands_are_not_called_that(official, tmp_path, change):
    words = ("no", "yes")
    if change == "names":
        next((official / "no").iterdir()).rename(official / "no" / "anna_nohash_1.wav")
    elif change == "lists":
        lists = [official / f"{name}_list.txt" for name in ("validation", "testing")]
        for path, text in zip(lists, [path.read_text() for path in reversed(lists)], strict=True):
            path.write_text(text)
    else:
        words = ("no", "oui")
        (official / "yes").rename(official / "oui")
        for path in official.glob("*.txt"):
            path.write_text(path.read_text().replace("yes/", "oui/"))
    if change == "names":
        for path in official.glob("*.txt"):
            path.write_text("".join(line for line in path.open() if (official / line.strip()).exists()))
    assert opened(tmp_path / "official", words)[0].name == "recordings in speech_commands_v0.02"


@pytest.mark.parametrize("form", ("NFC", "NFD"))
def test_words_are_found_in_either_form_of_their_letters(tmp_path, form):
    word = normalize(form, "йод")
    noise(record(tmp_path, [f"{speaker}_nohash_0.wav" for speaker in SPEAKERS], words=(word, "no")))
    corpus, _ = opened(tmp_path, ("no", normalize("NFC", "йод")))
    assert len(corpus.training.clips) > 40 and set(corpus.testing.labels.tolist()) == {0, 1}
    listed = [clip for clip in corpus.testing.clips if "no/" in clip]
    other = "NFD" if form == "NFC" else "NFC"
    listed += [f"{normalize(other, 'йод')}/{clip[3:]}" for clip in listed]
    (tmp_path / "testing_list.txt").write_text("\n".join(listed))
    (tmp_path / "validation_list.txt").write_text("\n".join(corpus.validation.clips))
    assert split_of(opened(tmp_path, ("no", normalize("NFC", "йод")))[0]) == split_of(corpus)


# --- what is read, and what is not ---


def test_other_formats_are_converted_and_counted(tmp_path):
    folder = noise(record(tmp_path, [f"{speaker}_nohash_0.wav" for speaker in SPEAKERS]))
    tone = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000) / 2
    record(folder, ["ffff0000_nohash_0.WAV"], samples=tone, rate=8000)
    record(folder, ["ffff0000_nohash_1.wav"], samples=np.stack([tone, -tone], 1), subtype="FLOAT")
    record(folder, ["ffff0000_nohash_2.flac"], samples=np.pad(tone, (16000, 4000)))
    record(folder, ["ffff0000_nohash_3.opus"], samples=tone, rate=48000, subtype="OPUS", format="OGG")
    (folder / "да" / "notes.txt").write_text("42")
    (folder / "да" / "old").mkdir()
    (folder / "да" / "broken.wav").write_bytes(b"RIFF")
    (folder / "да" / "empty.wav").write_bytes(b"")
    corpus, (line,) = opened(folder)
    assert line == (
        "8 files converted (2 named .WAV, 2 8,000 Hz, 2 FLOAT samples, 2 2 channels, 2 FLAC samples, "
        "2 longer than a second, 2 OGG samples, 2 48,000 Hz); 4 files left out: no audio that kws reads (2, such as "
        "да/notes.txt), cannot be read as a WAV file (Format not recognised) (1, such as да/broken.wav), is empty (1, "
        "such as да/empty.wav)"
    )
    assert opened(folder)[1] == [line]  # from the cache, too
    waveforms = dict(zip(corpus.training.clips, corpus.training.waveforms, strict=True))
    phase = 2 * np.pi * 440 * np.arange(16000) / 16000
    upsampled = waveforms["да/ffff0000_nohash_0.WAV"].numpy()
    assert np.abs(upsampled[200:-200] - 16384 * np.sin(phase)[200:-200]).max() < 200
    for name in ("ffff0000_nohash_1.wav", "ffff0000_nohash_2.flac"):  # opposite channels; the second with the sound
        sound = waveforms[f"да/{name}"].double()
        assert abs(float(sound[sound != 0].std()) / (16384 / 2**0.5) - 1) < 0.01


def test_16_bit_samples_of_16_khz_are_unchanged_in_another_container(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32767, 16000).astype(np.int16)
    for name in ("a.wav", "b.flac", "c.WAV"):
        soundfile.write(tmp_path / name, samples, 16000, subtype="PCM_16", format=name[-4:].strip(".").upper())
        assert np.array_equal(read_clip(tmp_path / name), samples)


def test_channels_are_averaged_unless_they_cancel_each_other():
    left, right = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    assert np.allclose(to_16k_mono(np.stack([left, right], 1), 16000), (left + right) / 2)
    assert np.allclose(to_16k_mono(np.stack([left, 0 * left], 1), 16000), left / 2)
    assert np.array_equal(to_16k_mono(np.stack([0.5 * left, -left], 1), 16000), left * -1)


def test_files_that_systems_add_are_no_clips(official, tmp_path):
    before = load(tmp_path / "official")
    for path in [*official.glob("*/*.wav")][::3]:
        path.with_name(f"._{path.name}").write_bytes(bytes(4096))
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "@eaDir/x.wav", "__MACOSX/yes/._x.wav"):
        for folder in (official, official / "yes", official / "_background_noise_"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(bytes(100))
    corpus, notices = opened(tmp_path / "official", ("no", "yes"))
    assert notices == [] and corpus.fingerprint == before.fingerprint and torch.equal(corpus.noise, before.noise)


MARKS = {
    "UTF-8 mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 BE": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "Windows": lambda text: text.replace("\n", "\r\n").replace("/", "\\").encode(),
    "blanks": lambda text: text.replace("\n", " \t\n\n").encode(),
    "files put together": lambda text: "".join(f"\ufeff{line}\n" for line in text.split()).encode(),
    "find": lambda text: "".join(f"./{line}\n" for line in text.split()).encode(),
}


@pytest.mark.parametrize("mark", MARKS)
def test_lists_with_marks_of_editors_give_the_same_splits(official, tmp_path, mark):
    before = load(tmp_path / "official")
    for path in official.glob("*.txt"):
        path.write_bytes(MARKS[mark](path.read_text()))
    after = load(tmp_path / "official")
    assert after.fingerprint == before.fingerprint and after.name == "Speech Commands v0.02"


# --- messages ---


def test_what_is_wrong_with_own_words_is_said(official, tmp_path, kws):
    for old, new in (("yes", "да"), ("no", "нет")):
        (official / old).rename(official / new)
        for path in official.glob("*.txt"):
            path.write_text(path.read_text().replace(f"{old}/", f"{new}/"))
    (official / "validation_list.txt").unlink()
    done = kws("data", "--root", tmp_path / "official", "--words=нет,да")
    assert done.status == 2 and done.notices == [
        f"kws: data: {official} is incomplete: there is no validation_list.txt; correct the lists, or remove both: "
        "clips are then split by speaker"
    ]
    done = kws("doctor", "--data_dir", tmp_path / "official")
    assert "there is no clip of 'no'" in done.out and "its words are: да, нет" in done.out and "mv " not in done.out
    (official / "testing_list.txt").unlink()
    assert kws("data", "--root", tmp_path / "official", "--words=нет,да").status == 0
    assert "80 нет, 80 да in" in kws("doctor", "--data_dir", tmp_path / "official", "--words=нет,да").out
    assert refused(tmp_path / "official", ("да", "нат")).endswith("there is no clip of 'нат'; did you mean нет?")
    shutil.rmtree(official / "да")
    (official / "да").mkdir()
    (official / "да" / "a.m4a").write_bytes(b"x")
    assert "there is no clip of 'да'; kws does not read files such as да/a.m4a" in refused(tmp_path / "official")


def test_a_split_that_only_unreadable_files_would_fill_is_named_with_their_reason(tmp_path):
    folder = noise(record(tmp_path, [f"{speaker}_nohash_0.wav" for speaker in SPEAKERS]))
    for path in load(folder, words=WORDS).testing.clips:
        (folder / path).write_bytes(b"x" * 100)
    assert "has no testing clip of" in refused(folder) and "cannot be read as a WAV file" in refused(folder)
