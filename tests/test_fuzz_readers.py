"""Bytes of unknown origin: whatever is done to a clip or an archive, its reader reads it or says one line."""

import gzip
import io
import re
import tarfile

import numpy as np
import pytest
import soundfile
from doubles.archive_server import add, wav
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kws.data.archive import LARGEST_MEMBER, Archive, members
from kws.data.audio import read_clip
from kws.errors import KwsError
from kws.inference.recording import read_blocks

CLIP = wav(1000, 0)
FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# Values that headers get wrong: signs, extremes, numbers in another form, names of other parts.
NASTY = st.sampled_from([
    b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x80", b"\x80" + b"\xff" * 11, b"-1 ", b"999", b"\n", b"=", b"../",
    b"LIST\xff\xff\xff\x7f", b"data\0\0\0\0", b"fmt \x10\0\0\0", b"size=-9\n", b"K", b"L", b"x", b"g", b"S", b"1", b"2",
])  # fmt: skip
EDITS = st.lists(
    st.tuples(st.sampled_from(["replace", "insert", "delete"]), st.integers(0, 600), NASTY | st.binary(max_size=12)),
    max_size=6,
)


def edited(data, edits, first=0):
    """Return `data` with the edits done at their places after `first`."""
    data = bytearray(data)
    for kind, place, value in edits:
        place += first
        end = place if kind == "insert" else place + len(value)
        data[place:end] = b"" if kind == "delete" else value
    return bytes(data)


def one_line(error):
    return "\n" not in str(error) and str(error).isprintable()


@FUZZ
@given(edits=EDITS, length=st.integers(0, len(CLIP)) | st.none())
def test_an_edited_clip_is_read_or_named(tmp_path, edits, length):
    path = tmp_path / "clip.wav"
    path.write_bytes(edited(CLIP, edits)[:length])
    try:
        samples = read_clip(str(path))
    except KwsError as error:
        assert str(error).startswith(f"{path}: ") and one_line(error)
    else:
        assert samples.dtype == "int16" and samples.ndim == 1 and 0 < len(samples) <= 16000


@FUZZ
@given(edits=EDITS, length=st.integers(0, len(CLIP)) | st.none())
def test_an_edited_recording_is_read_or_named(tmp_path, edits, length):
    path = tmp_path / "recording.wav"
    path.write_bytes(edited(CLIP, edits)[:length])
    notices = []
    try:
        samples = np.concatenate(list(read_blocks(str(path), notices)))
    except KwsError as error:
        assert str(error).startswith(f"{path}: ") and one_line(error)
    else:
        assert samples.dtype == "float32" and samples.ndim == 1 and len(samples) and all(map(one_line, notices))


@pytest.mark.parametrize("form", ["FLAC", "OGG", "AIFF", "W64", "CAF", "RF64"])
def test_other_formats_are_no_wav_files_whatever_their_name(tmp_path, form):
    # libsndfile knows them all; one edited W64 header announced 128 GiB of samples.
    path = tmp_path / "clip.wav"
    soundfile.write(path, [0.0] * 1000, 16000, format=form)
    with pytest.raises(KwsError, match="cannot be read as a WAV file"):
        read_clip(str(path))


def archive(form):
    """Return an unpacked archive with every kind of header that the format has: plain, long names, extended."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        add(tar, "./yes", type=tarfile.DIRTYPE)
        add(tar, "./yes/00000000_nohash_0.wav", CLIP[:700])
        if form != tarfile.USTAR_FORMAT:
            add(tar, "./no/" + 40 * "long" + ".wav", CLIP[:100])
        add(tar, "./no/sparse.wav", b"1\n0\n3\n" + bytes(600), pax_headers={"GNU.sparse.major": "1", "comment": "é"})
        add(tar, "./no/sized.wav", b"abc", pax_headers={"size": "3", "mtime": "1.5"})
        add(tar, "./testing_list.txt", b"yes/00000000_nohash_0.wav\n")
    return buffer.getvalue()


ARCHIVES = [archive(form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
STARTS = [[n for n in range(0, len(data), 512) if data[n + 257 : n + 262] == b"ustar"] for data in ARCHIVES]


def with_true_checksum(data, start):
    """Return `data` with the checksum of the header at `start` made right again, so that the header is believed."""
    data = bytearray(data)
    data[start + 148 : start + 156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + 512])
    return bytes(data)


def read(packed):
    """Read an archive to its end: nothing larger, longer or elsewhere than allowed may come out of it."""
    try:
        for path, content in members(
            Archive(((data, None) for data in [packed] if data), "a.tar.gz"), re.compile(".*", re.DOTALL)
        ):
            assert not path.is_absolute() and ".." not in path.parts
            assert content is None or len(content) <= LARGEST_MEMBER
    except KwsError as error:
        assert str(error).startswith("a.tar.gz: ") and one_line(error)


@FUZZ
@given(data=st.data(), form=st.integers(0, 2), edits=EDITS)
def test_an_archive_with_an_edited_header_is_read_or_refused(data, form, edits):
    start = data.draw(st.sampled_from(STARTS[form]))
    unpacked = edited(ARCHIVES[form], [edit for edit in edits if edit[0] == "replace"], first=start)
    read(gzip.compress(with_true_checksum(unpacked, start), 1))


@FUZZ
@given(form=st.integers(0, 2), edits=EDITS, packed_edits=EDITS, length=st.integers(0, 2000) | st.none())
def test_an_edited_archive_is_read_or_refused(form, edits, packed_edits, length):
    packed = gzip.compress(edited(ARCHIVES[form], edits, first=512), 1)
    read(edited(packed, packed_edits)[:length])
