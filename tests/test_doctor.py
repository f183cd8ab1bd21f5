"""kws doctor: what it finds on this machine and on broken ones, in processes of their own, and that no key is told."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.wandb_server import WandbServer
from helpers.corpus import make_corpus

CANARY = "canary" + "0123456789abcdef" * 3
PROGRAM = """
import sys
from rich.console import Console
from kws.config import parse_flags, resolve
from kws.doctor import exit_status, report, show
checks = report(resolve(("flag", parse_flags(sys.argv[1:]))))
show(checks, Console())
sys.exit(exit_status(checks))
"""


@pytest.fixture
def examine(tmp_path):
    """examine(*flags, **environment): ({name: (level, text, remedy)}, exit status), with an empty home of its own."""

    def run(*flags, **environment):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "KWS", "XDG"))}
        base = {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1]), "no_proxy": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *flags],
            cwd=tmp_path,
            env=inherited | base | environment,
            capture_output=True,
            text=True,
        )
        assert CANARY not in done.stdout + done.stderr and "Traceback" not in done.stderr, done.stderr
        return parse(done.stdout), done.returncode

    yield run
    told = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".netrc"]
    assert [path for path in told if CANARY.encode() in path.read_bytes()] == []


def parse(page):
    checks, last = {}, None
    *lines, _ = page.splitlines()
    for line in lines:
        level, rest = line[:8].strip(), line[8:]
        name, _, text = rest.partition("  ")
        if level:
            last = name.strip()
            checks[last] = (level, text.strip(), None)
        else:
            assert name == "mend it"
            checks[last] = (*checks[last][:2], text.strip())
    return checks


def levels(checks):
    return {name: level for name, (level, _, _) in checks.items() if level != "good"}


def test_a_machine_where_all_is_well(tmp_path, examine):
    folder = make_corpus(tmp_path / "data with é")
    with WandbServer() as server:
        account = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": CANARY}
        checks, status = examine(f"--data_dir={folder.parents[1]}", **account)
        assert server.requests == 1, "only the start page is asked for"
    assert (levels(checks), status) == ({}, 0)
    assert checks["python"][1].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert {"kws", "torch", "torchaudio", "wandb", "ptflops", "torchaudio import", "device"} < set(checks)
    assert checks["threads"][1].startswith("1 of ")
    assert checks["data speech_commands"][1] == f"48 no, 48 yes in {folder}"
    assert checks["data synthetic"][1].startswith(f"none in {folder.parents[1]}; only --data=synthetic needs it")
    assert checks["run_dir"][1].startswith(f"{tmp_path}/runs, ") and not (tmp_path / "runs").exists()
    assert checks["cache"][1].startswith(f"{tmp_path}/.cache/kws, ") and not (tmp_path / ".cache/kws").exists()
    assert checks["W&B key"][1] == f"there is one for {server.url} in WANDB_API_KEY"
    assert checks["W&B server"][1].startswith(f"{server.url} answers in ")


def test_a_machine_where_much_is_wrong(tmp_path, examine):
    folder = make_corpus(tmp_path)
    shutil.rmtree(folder / "yes")
    (tmp_path / "file").write_text("in the way")
    flags = ("--data_dir=.", "--run_dir=file/runs", "--threads=1000", "--device=mps")
    checks, status = examine(*flags, KWS_CACHE="file/cache", WANDB_API_KEY=CANARY[:20])
    assert status == 1
    assert levels(checks) == {
        "device": "bad",
        "threads": "warning",
        "data speech_commands": "bad",
        "run_dir": "bad",
        "cache": "warning",
        "W&B key": "bad",
    }
    text, remedy = checks["data speech_commands"][1:]
    assert text == f"{folder} is not whole: there is no clip of 'yes'"
    assert remedy == f"mv {folder} {folder}.half && kws data --root {tmp_path}"
    assert checks["device"] == ("bad", "device: mps is not available here; use --device=auto", "--device=auto")
    assert checks["threads"][2].startswith("--threads=")
    assert checks["run_dir"][1:] == (
        f"{tmp_path}/file/runs cannot be written (Not a directory)",
        "take another folder with --run_dir",
    )
    assert checks["cache"][1:] == (
        "file/cache cannot be written (Not a directory)",
        "set KWS_CACHE to a folder that can be written",
    )
    assert CANARY[:20] not in str(checks)
    assert checks["W&B key"][1] == "WANDB_API_KEY is shorter than a key's 40 characters"


def test_a_key_in_netrc_and_a_server_that_is_gone(tmp_path, examine):
    with WandbServer() as server:
        gone = server.url
    host = gone.removeprefix("http://")
    (tmp_path / ".netrc").write_text(f"machine {host}\n  login user\n  password {CANARY}\n")
    checks, status = examine("--data=synthetic", WANDB_BASE_URL=gone)
    assert checks["W&B key"] == ("good", f"there is one for {gone} in {tmp_path}/.netrc", None)
    assert checks["W&B server"] == (
        "warning",
        f"{gone} cannot be reached (Connection refused): runs go on offline",
        "check the network, or export WANDB_MODE=offline",
    )
    # Neither corpus is there: the one that the settings ask for is what is bad.
    assert checks["data synthetic"][0] == "bad" and checks["data speech_commands"][0] == "good" and status == 1
    assert checks["data synthetic"][2] == f"kws data --synthetic --root {tmp_path}/data"


def test_a_netrc_that_cannot_be_parsed_is_not_quoted(tmp_path, examine):
    (tmp_path / ".netrc").write_text(f"machine a login b passwort {CANARY}\n")
    checks, _ = examine(WANDB_BASE_URL="http://127.0.0.1:9")
    assert checks["W&B key"][:2] == ("bad", f"{tmp_path}/.netrc cannot be read as a netrc file")


def test_no_account_is_a_warning(examine):
    checks, _ = examine(WANDB_BASE_URL="http://127.0.0.1:9")
    assert checks["W&B key"] == (
        "warning",
        "there is none for http://127.0.0.1:9: runs are recorded offline",
        "wandb login, or mean it: export WANDB_MODE=offline",
    )
    assert "W&B server" not in checks


@pytest.mark.parametrize(("mode", "level"), [("offline", "good"), ("disabled", "warning")])
def test_modes_that_send_nothing_ask_nobody(examine, mode, level):
    with WandbServer() as server:
        checks, _ = examine(WANDB_BASE_URL=server.url, WANDB_API_KEY=CANARY, WANDB_MODE=mode)
        assert server.requests == 0
    assert checks["W&B mode"][0] == level and checks["W&B mode"][1].startswith(f"{mode}: ")


def test_a_password_in_the_servers_address_stays_there(examine):
    address = f"http://user:{CANARY}@127.0.0.1:9"
    checks, _ = examine(WANDB_BASE_URL=address, WANDB_API_KEY=CANARY)
    assert checks["W&B server"][1].startswith("http://127.0.0.1:9 cannot be reached")


def test_settings_that_wandb_refuses_are_not_quoted(examine):
    checks, status = examine(WANDB_BASE_URL=f"not an address {CANARY}")
    assert (checks["W&B"][0], status) == ("bad", 1) and checks["W&B"][1].startswith("cannot be examined: ")
    assert "WANDB_" in checks["W&B"][2]


def test_a_torchaudio_that_does_not_import_is_told_and_the_page_goes_on(tmp_path, examine):
    (tmp_path / "broken" / "torchaudio").mkdir(parents=True)
    (tmp_path / "broken" / "torchaudio" / "__init__.py").write_text("raise OSError('libwhatever.so: no such file')")
    path = os.pathsep.join([str(tmp_path / "broken"), str(Path(__file__).parents[1])])
    checks, status = examine(PYTHONPATH=path, WANDB_MODE="offline")
    level, text, remedy = checks["torchaudio"]
    assert (level, status) == ("bad", 1) and "libwhatever.so" in text
    assert remedy.startswith("pip install ") and "torchaudio" in remedy
    assert checks["W&B mode"][0] == "good"
