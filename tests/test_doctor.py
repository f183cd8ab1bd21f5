"""kws doctor: its findings on good and broken machines, each in its own process; no key is printed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.wandb_server import WandbServer
from helpers import forked
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
    """examine(*flags, **environment): ({name: (level, text, fix)}, exit status), with an empty home of its own."""

    def run(*flags, **environment):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "KWS", "XDG"))}
        base = {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1]), "no_proxy": "127.0.0.1"}
        start = {"cwd": tmp_path, "env": inherited | base | environment}
        if "PYTHONPATH" in environment:  # for other packages than those that are imported already
            done = subprocess.run([sys.executable, "-c", PROGRAM, *flags], capture_output=True, text=True, **start)
        else:
            done = forked.run("-c", PROGRAM, *flags, **start)
        assert CANARY not in done.stdout + done.stderr and "Traceback" not in done.stderr, done.stderr
        return parse(done.stdout), done.returncode

    yield run
    told = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".netrc"]
    assert [path for path in told if CANARY.encode() in path.read_bytes()] == []


def parse(page):
    checks, last = {}, None
    *lines, counts = page.splitlines()
    assert re.fullmatch(r"\d+ errors?, \d+ warnings?", counts)
    for line in lines:
        level, rest = line[:8].strip(), line[8:]
        name, _, text = rest.partition("  ")
        if level:
            last = name.strip()
            checks[last] = (level, text.strip(), None)
        else:
            assert name == "fix"
            checks[last] = (*checks[last][:2], text.strip())
    return checks


def levels(checks):
    return {name: level for name, (level, _, _) in checks.items() if level != "ok"}


def test_a_working_environment(tmp_path, examine):
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
    assert {name for name in checks if name.startswith("data ")} == {"data speech_commands", "data synthetic"}
    assert checks["data synthetic"][1].startswith(f"none in {folder.parents[1]}; only --data=synthetic needs it")
    assert checks["run_dir"][1].startswith(f"{tmp_path}/runs, ") and not (tmp_path / "runs").exists()
    assert checks["cache"][1].startswith(f"{tmp_path}/.cache/kws, ") and not (tmp_path / ".cache/kws").exists()
    assert checks["W&B key"][1] == f"found one for {server.url} in WANDB_API_KEY"
    assert checks["W&B server"][1].startswith(f"{server.url} answers in ")


def test_an_environment_with_many_problems(tmp_path, examine):
    folder = make_corpus(tmp_path)
    shutil.rmtree(folder / "yes")
    (tmp_path / "file").write_text("in the way")
    flags = ("--data_dir=.", "--run_dir=file/runs", "--threads=1000", "--device=mps")
    checks, status = examine(*flags, KWS_CACHE="file/cache", WANDB_API_KEY=CANARY[:20])
    assert status == 1
    assert levels(checks) == {
        "device": "error",
        "threads": "warning",
        "data speech_commands": "error",
        "run_dir": "error",
        "cache": "warning",
        "W&B key": "error",
    }
    text, fix = checks["data speech_commands"][1:]
    assert text == f"{folder} is incomplete: there is no clip of 'yes'"
    assert fix == f"mv {folder} {folder}.incomplete && kws data --root {tmp_path}"
    assert checks["device"] == ("error", "device: mps is not available here; use --device=auto", "--device=auto")
    assert checks["threads"][2].startswith("--threads=")
    assert checks["run_dir"][1:] == (
        f"{tmp_path}/file/runs cannot be written (Not a directory)",
        "choose another folder with --run_dir",
    )
    assert checks["cache"][1:] == (
        "file/cache cannot be written (Not a directory)",
        "set KWS_CACHE to a writable folder",
    )
    assert CANARY[:20] not in str(checks)
    assert checks["W&B key"][1] == "WANDB_API_KEY is shorter than a key's 40 characters"


def test_a_key_in_netrc_and_a_server_that_is_gone(tmp_path, examine):
    with WandbServer() as server:
        gone = server.url
    host = gone.removeprefix("http://")
    (tmp_path / ".netrc").write_text(f"machine {host}\n  login user\n  password {CANARY}\n")
    checks, status = examine("--data=synthetic", WANDB_BASE_URL=gone)
    assert checks["W&B key"] == ("ok", f"found one for {gone} in {tmp_path}/.netrc", None)
    assert checks["W&B server"] == (
        "warning",
        f"{gone} is unreachable (Connection refused): runs are recorded offline",
        "check the network, or set WANDB_MODE=offline",
    )
    # Neither corpus is there: the one that the settings ask for is an error.
    assert checks["data synthetic"][0] == "error" and checks["data speech_commands"][0] == "ok" and status == 1
    assert checks["data synthetic"][2] == f"kws data --synthetic --root {tmp_path}/data"


def test_a_netrc_that_cannot_be_parsed_is_not_quoted(tmp_path, examine):
    (tmp_path / ".netrc").write_text(f"machine a login b passwort {CANARY}\n")
    checks, _ = examine(WANDB_BASE_URL="http://127.0.0.1:9")
    assert checks["W&B key"][:2] == ("error", f"{tmp_path}/.netrc cannot be read as a netrc file")


def test_no_account_is_a_warning(examine):
    checks, _ = examine(WANDB_BASE_URL="http://127.0.0.1:9")
    assert checks["W&B key"] == (
        "warning",
        "none for http://127.0.0.1:9: runs are recorded offline",
        "wandb login, or set WANDB_MODE=offline",
    )
    assert "W&B server" not in checks


@pytest.mark.parametrize(("mode", "level"), [("offline", "ok"), ("disabled", "warning")])
def test_modes_that_send_nothing_ask_nobody(examine, mode, level):
    with WandbServer() as server:
        checks, _ = examine(WANDB_BASE_URL=server.url, WANDB_API_KEY=CANARY, WANDB_MODE=mode)
        assert server.requests == 0
    assert checks["W&B mode"][0] == level and checks["W&B mode"][1].startswith(f"{mode}: ")


def test_a_password_in_the_servers_address_stays_there(examine):
    address = f"http://user:{CANARY}@127.0.0.1:9"
    checks, _ = examine(WANDB_BASE_URL=address, WANDB_API_KEY=CANARY)
    assert checks["W&B server"][1].startswith("http://127.0.0.1:9 is unreachable")


def test_settings_that_wandb_refuses_are_not_quoted(examine):
    checks, status = examine(WANDB_BASE_URL=f"not an address {CANARY}")
    assert (checks["W&B"][0], status) == ("error", 1) and "rejects its settings" in checks["W&B"][1]
    assert "check the WANDB_ variables" in checks["W&B"][1]


def test_a_torchaudio_that_cannot_be_imported_is_an_error_and_the_other_checks_run(tmp_path, examine):
    (tmp_path / "broken" / "torchaudio").mkdir(parents=True)
    (tmp_path / "broken" / "torchaudio" / "__init__.py").write_text("raise OSError('libwhatever.so: no such file')")
    path = os.pathsep.join([str(tmp_path / "broken"), str(Path(__file__).parents[1])])
    checks, status = examine(PYTHONPATH=path, WANDB_MODE="offline")
    level, text, fix = checks["torchaudio"]
    assert (level, status) == ("error", 1) and "libwhatever.so" in text
    assert fix.startswith("pip install ") and "torchaudio" in fix
    assert checks["W&B mode"][0] == "ok"
