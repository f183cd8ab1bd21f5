"""Repeated speaker-disjoint random splits of everything but the official test set, which is not used."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from kws.data.corpus import Corpus, Split
from kws.errors import KwsError

HELD_OUT = 0.1  # share of the clips in validation, and as many in testing


def resplit(corpus: Corpus, words: Sequence[str], seed: int) -> Corpus:
    """Return a Corpus of the training and validation clips alone, split again by speaker and seed.

    A tenth of the clips is for validation, a tenth for testing, the rest for training; no speaker is in two splits.
    Runs with one seed have the same splits, so they can be compared in pairs; over the seeds every clip is held out
    at some time (repeated random sub-sampling, Monte Carlo cross-validation). Raises KwsError where a split has no
    clip of a word.
    """
    pool = [corpus.training, corpus.validation]
    waveforms = [row for split in pool for row in split.waveforms]  # views: of 3 GB of samples one copy is enough
    labels = torch.cat([split.labels for split in pool])
    clips = [clip for split in pool for clip in split.clips]
    speaker_of = [speaker for split in pool for speaker in split.speaker_of]
    rows_of: dict[str, list[int]] = {}
    for row, (clip, speaker) in enumerate(zip(clips, speaker_of, strict=True)):
        rows_of.setdefault(speaker or clip, []).append(row)
    speakers = sorted(rows_of)
    order = torch.randperm(len(speakers), generator=torch.Generator().manual_seed(seed)).tolist()
    rows_in: dict[str, list[int]] = {"testing": [], "validation": [], "training": []}
    for number in order:
        held_out = (name for name in ("testing", "validation") if len(rows_in[name]) < HELD_OUT * len(clips))
        rows_in[next(held_out, "training")] += rows_of[speakers[number]]
    splits: dict[str, Any] = {}
    for name, rows in rows_in.items():
        rows = sorted(rows)
        samples = torch.stack([waveforms[row] for row in rows])
        splits[name] = Split(samples, labels[rows], [clips[row] for row in rows], [speaker_of[row] for row in rows])
        for label, word in enumerate(words):
            if not (splits[name].labels == label).any():
                raise KwsError(
                    f"resplit: seed {seed} leaves no {name} clip of {word!r}; choose another seed or use more data"
                )
    noise = corpus.noise.clone()  # a view would keep the mapped samples of all clips in memory
    return replace(corpus, noise=noise, **splits)
