"""Stands in for sounddevice, which needs an audio device: a microphone that hears the array in KWS_TEST_SOUND, once."""

import os

import numpy as np


class PortAudioError(Exception):
    pass


class InputStream:
    def __init__(self, samplerate, blocksize, channels, dtype):
        if "KWS_TEST_SOUND" not in os.environ:
            raise PortAudioError("Error querying device -1")
        assert (samplerate, channels, dtype) == (16000, 1, "float32")
        self.sound, self.position = np.load(os.environ["KWS_TEST_SOUND"]).astype(dtype), 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def read(self, n):
        self.position += n
        if self.position > len(self.sound):
            raise KeyboardInterrupt  # as the person does who has said everything
        return self.sound[self.position - n : self.position, None], False
