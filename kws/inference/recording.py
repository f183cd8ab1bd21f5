"""Recordings as people have them: files and pipes of any rate, length and channel count, read in blocks."""

import io
import os
import shlex
import stat
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from kws.data.audio import N_SAMPLES, RATES, SAMPLE_RATE, to_16k_mono
from kws.errors import KwsError
from kws.formatting import one_line

Samples = NDArray[np.float32]

BLOCK_S = 4
MAX_CHANNELS = 32
LARGEST = 2**28  # bytes of a pipe, or of a file with a wrong header, which are read into memory
STDIN = "-"
RAW = (".raw", ".pcm")  # samples without a header


def shown(file: str) -> str:
    """Return the name of a recording for messages."""
    return "standard input" if file == STDIN else one_line(file, 4096)


def read_blocks(file: str, notices: list[str], is_live: bool = False) -> Iterator[Samples]:
    """Yield a recording's samples (time,) at 16 kHz, mono, in blocks of at most 4 s. `-` is standard input.

    If `is_live`, standard input is a WAV file that is read as it comes: in blocks of 0.1 s, at other rates 1 s.
    Appends to `notices` what makes an answer less trustworthy. Raises KwsError, naming the file.
    """
    name = shown(file)
    try:
        with ExitStack() as opened:
            stream = opened.enter_context(_open(file))
            is_stream = is_live and file == STDIN
            source = stream.fileno() if is_stream else _checked(name, stream, notices)
            sound = opened.enter_context(soundfile.SoundFile(source, closefd=False))
            rate, channels = sound.samplerate, sound.channels
            if not RATES[0] <= rate <= RATES[1]:
                raise KwsError(f"{name}: has a sample rate of {rate} Hz, not {RATES[0]} to {RATES[1]}; resample it")
            if channels > MAX_CHANNELS:
                raise KwsError(f"{name}: has {channels} channels, at most {MAX_CHANNELS} are read; mix it down")
            if rate < SAMPLE_RATE:
                notices.append(f"has a sample rate of {rate} Hz, which lacks the frequencies above {rate // 2} Hz")
            n = BLOCK_S * rate if not is_stream else rate if rate != SAMPLE_RATE else rate // 10
            yield from _resampled(_mono(name, sound, n, notices), rate)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError) as error:
        if Path(file).suffix.lower() in RAW:
            raise KwsError(f"{name}: has no header that gives sample rate and format; {_conversion(file)}") from error
        reason = getattr(error, "strerror", None) or str(error).rpartition(": ")[2].strip().rstrip(".")
        stream_format = "pipe WAV, AU, AIFF or Ogg, as FLAC and MP3 cannot be read as they come: ffmpeg -i - -f wav -"
        advice = stream_format if is_live and file == STDIN else _conversion(file)
        raise KwsError(f"{name}: cannot be read as audio ({reason}); {advice}") from error


def _open(file: str) -> BinaryIO:
    """Return a file or pipe opened for reading. Raises KwsError if it is not there, or a folder."""
    if file == STDIN:
        if sys.stdin is None:
            raise KwsError("standard input: is closed; give a file or a pipe")
        return open(0, "rb", closefd=False)
    if os.path.isdir(file):
        raise KwsError(f"{shown(file)}: is a folder; give the files in it")
    if not os.path.exists(file):
        raise KwsError(f"{shown(file)}: does not exist; check the name")
    return open(file, "rb")


def _conversion(file: str) -> str:
    """Return what to do with a file that libsndfile cannot read."""
    if file == STDIN:
        return "pipe a WAV file, or convert it: ffmpeg -i - -f wav -"
    path = Path(file)
    target = path.with_suffix(".wav") if path.suffix.lower() != ".wav" else path.with_suffix(".converted.wav")
    names = one_line(f"{shlex.quote(str(path))} {shlex.quote(str(target))}", 4096)
    if path.suffix.lower() in RAW:
        return f"if you know them, add one: ffmpeg -f s16le -ar RATE -ac CHANNELS -i {names}"
    return f"if it is a recording, convert it: ffmpeg -i {names}"


def _checked(name: str, stream: BinaryIO, notices: list[str]) -> BinaryIO:
    """Return a seekable file; a WAV header whose lengths are wrong is corrected in memory.

    Recorders that are killed leave a length of zero, or that of their last update; programs that write into a pipe
    leave the largest number.
    """
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        content = stream.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise KwsError(f"{name}: is larger than {LARGEST >> 20} MiB, the limit for a pipe; give a file")
        stream = io.BytesIO(content)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(12)
    if size == 0:
        raise KwsError(f"{name}: is empty; replace it")
    start = 12
    while head[:4] + head[8:] == b"RIFFWAVE":
        chunk, length = _chunk(stream, start)
        if chunk == b"data":
            return _with_length(name, stream, notices, start + 8, length, size)
        if not chunk:
            break
        start += 8 + length + length % 2
    stream.seek(0)
    return stream


