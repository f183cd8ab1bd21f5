"""The corpus of a run: its keywords, and the labels _unknown_ and _silence_ with their clips and test set."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kws.config import SILENCE, UNKNOWN, Config
from kws.data.audio import N_SAMPLES, pad, read_clip
from kws.data.clips import NOISE_FOLDER, SPLITS, speaker, word_of
from kws.data.corpus import Corpus, Notify, Split, load
from kws.data.layout import dataset_folder, read_marker
from kws.data.splits import resplit
from kws.errors import KwsError

HELD_OUT_WORDS = 0.2  # share of the other words, or of the made-up ones, that only validation has
MANY_WORDS = 10  # with as many other words, none need be made up
NOISE_TRAINED = 0.8  # share of each noise recording, from its start, that training uses
DIGITAL_SILENCE = 0.1  # share of the clips of _silence_ that are zeros


def load_labelled(config: Config, notify: Notify = lambda line: None, keep: bool = False) -> Corpus:
    """Return the Corpus that a run trains, validates and tests on; see kws.data.corpus.load for `keep` and errors.

    The label _unknown_ is made of the other words of the data set's folder. For training it has all their clips, of
    which each epoch draws some (kws.data.batches), except a fifth of the words: validation uses these alone, as its
    error on words that training knows would say little about words it does not know. Validation and test have as many
    clips as a keyword has on average, those with the lowest hashes. Synthetic words serve for training alone, unless
    the whole corpus is synthetic.

    Where the folder has few other words, training has all of them, and recordings played backwards and joined halves
    of two: words that nobody says, with the voices, rooms and microphones of real ones. Of these, a fifth is held out,
    and validation uses them alone.

    The label _silence_ has as many clips as a keyword: random seconds of the noise recordings at random level, and
    digital silence. Training uses the first four fifths of each recording, also as background noise.

    The official test set beside the data set, if it has all labels, replaces the test split of such a run.
    """
    corpus = load(config.data_dir, config.data, config.words, notify, keep, config.speaker_from, others=config.unknown)
    if config.resplit:
        corpus = resplit(corpus, config.words, config.seed)
    if config.unknown:
        corpus = _with_unknown(config, corpus)
    if config.silence:
        corpus = _with_silence(config, corpus)
    if config.labels != config.words and not config.resplit:
        official = _official_test_set(dataset_folder(config.data_dir, "test_set"), config.labels)
        if official:
            split, fingerprint = official
            digest = hashlib.sha256((corpus.fingerprint + fingerprint).encode()).hexdigest()
            corpus = replace(corpus, testing=split, fingerprint=digest[:16], test_set="official")
    others = {*map(word_of, corpus.testing.clips)} - {*config.words, SILENCE}
    if config.unknown and others <= {*map(word_of, corpus.training.clips)}:
        known = "all other words in the test clips are also in training; accuracy on new words may be lower"
        notify(
            f"unknown: {known if others else 'no test clip is of another word, so the test says nothing about others'}"
        )
    return corpus


def _with_unknown(config: Config, corpus: Corpus) -> Corpus:
    """Return the corpus with the clips of other words that each split has."""
    label = len(config.words)
    splits = {name: getattr(corpus, name) for name in SPLITS}
    others = {name: [clip for clip in _clips(split) if clip.label == label] for name, split in splits.items()}
    recorded = sorted({*config.words, *(clip.word for clips in others.values() for clip in clips)})
    synthetic = _synthetic_words(config) if config.unknown_synthetic else {}
    for name, clips in synthetic.items():
        others[name if config.data == "synthetic" else "training"] += clips
    if not others["training"]:
        raise KwsError(
            f"unknown: {corpus.folder} has no words other than {', '.join(config.words)}; add recordings of others, or "
            f"run: {_synthetic_command(config)}, and add --unknown_synthetic=true"
        )
    words = {clip.word for clip in others["validation"]}
    made_up = _made_up_words(recorded, config.words) if len(words) < MANY_WORDS else {}
    seed = config.seed if config.resplit else ""
    ordered = sorted(made_up or words, key=lambda word: _hash(f"{seed} {word}"))
    number = max(1, round(HELD_OUT_WORDS * len(ordered)))
    held_out, trained = ordered[:number], ordered[number:]
    made: dict[str, Any] = {}
    for name, split in splits.items():
        keywords = [clip for clip in _clips(split) if clip.label < label]
        chosen, trains = others[name], name == "training"
        if made_up and (name != "testing" or config.resplit):
            recordings = [clip for clip in (*keywords, *chosen) if clip.word in recorded]
            parts = [made_up[word] for word in (trained if trains else held_out)]
            chosen = [*chosen * trains, *_make_up(recordings, parts, config.seed if trains else 0)]
        elif name != "testing" or config.resplit:
            chosen = [clip for clip in chosen if (clip.word in held_out) != trains]
        if not trains:
            chosen = sorted(chosen, key=lambda clip: _hash(clip.path))[: round(len(keywords) / label)]
        made[name] = _split([*keywords, *(clip._replace(label=label) for clip in chosen)])
    return replace(corpus, **made, held_out_words=held_out, synthetic_unknown=sum(map(len, synthetic.values())))


def _made_up_words(recorded: Sequence[str], keywords: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return {name: words whose halves are joined, or word and "" for it played backwards} of words nobody says.

    A word that is a keyword when spelt backwards is left out, such as "no" where "on" is one.
    """
    pairs = {f"{first}-{second}": (first, second) for first, second in permutations(recorded, 2)}
    return pairs | {f"{word}-backwards": (word, "") for word in recorded if word[::-1] not in keywords}


