"""Downloading the full data set: an archive in the true layout, served over loopback with and without faults."""

import gzip
import json
import os
import random
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from doubles.archive_server import ArchiveServer, add, files, pack, sha256, wav

from kws.data import archive
from kws.data.fetch import fetch, fetch_test_set
from kws.data.layout import CLIPS, FOLDERS, LIST_LINES, check_complete
from kws.errors import KwsError

FOLDER = f"SpeechCommands/{FOLDERS['speech_commands']}"
FILES = files()
BODY = pack(FILES)
HASH = sha256(BODY)
PAUSES = (0.01, 0.01)
KEPT = {path for path in FILES if not path.startswith("right/") and path != "_background_noise_/README.md"}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def get(root, server, words=("no", "yes"), **options):
    return fetch(root, words, url=server.url, **({"sha256": HASH, "pauses": PAUSES} | options))


def found(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def assert_complete(folder, words=("no", "yes")):
    check_complete(folder, words)
    kept = {path for path in FILES if path.split("/")[0] in words or path in KEPT}
    assert found(folder) == kept | {".kws-complete"}
    assert all((folder / path).read_bytes() == FILES[path] for path in kept)
    marker = json.loads((folder / ".kws-complete").read_text())
    assert marker == {"words": sorted(words), "clips": dict.fromkeys(sorted(words), 12), "sha256": HASH}
    assert siblings(folder) == {folder.name, f".{folder.name}.lock"}


def assert_nothing(root):
    assert siblings(root / FOLDER) <= {".speech_commands_v0.02.lock"}


def siblings(folder):
    return {path.name for path in folder.parent.iterdir()} if folder.parent.exists() else set()


def error_of(call, *arguments, **options):
    """Return the one-line message of the KwsError that a call raises."""
    with pytest.raises(KwsError) as caught:
        call(*arguments, **options)
    line = str(caught.value)
    assert "\n" not in line and len(line) > 20
    return line


# Without faults


def test_fetch_stores_the_chosen_words_and_reports_progress(tmp_path):
    reports = []
    with ArchiveServer(BODY) as server:
        folder = get(tmp_path, server, progress=lambda done, total: reports.append((done, total)))
        assert folder == tmp_path / FOLDER
        assert_complete(folder)
        assert reports == sorted(reports) and reports[-1][1] == len(BODY) and reports[-1][0] > len(BODY) / 2
        assert get(tmp_path, server) == folder
        assert server.requests == [None], "a complete folder is not downloaded again"


def test_words_added_later_are_stored_with_the_old_ones(tmp_path):
    with ArchiveServer(BODY) as server:
        folder = get(tmp_path, server)
        line = error_of(check_complete, folder, ("right", "yes"))
        assert line.endswith(f"it has no, yes, not right; run: kws data --root {tmp_path} --words=right,yes")
        assert_complete(get(tmp_path, server, words=("right", "yes")), words=("no", "right", "yes"))
        assert len(server.requests) == 2


def test_a_local_archive_needs_no_network(tmp_path):
    archive = tmp_path / "with space é.tar.gz"
    archive.write_bytes(BODY)
    with ArchiveServer(BODY) as server:
        assert_complete(get(tmp_path / "dir with space", server, archive=archive))
        assert server.requests == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: None,
            "cannot be read (No such file or directory); give the path of speech_commands_v0.02.tar.gz",
        ),
        (
            lambda path: path.mkdir(),
            "cannot be read (Is a directory); give the path of speech_commands_v0.02.tar.gz",
        ),
        (
            lambda path: path.write_bytes(b""),
            "is a damaged archive (empty file); nothing was stored, download it again",
        ),
        (
            lambda path: path.write_text("<html>log in to the network first</html>"),
            "is a damaged archive (Not a gzipped file (b'<h')); nothing was stored, download it again",
        ),
    ],
    ids=["absent", "folder", "empty", "web page"],
)
def test_a_local_file_that_is_not_an_archive(tmp_path, make, message):
    archive = tmp_path / "a.tar.gz"
    make(archive)
    root = tmp_path / "root"
    assert error_of(fetch, root, ("no", "yes"), archive=archive) == f"{archive}: {message}"
    if archive.is_file():
        assert_nothing(root)
    else:
        assert not root.exists()  # a wrong path is reported before anything is created