def _chunk(stream: BinaryIO, start: int) -> tuple[bytes, int]:
    """Return name and length of the RIFF chunk at `start`; an empty name if there is none."""
    stream.seek(start)
    head = stream.read(8)
    is_chunk = len(head) == 8 and all(32 <= character < 127 for character in head[:4])
    return (head[:4], int.from_bytes(head[4:], "little")) if is_chunk else (b"", 0)


def _with_length(name: str, stream: BinaryIO, notices: list[str], start: int, length: int, size: int) -> BinaryIO:
    """Return a WAV file whose samples begin at `start`, its `length` of them replaced if it is wrong."""
    rest = size - start
    after = start + length + length % 2
    follower, follower_length = _chunk(stream, after)
    stream.seek(0)
    if length > rest:
        if length < 0x7FFFF000:  # from there on it is a placeholder for an unknown length
            notices.append(f"is truncated: {rest / length:.0%} of its samples are there")
        return stream
    if size - after < 8 or (follower and after + 8 + follower_length <= size):
        return stream
    if size > LARGEST:
        raise KwsError(f"{name}: its header gives a wrong length; repair it: ffmpeg -ignore_length 1 -i IN.wav OUT.wav")
    notices.append("has a header with a wrong length; it is read to its end")
    content = bytearray(stream.read())
    content[4:8] = (size - 8).to_bytes(4, "little")
    content[start - 4 : start] = rest.to_bytes(4, "little")
    return io.BytesIO(content)


def _mono(name: str, sound: soundfile.SoundFile, length: int, notices: list[str]) -> Iterator[Samples]:
    """Yield blocks of `length` (the last one may be shorter), their channels mixed."""
    n_read = 0
    while len(block := _read_block(sound, length)):
        if not np.isfinite(block).all():
            raise KwsError(f"{name}: contains samples that are not finite numbers; convert it again")
        n_read += len(block)
        yield to_16k_mono(block, SAMPLE_RATE)
    if n_read == 0:
        raise KwsError(f"{name}: contains no samples; record it again")
    if sound.seekable() and n_read < sound.frames < 2**40:  # a stream's length is unknown
        notices.append(f"is truncated: {n_read / sound.frames:.0%} of its samples are there")


def _read_block(sound: soundfile.SoundFile, missing: int) -> Samples:
    """Return the next `missing` samples (time, channels); less at the end, and where a compressed file is damaged."""
    pieces: list[Samples] = []
    while missing:
        try:
            piece = sound.read(min(missing, sound.samplerate // 10), dtype="float32", always_2d=True)
        except soundfile.SoundFileError:
            if sound.tell() == 0:
                raise
            break
        if not len(piece):
            break
        pieces.append(piece)
        missing -= len(piece)
    return np.concatenate(pieces) if pieces else np.zeros((0, sound.channels), np.float32)


def _resampled(blocks: Iterator[Samples], rate: int) -> Iterator[Samples]:
    """Yield blocks at 16 kHz. Each is resampled with a second of its neighbours, so nothing is heard of the joins."""
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    nothing = np.zeros(0, np.float32)
    before, block = nothing, next(blocks, nothing)
    for after in chain(blocks, [nothing]):
        joined = np.concatenate([before[-rate:], block, after[:rate]])
        start = SAMPLE_RATE if len(before) else 0
        yield to_16k_mono(joined, rate)[start : start - (-len(block) * SAMPLE_RATE // rate)]
        before, block = block, after


def windows(blocks: Iterator[Samples], hop: int) -> Iterator[Samples]:
    """Yield (windows, 16000): a second every `hop` samples. The last one, or a shorter recording, is zero-padded."""
    rest, is_covered = np.zeros(0, np.float32), False
    for block in blocks:
        rest = np.concatenate([rest, block])
        n = (len(rest) - N_SAMPLES) // hop + 1
        if n > 0:
            yield np.lib.stride_tricks.sliding_window_view(rest, N_SAMPLES)[: n * hop : hop]
            rest = rest[n * hop :]
            is_covered = len(rest) == N_SAMPLES - hop
        else:
            is_covered = False
    if not is_covered:
        yield np.pad(rest, (0, N_SAMPLES - len(rest)))[None]