def _make_up(clips: Sequence["_Clip"], words: Sequence[tuple[str, str]], seed: int) -> Iterator["_Clip"]:
    """Yield a clip of the made-up `words` for each recording that is in one of them.

    Where `words` has both, two of three recordings are played backwards, one is joined with half of another. The cut
    is where half of a clip's energy is over.
    """
    generator = torch.Generator().manual_seed(seed)
    clips_of: dict[str, list[_Clip]] = {}
    for clip in clips:
        clips_of.setdefault(clip.word, []).append(clip)
    seconds_of: dict[str, list[str]] = {}
    for first, second in words:
        if second in clips_of or not second:
            seconds_of.setdefault(first, []).append(second)
    for n, clip in enumerate(clips):
        name, seconds = clip.path.rpartition("/")[2], seconds_of.get(clip.word, [])
        joined = [*filter(None, seconds)]
        if "" in seconds and (n % 3 or not joined):
            yield clip._replace(samples=clip.samples.flip(0), path=f"{clip.word}-backwards/{name}")
        elif joined:
            of_word, place = torch.rand(2, generator=generator).tolist()
            second = joined[int(of_word * len(joined))]
            other = clips_of[second][int(place * len(clips_of[second]))]
            samples = torch.cat((clip.samples[: _middle(clip.samples)], other.samples[_middle(other.samples) :]))
            yield clip._replace(samples=pad(samples[:N_SAMPLES]), path=f"{clip.word}-{second}/{name}")


def _middle(samples: Tensor) -> int:
    energy = samples.double().square().cumsum(0)
    return int(torch.searchsorted(energy, energy[-1] / 2))


def _synthetic_words(config: Config) -> dict[str, list["_Clip"]]:
    """Return the clips of synthetic unknown words by split."""
    folder = dataset_folder(config.data_dir, "synthetic_unknown")
    words = (read_marker(folder) or {}).get("words")
    if not words:
        raise KwsError(f"unknown_synthetic: {folder} does not exist; run: {_synthetic_command(config)}")
    corpus = load(config.data_dir, "synthetic_unknown", [word for word in words if word not in config.words])
    return {name: list(_clips(getattr(corpus, name))) for name in SPLITS}


def _synthetic_command(config: Config) -> str:
    words = "" if config.words == Config().words else f" --words={','.join(config.words)}"
    return f"kws data --synthetic --unknown_words=150{words} --root {quote(str(config.data_dir))}"


