"""Stands in for sounddevice, which needs an audio device.

Its microphone hears the array in KWS_TEST_SOUND, once, whichever stream reads it; what is played is added to the file
KWS_TEST_PLAYED. Without these variables there is no such device.
"""

import os

import numpy as np

given = 0  # samples


class PortAudioError(Exception):
    pass


class InputStream:
    def __init__(self, samplerate=None, blocksize=None, device=None, channels=None, dtype=None):
        if "KWS_TEST_SOUND" not in os.environ:
            raise PortAudioError("Error querying device -1")
        assert (samplerate, channels, dtype) == (16000, 1, "float32")
        self.sound = np.load(os.environ["KWS_TEST_SOUND"]).astype(dtype)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def read(self, frames):
        global given
        given += frames
        if given > len(self.sound):
            given = 0
            raise KeyboardInterrupt  # as the person does who has said everything
        return self.sound[given - frames : given, None], False


def play(data, samplerate=None, mapping=None, blocking=False, loop=False):
    if "KWS_TEST_PLAYED" not in os.environ:
        raise PortAudioError("Error querying device -1")
    assert samplerate == 16000 and blocking
    with open(os.environ["KWS_TEST_PLAYED"], "ab") as file:
        file.write(np.asarray(data, np.float32).tobytes())