def test_the_official_test_set_is_installed_like_the_full_set(tmp_path):
    names = ("yes/a1_nohash_0.wav", "_silence_/0.wav", "_unknown_/bird_a1_nohash_0.wav.wav")
    clips = {name: wav(2000, name) for name in names}
    body = pack(clips | {"LICENSE": b"CC BY 4.0", "right/deeper/a1_nohash_0.wav": wav(2000, 6)})
    with ArchiveServer(body) as server:
        options = {"url": server.url, "pauses": ()}
        wrong = error_of(fetch_test_set, tmp_path, sha256="0" * 64, **options)
        assert "is not speech_commands_test_set_v0.02.tar.gz (sha256 is " in wrong
        folder = fetch_test_set(tmp_path, sha256=sha256(body), **options)
        requests = len(server.requests)
        assert fetch_test_set(tmp_path, sha256=sha256(body), **options) == folder  # nothing is downloaded again
        assert len(server.requests) == requests
    assert folder == tmp_path / "SpeechCommands" / "speech_commands_test_set_v0.02"
    stored = {path.relative_to(folder).as_posix() for path in folder.rglob("*.wav")}
    assert stored == {*names} and (folder / "LICENSE").is_file()


def test_the_hash_covers_the_file_beyond_the_last_member(tmp_path):
    tail = gzip.compress(random.Random(3).randbytes(300_000), 1)
    with ArchiveServer(BODY + tail) as server:
        get(tmp_path / "right", server, sha256=sha256(BODY + tail))
        error_of(get, tmp_path / "wrong", server, sha256=sha256(BODY))
        assert_nothing(tmp_path / "wrong")


def test_unknown_words_are_errors(tmp_path):
    line = error_of(fetch, tmp_path, ("no", "yess"), url="http://127.0.0.1:9/")
    assert line == "words: Speech Commands has no 'yess'; did you mean yes?"


# Servers with faults


@pytest.mark.parametrize("ranges", [True, False], ids=["range", "no range"])
@pytest.mark.parametrize("etag", ['"1"', 'W/"1"', ""], ids=["etag", "weak etag", "no etag"])
def test_a_broken_connection_is_resumed(tmp_path, ranges, etag):
    # Without ranges each attempt starts over, so it has to come further than the one before.
    breaks = [50_000, 0, 40_000, 1] if ranges else [50_000, 0, 90_000, 90_001]
    with ArchiveServer(BODY, breaks, etags=[etag], ranges=ranges) as server:
        assert_complete(get(tmp_path, server))
        places = [50_000, 50_000, 90_000, 90_001]
        assert server.requests == [None, *(f"bytes={place}-" for place in places)]
        # A weak tag does not promise the same bytes, so no part may be asked for on its strength.
        assert server.conditions == [None] + 4 * [etag if etag.startswith('"') else None]


def test_a_break_at_any_byte_gives_the_same_files(tmp_path):
    for place in random.Random(1).sample(range(len(BODY)), 8):
        with ArchiveServer(BODY, [place]) as server:
            assert_complete(get(tmp_path / str(place), server))


def test_retrying_ends_without_new_bytes(tmp_path):
    with ArchiveServer(BODY, [50_000, 0, 0, 0]) as server:
        line = error_of(get, tmp_path, server)
        assert line == (
            f"{server.url}: failed 3 times at byte 50,000 (the connection ended at byte 50,000 of {len(BODY):,}); "
            "try again later, or give the archive with --archive FILE, or work without it: kws data --synthetic"
        )
        assert_nothing(tmp_path)
        assert_complete(get(tmp_path, server))


def test_a_silent_server_is_asked_again_after_the_timeout(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "TIMEOUT_S", 1)
    with ArchiveServer(BODY, [70_000], stalls=30) as server:
        assert_complete(get(tmp_path, server))
        assert server.requests == [None, "bytes=70000-"]