def _with_silence(config: Config, corpus: Corpus) -> Corpus:
    """Return the corpus with clips of _silence_ in each split, and less background noise for training."""
    label = config.labels.index(SILENCE)
    parts = noise_parts(corpus)
    made: dict[str, Any] = {}
    for name, of_split in parts.items():
        split, long = getattr(corpus, name), [part for part in of_split if len(part) >= N_SAMPLES]
        if not long:
            raise KwsError(
                f"silence: the recordings of {corpus.folder / NOISE_FOLDER} are shorter than 10 s; add a longer one"
            )
        number = round(int((split.labels < len(config.words)).sum()) / len(config.words))
        generator = torch.Generator().manual_seed(config.seed if name == "training" else 0)
        lengths = torch.tensor([float(len(part)) for part in long])  # a second of any recording is equally likely
        silence = []
        for n in range(number):
            part = long[int(torch.multinomial(lengths, 1, generator=generator))]
            start = int(torch.randint(len(part) - N_SAMPLES + 1, (1,), generator=generator))
            level, is_digital = torch.rand(2, generator=generator).tolist()
            samples = (part[start : start + N_SAMPLES] * (0.0 if is_digital < DIGITAL_SILENCE else level)).short()
            silence.append(_Clip(samples, label, f"{SILENCE}/{name}-{n}.wav", ""))
        made[name] = _split([*_clips(split), *silence])
    return replace(corpus, **made, noise=torch.cat(parts["training"]))


def noise_parts(corpus: Corpus) -> dict[str, list[Tensor]]:
    """Return the part of each noise recording that each split has; `corpus` as kws.data.corpus.load returns it."""
    recordings = torch.split(corpus.noise, corpus.noise_lengths)
    cuts = [int(NOISE_TRAINED * len(recording)) for recording in recordings]
    trained = [recording[:cut] for recording, cut in zip(recordings, cuts, strict=True)]
    rest = [recording[cut:] for recording, cut in zip(recordings, cuts, strict=True)]
    halves = [(part[: len(part) // 2], part[len(part) // 2 :]) for part in rest]
    return {"training": trained, "validation": [a for a, _ in halves], "testing": [b for _, b in halves]}


@cache  # a sweep's fork server reads them once for all trials
def _official_test_set(folder: Path, labels: tuple[str, ...]) -> tuple[Split, str] | None:
    """Return the clips of the labels in the official test set and a hash of them, None if it lacks a label.

    There, names of other words' clips have the word in front: bird_0a2b400e_nohash_0.wav.wav. Here they are
    _unknown_/bird/0a2b400e_nohash_0.wav, so that word and speaker are found as in all other clips.
    """
    if not all((folder / label).is_dir() for label in labels):
        return None
    digest, clips = hashlib.sha256(), []
    for number, label in enumerate(labels):
        for path in sorted((folder / label).glob("[!._]*.wav")):
            samples = pad(torch.from_numpy(read_clip(path)))
            digest.update(samples.numpy().data)
            name = path.name.replace(".wav.wav", ".wav")
            clip = f"{label}/{name.replace('_', '/', 1) if label == UNKNOWN else name}"
            clips.append(_Clip(samples, number, clip, speaker(clip)))
    return _split(clips), digest.hexdigest()


class _Clip(NamedTuple):
    """A clip: its samples (16000,) int16, label, path, and speaker."""

    samples: Tensor
    label: int
    path: str
    speaker: str

    @property
    def word(self) -> str:
        return word_of(self.path)


def _clips(split: Split) -> Iterator[_Clip]:
    rows = zip(split.waveforms, split.labels.int().tolist(), split.clips, split.speaker_of, strict=True)
    return (_Clip(*row) for row in rows)


def _split(clips: Sequence[_Clip]) -> Split:
    samples, labels, paths, speakers = zip(*clips, strict=True)
    return Split(torch.stack(samples), torch.tensor(labels, dtype=torch.float32), list(paths), list(speakers))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
