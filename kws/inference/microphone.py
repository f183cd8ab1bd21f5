"""The microphone and the loudspeaker, through sounddevice."""

from collections.abc import Generator
from typing import Any

from kws.data.audio import SAMPLE_RATE
from kws.errors import KwsError
from kws.inference.recording import Samples

BLOCK = SAMPLE_RATE // 10


def _sounddevice() -> Any:
    """Return the module sounddevice. Raises KwsError if it cannot be imported."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the PortAudio library is missing
        how = "pip install 'kws[microphone]', and on Linux the system's package of PortAudio (libportaudio2)"
        raise KwsError(
            f"microphone: sounddevice is unavailable ({error}); {how}; kws listen also takes files"
        ) from error
    return sounddevice


def microphone() -> Generator[Samples]:
    """Yield blocks of 100 ms from the microphone until interrupted. Raises KwsError if there is none."""
    sounddevice = _sounddevice()
    try:
        with sounddevice.InputStream(SAMPLE_RATE, BLOCK, channels=1, dtype="float32") as stream:
            while True:
                yield stream.read(BLOCK)[0][:, 0].copy()
    except sounddevice.PortAudioError as error:
        raise KwsError(f"microphone: cannot be opened ({error}); connect one; kws listen also takes files") from error


def play(samples: Samples) -> str:
    """Play samples (time,) at 16 kHz, and return why that was not possible, "" if it was."""
    sounddevice = _sounddevice()
    try:
        sounddevice.play(samples, SAMPLE_RATE, blocking=True)
    except sounddevice.PortAudioError as error:
        return f"cannot be played ({error})"
    return ""