def test_a_slow_server_is_waited_for(tmp_path):
    with ArchiveServer(BODY, delay_s=0.02) as server:
        assert_complete(get(tmp_path, server))
        assert server.requests == [None]


def test_a_busy_server_is_asked_again(tmp_path):
    with ArchiveServer(BODY, statuses=[503, 429]) as server:
        assert_complete(get(tmp_path, server))
    with ArchiveServer(BODY, statuses=[503] * 3) as server:
        line = error_of(get, tmp_path / "busy", server)
        assert "failed 3 times at byte 0 (the server answers 503 Service Unavailable)" in line
        assert_nothing(tmp_path / "busy")


@pytest.mark.parametrize(
    ("status", "name"), [(404, "Not Found"), (403, "Forbidden"), (407, "Proxy Authentication Required")]
)
def test_a_final_http_error_is_not_retried(tmp_path, status, name):
    with ArchiveServer(BODY, statuses=[status]) as server:
        line = error_of(get, tmp_path, server)
        assert line == (
            f"{server.url}: the server answers {status} {name}; "
            "give the archive with --archive FILE, or work without it: kws data --synthetic"
        )
        assert server.requests == [None]
        assert_nothing(tmp_path)


def test_a_file_that_changes_on_the_server_is_an_error(tmp_path):
    with ArchiveServer(BODY, [50_000], etags=['"1"', '"2"']) as server:
        assert "changed on the server during the download; start again" in error_of(get, tmp_path, server)
        assert_nothing(tmp_path)


def test_a_server_that_announces_too_many_bytes_is_an_error(tmp_path):
    with ArchiveServer(BODY, announced=len(BODY) + 5000) as server:
        line = error_of(get, tmp_path, server)
        assert f"ends at byte {len(BODY):,}, but {len(BODY) + 5000:,} were announced; try again later" in line
        assert_nothing(tmp_path)


def test_a_server_that_announces_too_few_bytes_is_an_error(tmp_path):
    with ArchiveServer(BODY, announced=len(BODY) - 5000) as server:
        line = error_of(get, tmp_path, server)
        assert line.startswith(f"{server.url}: is a damaged archive (Compressed file ended before")
        assert_nothing(tmp_path)


def test_another_archive_is_an_error(tmp_path):
    other = pack(FILES | {"yes/00000000_nohash_0.wav": wav(2000, "other")})
    with ArchiveServer(other) as server:
        line = error_of(get, tmp_path, server)
        assert line == (
            f"{server.url}: is not speech_commands_v0.02.tar.gz (sha256 is {sha256(other)}, not {HASH}); "
            "nothing was stored, download it again"
        )
        assert_nothing(tmp_path)


def test_a_corrupt_byte_is_never_stored(tmp_path):
    for place in random.Random(2).sample(range(len(BODY)), 20):
        body = BODY[:place] + bytes([BODY[place] ^ 0x41]) + BODY[place + 1 :]
        with ArchiveServer(body) as server:
            error_of(get, tmp_path, server)
            assert_nothing(tmp_path)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.999])
def test_a_truncated_archive_is_an_error_even_with_its_own_hash(tmp_path, share):
    body = BODY[: int(share * len(BODY))]
    with ArchiveServer(body) as server:
        assert "is a damaged archive (" in error_of(get, tmp_path, server, sha256=sha256(body))
        assert_nothing(tmp_path)


@pytest.mark.parametrize("absent", ["yes/", "yes/00000002_", "_background_noise_/", "testing_list.txt"])
def test_an_incomplete_archive_is_an_error_even_with_its_own_hash(tmp_path, absent):
    body = pack({path: data for path, data in FILES.items() if not path.startswith(absent)})
    with ArchiveServer(body) as server:
        assert ": is incomplete (" in error_of(get, tmp_path, server, sha256=sha256(body))
        assert_nothing(tmp_path)


