"""The speakers dealt anew: what a recipe is worth on all speakers but the test list's, which stays unread."""

import torch

from kws.data.corpus import Corpus, Split
from kws.data.layout import speaker
from kws.errors import KwsError

HELD_OUT = 0.1  # of the clips to validate on, and as many to test on


def resplit(corpus, words, seed):
    """Return a Corpus made of `corpus`' training and validation clips alone, its splits dealt by speaker and seed.

    A tenth of the clips validates, another tenth tests, the rest trains; no speaker is in two splits. Runs of one seed
    get the same splits, so they compare in pairs; over the seeds every clip is held out some time (repeated random
    sub-sampling, Monte Carlo cross-validation). Raises KwsError where a split would lack a word.
    """
    pool = [corpus.training, corpus.validation]
    padded = torch.cat([split.padded for split in pool])
    labels = torch.cat([split.labels for split in pool])
    clips = [clip for split in pool for clip in split.clips]
    rows_of = {}
    for row, clip in enumerate(clips):
        rows_of.setdefault(speaker(clip), []).append(row)
    speakers = sorted(rows_of)
    order = torch.randperm(len(speakers), generator=torch.Generator().manual_seed(seed)).tolist()
    dealt = {"testing": [], "validation": [], "training": []}
    for rows in (rows_of[speakers[place]] for place in order):
        to = next((name for name in ("testing", "validation") if len(dealt[name]) < HELD_OUT * len(clips)), "training")
        dealt[to] += rows
    splits = {}
    for name, rows in dealt.items():
        rows = sorted(rows)
        splits[name] = Split(padded[rows], labels[rows], [clips[row] for row in rows])
        for label, word in enumerate(words):
            if not (splits[name].labels == label).any():
                raise KwsError(
                    f"resplit: seed {seed} leaves no {name} clip of {word!r}; take another seed or more data"
                )
    return Corpus(**splits, noise=corpus.noise, fingerprint=corpus.fingerprint, folder=corpus.folder)
