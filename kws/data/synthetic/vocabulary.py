"""Words that are no keywords, for training the label _unknown_ with synthetic speech."""

import random
from collections.abc import Sequence
from difflib import SequenceMatcher
from importlib.resources import files

from kws.data.synthetic.espeak import Espeak
from kws.errors import KwsError

NEAR_SHARE = 0.5  # of the chosen words: those that sound most like a keyword; the rest are drawn at random
# Common English words of one to three syllables. None is a word of Speech Commands: those are the unknown words of its
# test set, which should be new to a model.
WORDS = files("kws.data.synthetic").joinpath("words.txt").read_text(encoding="utf-8").split()


def unknown_words(keywords: Sequence[str], number: int) -> list[str]:
    """Return `number` words to train _unknown_ with, sorted: half of them sound like a keyword, the others are random.

    Words that sound the same as a keyword are left out: a model cannot tell "know" from "no". The same arguments give
    the same words. Raises KwsError if there are not so many words.
    """
    espeak = Espeak()
    sounds = {word: espeak.phonemes(word) for word in {*keywords, *WORDS}}
    keyword_sounds = {sounds[word] for word in keywords}
    words = [word for word in WORDS if sounds[word] not in keyword_sounds]
    if not 2 <= number <= len(words):
        raise KwsError(f"--unknown_words: is {number}; choose 2 to {len(words)}")

    def likeness(word: str) -> float:
        return max(SequenceMatcher(None, sounds[word], sound, autojunk=False).ratio() for sound in keyword_sounds)

    near = sorted(words, key=lambda word: (-likeness(word), word))[: round(NEAR_SHARE * number)]
    rest = sorted({*words} - {*near})
    return sorted(near + random.Random(0).sample(rest, number - len(near)))