def test_an_unreachable_server_is_an_error(tmp_path):
    with ArchiveServer(BODY) as server:
        closed = server.url
    line = error_of(fetch, tmp_path, ("no", "yes"), url=closed)
    assert line == (
        "127.0.0.1: cannot be reached (Connection refused); check the network, "
        "give the archive with --archive FILE, or work without it: kws data --synthetic"
    )
    assert_nothing(tmp_path)


@pytest.mark.parametrize("url", ["ftp://a/b", "file:///etc/passwd", "speech.tar.gz", "http://"])
def test_addresses_that_are_not_http_are_errors(tmp_path, url):
    line = error_of(fetch, tmp_path, ("no", "yes"), url=url)
    assert line == f"{url}: is not an http or https address; for a local file use --archive FILE"


def test_a_server_without_tls_is_an_error(tmp_path):
    with ArchiveServer(BODY) as server:
        line = error_of(fetch, tmp_path, ("no", "yes"), url=server.url.replace("http:", "https:"))
        assert line.startswith("127.0.0.1: no secure connection (") and "SSL_CERT_FILE" in line
        assert_nothing(tmp_path)


def test_a_certificate_that_is_not_trusted_is_an_error(tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ArchiveServer(BODY) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        line = error_of(fetch, tmp_path / "data", ("no", "yes"), url=server.url.replace("http:", "https:"))
    assert line.startswith("127.0.0.1: no secure connection (") and "certificate" in line
    assert_nothing(tmp_path / "data")


# Hostile archives


def huge_header(tar):
    """Append an extended header that announces a name of 4 GiB: tarfile would read them into memory."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 2**32
    tar.fileobj.write(member.tobuf())


def nested_headers(tar):
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 4
    for _ in range(2000):
        tar.fileobj.write(member.tobuf() + b"abc\0" + bytes(508))


HOSTILE = {
    "parent": (
        lambda tar: add(tar, "../evil.wav", b"x"),
        "has '../evil.wav', a path outside the folder",
    ),
    "deep parent": (lambda tar: add(tar, "./yes/../../evil.wav", b"x"), "a path outside the folder"),
    "absolute": (lambda tar: add(tar, "/tmp/kws-evil.wav", b"x"), "a path outside the folder"),
    "backslash": (lambda tar: add(tar, "yes\\..\\..\\evil.wav", b"x"), "a path outside the folder"),
    "symlink": (
        lambda tar: add(tar, "./yes/99999999_nohash_0.wav", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "has './yes/99999999_nohash_0.wav', a link or a device",
    ),
    "symlinked folder": (
        lambda tar: add(tar, "./right", type=tarfile.SYMTYPE, linkname="/tmp"),
        "a link or a device",
    ),
    "hard link": (
        lambda tar: add(tar, "./a.wav", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        "a link or a device",
    ),
    "character device": (
        lambda tar: add(tar, "./yes/zero", type=tarfile.CHRTYPE, devmajor=1, devminor=5),
        "a device",
    ),
    "block device": (
        lambda tar: add(tar, "./yes/disk", type=tarfile.BLKTYPE, devmajor=8),
        "a link or a device",
    ),
    "pipe": (lambda tar: add(tar, "./yes/pipe", type=tarfile.FIFOTYPE), "a link or a device"),
    "large clip": (
        lambda tar: add(tar, "./yes/a.wav", bytes(10_000_001)),
        "has './yes/a.wav' of 10,000,001 bytes",
    ),
    "huge declared size": (
        lambda tar: add(tar, "./yes/a.wav", size=2**60),
        "has './yes/a.wav' of 1,152,921,504,",
    ),
    "negative size": (lambda tar: add(tar, "./yes/a.wav", size=-(2**40)), "of -1,099,511,627,776 bytes"),
    "huge header": (huge_header, "is a damaged archive (a header of 4,294,967,296 bytes)"),
    "nested headers": (nested_headers, "is a damaged archive (maximum recursion depth exceeded"),
    "sparse": (lambda tar: add(tar, "./yes/a.wav", type=tarfile.GNUTYPE_SPARSE), "a link or a device"),
    "twice": (
        lambda tar: add(tar, "yes/00000000_nohash_0.wav", b"x"),
        "has yes/00000000_nohash_0.wav twice",
    ),
    "terminal codes": (
        lambda tar: add(tar, "../\x1b]0;evil\x07\nkws: ok", b"x"),
        "has '../ ]0;evil  kws: ok'",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_members_are_errors_even_with_the_right_hash(tmp_path, kind):
    extra, message = HOSTILE[kind]
    body = pack(FILES, extra)
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(body)
    root = tmp_path / "deep" / "data"
    line = error_of(fetch, root, ("no", "yes"), archive=archive, sha256=sha256(body))
    assert line.startswith(f"{archive}: ") and message in line and line.isprintable()
    assert_nothing(root)
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "deep"} and not Path("/tmp/kws-evil.wav").exists()


def test_more_members_than_the_bound_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_MEMBERS", len(FILES))  # the archive has its folders in addition
    with ArchiveServer(BODY) as server:
        assert "has more files or bytes than Speech Commands does" in error_of(get, tmp_path, server)
    assert_nothing(tmp_path)


def test_more_bytes_than_the_words_have_are_an_error(tmp_path):
    def extra(tar):
        for n in range(13):
            add(tar, f"./follow/{n:08x}_nohash_0.wav", bytes(9_900_000))

    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(pack({}, extra))
    line = error_of(fetch, tmp_path, ("follow", "forward"), archive=archive)
    assert line == (f"{archive}: has more of follow, forward than Speech Commands does; do not trust this archive")
    assert_nothing(tmp_path)


# Folders that exist already


@pytest.fixture
def placed(tmp_path):
    """Return a folder that fetch did not make, with every file of the archive."""
    for path, data in FILES.items():
        (tmp_path / FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / FOLDER / path).write_bytes(data)
    return tmp_path / FOLDER


def test_a_folder_made_by_others_is_used_unchanged(placed):
    before = {path: os.stat(placed / path).st_mtime_ns for path in found(placed)}
    assert fetch(placed.parents[1], ("no", "yes"), url="http://127.0.0.1:9/") == placed
    assert {path: os.stat(placed / path).st_mtime_ns for path in found(placed)} == before


DAMAGE = {
    "there is no validation_list.txt": lambda folder: (folder / "validation_list.txt").unlink(),
    "there is no testing_list.txt": lambda folder: (folder / "testing_list.txt").unlink(),
    "there is no clip of 'yes'": lambda folder: shutil.rmtree(folder / "yes"),
    "2 listed clips are missing, such as no/00000002_nohash_0.wav": lambda folder: [
        (folder / f"no/{n:08x}_nohash_0.wav").unlink() for n in (2, 3)
    ],
    "1 clips of 'no' are empty, such as 00000007_nohash_0.wav": lambda folder: os.truncate(
        folder / "no/00000007_nohash_0.wav", 0
    ),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_an_incomplete_folder_made_by_others_is_reported_and_unchanged(placed, message):
    DAMAGE[message](placed)
    left = found(placed)
    line = error_of(fetch, placed.parents[1], ("no", "yes"), url="http://127.0.0.1:9/")
    root = placed.parents[1]
    assert line == (
        f"data: {placed} is incomplete: {message}; run: mv {placed} {placed}.incomplete && kws data --root {root}"
    )
    assert found(placed) == left
    # The suggested command fixes it.
    subprocess.run(["mv", placed, f"{placed}.incomplete"], check=True)
    with ArchiveServer(BODY) as server:
        get(root, server)


@pytest.mark.parametrize("message", [*DAMAGE, "'no' has 11 clips of 12", ".kws-complete is damaged"])
def test_a_damaged_folder_made_by_fetch_is_replaced(tmp_path, message):
    damage = DAMAGE | {
        "'no' has 11 clips of 12": lambda folder: (folder / "no/0000000b_nohash_0.wav").unlink(),
        ".kws-complete is damaged": lambda folder: os.truncate(folder / ".kws-complete", 20),
    }
    with ArchiveServer(BODY) as server:
        folder = get(tmp_path, server)
        damage[message](folder)
        line = error_of(check_complete, folder, ("no", "yes"))
        assert line == f"data: {folder} is incomplete: {message}; run: kws data --root {tmp_path}"
        assert_complete(get(tmp_path, server))


@pytest.mark.parametrize(
    ("path", "named"), [("да/1.wav", "да"), ("yes/anna_1.wav", "more clips of yes"), ("a.txt", "a.txt")]
)
def test_a_folder_with_the_users_own_files_is_not_replaced(tmp_path, path, named):
    with ArchiveServer(BODY) as server:
        folder = get(tmp_path, server)
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(FILES["yes/00000000_nohash_0.wav"])
        line = error_of(get, tmp_path, server, words=("right", "yes"))
        assert line == f"{folder}: has {named}, which would be removed; move them to another folder first"
        assert (folder / path).exists() and len(server.requests) == 1
        check_complete(folder, ("no", "yes"))  # it can be trained on


def test_the_suggested_command_uses_torchaudios_archive(placed):
    root = placed.parents[1]
    (root / "speech_commands_v0.02.tar.gz").write_bytes(BODY)
    shutil.rmtree(placed / "no")
    line = error_of(check_complete, placed, ("no", "yes"))
    assert line.endswith(f"&& kws data --root {root} --archive {root}/speech_commands_v0.02.tar.gz")


def test_the_full_sets_lists_require_the_full_sets_clips(tmp_path):
    """An extraction that ended after the listed clips: only the known number of clips shows it."""
    folder = tmp_path / FOLDER
    names = {word: [f"{word}/{n:08x}_nohash_0.wav" for n in range(CLIPS[word])] for word in ("no", "yes", "up")}
    for name in names["no"] + names["yes"] + ["_background_noise_/white_noise.wav"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(bytes(46))
    for name, lines, part in zip(("validation_list.txt", "testing_list.txt"), LIST_LINES, (0, 1), strict=True):
        listed = [line for word in ("no", "yes") for line in names[word][part::8]]
        filler = [f"zero/{n:08x}_nohash_0.wav" for n in range(lines - len(listed))]
        (folder / name).write_text("\n".join(listed + filler) + "\n")
    assert sum(CLIPS.values()) == 105_829
    check_complete(folder, ("no", "yes"))
    (folder / names["no"][7]).unlink()
    assert "'no' has 3,940 clips of 3,941" in error_of(check_complete, folder, ("no", "yes"))
    (folder / names["no"][7]).write_bytes(bytes(46))
    shutil.rmtree(folder / "_background_noise_")
    assert "there is no recording in _background_noise_" in error_of(check_complete, folder, ("no", "yes"))


def test_a_missing_folder_and_an_incomplete_download_are_distinguished(tmp_path):
    folder = tmp_path / FOLDER
    assert (
        error_of(check_complete, folder, ("no", "yes"))
        == f"data: {folder} does not exist; run: kws data --root {tmp_path}"
    )
    (folder.parent / ".speech_commands_v0.02.part").mkdir(parents=True)
    assert f"data: {folder} is missing (download incomplete); run: " in error_of(check_complete, folder, ("no", "yes"))


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "SpeechCommands").write_text("a file")
    line = error_of(fetch, tmp_path, ("no", "yes"), url="http://127.0.0.1:9/")
    assert line == (
        f"{tmp_path}/SpeechCommands: cannot be written (File exists); fix that, or choose another folder with --root"
    )


# Disks and processes


@pytest.fixture
def small_disk(tmp_path):
    """Return mount(options), which mounts a small file system at tmp_path/disk."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        if os.geteuid() != 0:
            pytest.skip("only root can mount a small file system")
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            pytest.skip(f"no small file system can be mounted here: {made.stderr.strip()}")
        return place

    yield mount
    if os.path.ismount(place):
        subprocess.run(["umount", "-l", place], check=True)


def test_too_little_disk_space_is_reported_before_the_download(small_disk):
    place = small_disk("size=100m")
    with ArchiveServer(BODY) as server:
        line = error_of(get, place, server)
        assert line == (
            f"{place}/SpeechCommands: 105 MB are free, but no, yes need 284 MB; "
            "free some space, or choose a folder on another disk with --root"
        )
        assert server.requests == []
    assert_nothing(place)


def test_a_disk_that_fills_up_during_the_download_is_an_error(small_disk):
    place = small_disk("size=400m,nr_inodes=20")  # room for the bytes, but for 20 files only
    with ArchiveServer(BODY) as server:
        line = error_of(get, place, server)
    assert line == (
        f"{place}/SpeechCommands: cannot be written (No space left on device); "
        "fix that, or choose another folder with --root"
    )
    assert_nothing(place)


def start(root, server):
    program = (
        "import sys; from kws.errors import KwsError; from kws.data.fetch import fetch\n"
        "try: fetch(sys.argv[1], ('no', 'yes'), url=sys.argv[2], sha256=sys.argv[3])\n"
        "except KwsError as error: sys.exit(f'kws: {error}')\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, root, server.url, HASH],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def never_ending():
    """Return a server that sends slowly and stops before the end, so that the download still runs when checked."""
    return ArchiveServer(BODY, [len(BODY) - 8192], delay_s=0.05, stalls=60)


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "nothing happened for 30 s"
        time.sleep(0.01)


@pytest.mark.parametrize("clips", [1, 9, 20])
def test_sigkill_during_the_download_leaves_nothing_in_place(tmp_path, clips):
    folder = tmp_path / FOLDER
    part = folder.with_name(".speech_commands_v0.02.part")
    with never_ending() as server:
        process = start(tmp_path, server)
        wait_for(lambda: len(list(part.glob("*/*.wav"))) >= clips)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not folder.exists()
        assert "is missing (download incomplete)" in error_of(check_complete, folder, ("no", "yes"))
        server.delay_s = 0
        assert_complete(get(tmp_path, server))


def test_a_complete_download_killed_before_its_last_rename_is_installed(tmp_path):
    with ArchiveServer(BODY) as server:
        folder = get(tmp_path, server)
        os.rename(folder, folder.with_name(".speech_commands_v0.02.part"))  # as a kill at that moment leaves it
        assert_complete(get(tmp_path, server))
        assert len(server.requests) == 1


def test_a_second_process_is_an_error_and_changes_nothing(tmp_path):
    part = (tmp_path / FOLDER).with_name(".speech_commands_v0.02.part")
    with ArchiveServer(BODY, delay_s=1) as server:
        first = start(tmp_path, server)
        wait_for(part.exists)
        _, stderr = start(tmp_path, server).communicate()
        assert stderr == f"kws: {tmp_path / FOLDER}: another process is downloading it; wait until it ends\n"
        killed = start(tmp_path, server)
        killed.kill()
        killed.communicate()
        server.delay_s = 0
        assert first.communicate()[1] == "" and first.returncode == 0
        assert len(server.requests) == 1
    assert_complete(tmp_path / FOLDER)


def test_a_folder_that_appears_during_the_download_is_unchanged(tmp_path):
    folder = tmp_path / FOLDER

    def appear(done, total):
        (folder / "yes").mkdir(parents=True, exist_ok=True)  # another program begins to unpack into the same place

    with ArchiveServer(BODY) as server:
        line = error_of(get, tmp_path, server, progress=appear)
    assert line == f"{folder}: appeared during the download; remove it and run kws data again"
    assert siblings(folder) == {folder.name, f".{folder.name}.lock"} and (folder / "yes").is_dir()


def test_ctrl_c_removes_the_unfinished_folder(tmp_path):
    part = (tmp_path / FOLDER).with_name(".speech_commands_v0.02.part")
    with never_ending() as server:
        process = start(tmp_path, server)
        wait_for(lambda: list(part.glob("*/*.wav")))
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert_nothing(tmp_path)
