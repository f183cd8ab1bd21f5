"""espeak-ng's speech synthesis, called through ctypes from the wheel `espeakng-loader`.

espeak-ng is GPL-3.0 and optional: the library is loaded only while a corpus is generated. The calls are those of its
public header, speak_lib.h.
"""

import ctypes
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError

_REINSTALL = "pip install --force-reinstall espeakng-loader"
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_CHARS_UTF8 = 1
_IPA = 2
_SEPARATED = ord("_") << 8  # phonemes, by this character
_STRESS = str.maketrans("", "", "\u02c8\u02cc")  # marks of primary and secondary stress
_RATE, _PITCH, _RANGE = 1, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def variants() -> list[str]:
    """Return the names of espeak-ng's voice variants, sorted; each works with any language. Raises KwsError."""
    return sorted(path.name for path in Path(_loader().get_data_path(), "voices", "!v").iterdir())


class Espeak:
    """The one synthesiser of a process.

    Its sound depends a little on what it synthesized before (flutter, breath noise): the same samples need the same
    calls in the same order in a fresh process.

    Raises KwsError where the wheel is missing or its library does not load.
    """

    def __init__(self) -> None:
        loader = _loader()
        try:
            self._library = ctypes.CDLL(loader.get_library_path())
        except OSError as error:
            raise KwsError(f"espeak-ng's library does not load ({error}): {_REINSTALL}") from None
        data = loader.get_data_path()
        rate = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, data.encode(), 0)
        if rate <= 0:
            raise KwsError(f"espeak-ng does not start with its data {data}: {_REINSTALL}")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # its default is the clock
        self.sample_rate: int = rate
        self._chunks: list[NDArray[np.int16]] = []
        self._callback = _CALLBACK(self._receive)  # an attribute, as ctypes frees a callback without references
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_Info.restype = ctypes.c_char_p
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.version: str = self._library.espeak_Info(None).decode()

    def _receive(self, samples: Any, count: int, _events: object) -> int:
        if samples and count:
            self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0

    def synthesize(
        self, voice: str, text: str, rate: float, pitch: float, pitch_range: float = 50
    ) -> NDArray[np.int16]:
        """Return `text` as speech: int16 samples at `sample_rate` (22,050 Hz), shape (n_samples,).

        `voice` is a language, or LANGUAGE+VARIANT; rate is in words per minute (80 to 450), pitch and pitch_range
        are 0 to 100. Raises ValueError on an unknown voice.
        """
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._library.espeak_SetParameter(parameter, int(value), 0)
        encoded = text.encode()
        self._chunks.clear()
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.concatenate(self._chunks) if self._chunks else np.zeros(0, np.int16)

    def phonemes(self, text: str) -> tuple[str, ...]:
        """Return the phonemes of American English `text` in the International Phonetic Alphabet, without stress.

        A diphthong is one phoneme: those of "no" are n and oʊ.
        """
        self._library.espeak_SetVoiceByName(b"en-us")
        pointer = ctypes.c_char_p(text.encode())
        found: bytes = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _CHARS_UTF8, _IPA | _SEPARATED)
        return tuple(filter(None, found.decode().translate(_STRESS).split("_")))


def _loader() -> ModuleType:
    try:
        return importlib.import_module("espeakng_loader")
    except ImportError:
        raise KwsError("espeak-ng for the synthetic corpus is not installed: pip install espeakng-loader") from None
