"""What the tests share: a clean surrounding, a tiny corpus, and the command line in this process or one of its own."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: the tests' networks are too small for more
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the processes that the tests start compile kws once, not each

from helpers import forked
from helpers.corpus import make_corpus
from helpers.online_study import online  # noqa: F401 (a fixture: one server for all test files)
from helpers.recordings import here, trained  # noqa: F401 (fixtures: one trained model for all test files)

pytest.register_assert_rewrite("helpers.training")  # its assertions are to say what differs

TINY = ("--channels=8", "--epochs=2", "--batch_size=16")  # a run of a second
REPOSITORY = Path(__file__).resolve().parent.parent

sys.dont_write_bytecode = False  # nor do the tests compile themselves again at the next start

# How long an example takes is the machine's business, and its other work's.
settings.register_profile(
    "patient", deadline=None, derandomize="CI" in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")
# A shell's background job ignores Ctrl-C, and so would every process that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def isolate(monkeypatch, tmp_path_factory):
    """No account, no settings of the person who runs the tests; W&B offline; home and caches of the tests' own."""
    os.environ.pop("WANDB_SERVICE", None)  # for good: W&B's client sets it, for a service that ends with its test
    for name in list(os.environ):
        if name.startswith(("WANDB_", "KWS_")) and name != "KWS_KILLS":
            monkeypatch.delenv(name)
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.fixture(scope="session", autouse=True)
def surroundings_of_fixtures(tmp_path_factory):
    """What a module's tests share is made before the first test's own surroundings."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        isolate(monkeypatch, tmp_path_factory)
        yield


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path_factory):
    """What the tests before left in the environment is gone."""
    isolate(monkeypatch, tmp_path_factory)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A data_dir with a tiny corpus that a small network learns, shared by all tests: nobody writes to it."""
    root = tmp_path_factory.mktemp("corpus")
    make_corpus(root)
    return root


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder that the test works in: runs/ and wandb/ are made here."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@dataclass
class Outcome:
    """Exit status and text of one command."""

    status: int
    out: str
    err: str

    @property
    def notices(self):
        return self.err.splitlines()


@pytest.fixture
def kws(capsys):
    """Run `kws ARGUMENTS` in this process and return its Outcome."""
    from kws.cli import main

    def run(*arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = error.code
        return Outcome(status, *capsys.readouterr())

    return run


def start(*arguments, **options):
    """Start `kws ARGUMENTS` as a process of its own, its text piped to us, and return its Popen."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **options.pop("env", {})}
    command = [*options.pop("before", ()), sys.executable, "-m", "kws", *(str(argument) for argument in arguments)]
    defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **(defaults | options))


def finish(process, timeout=120):
    """Wait for a process of `start` and return its Outcome."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Outcome(process.returncode, out, err)


@pytest.fixture
def kws_process():
    """Run `kws ARGUMENTS` as a process of its own, with `env` in its environment, and return its Outcome."""

    def run(*arguments, env=None, **options):
        done = forked.run("-m", "kws", *arguments, env={**os.environ, **(env or {})}, **options)
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


def snapshot(folder):
    """Return {path: (size, time)} of everything below a folder: equal before and after means untouched."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()  # its service may be writing the last run's log still
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(Path(folder).rglob("*"))
    }
