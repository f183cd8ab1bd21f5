"""New Python processes without the seconds of importing torch and others: forks of a process that has imported them.

Those imports take most of the processor time of a small run. Everything else is as in a process of its own, which it
is; kws is imported by each. What is interrupted or killed, or begins with a change of its imports, is started afresh.
"""

import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMPORTED = (
    "torch.utils.data", "torch.utils.flop_counter", "ptflops.aten_engine", "scipy.special", "rich.progress",
    "soundfile", "yaml", "PIL.Image",
    # Of wandb, which has a temporary folder that the first process to end would remove for all:
    "click", "google.protobuf.descriptor_pb2", "packaging.version", "platformdirs", "pydantic.dataclasses",
    "pydantic.json_schema", "requests",
)  # fmt: skip
_turn = threading.Lock()


def run(*command, cwd=None, env=None, merge=False, timeout=300):
    """Run `python COMMAND` (-c CODE, -m MODULE or a script, and arguments); return its CompletedProcess.

    merge: stderr is in stdout. It is ended by SIGALRM after `timeout` seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "out" if merge else "err")
        task = {"command": [*map(str, command)], "cwd": str(cwd or os.getcwd()), "environment": env or {**os.environ}}
        with _turn:
            print(json.dumps(task | {"out": str(out), "err": str(err), "timeout": timeout}), file=_server().stdin)
            _server().stdin.flush()
            status = int(_server().stdout.readline())
        return subprocess.CompletedProcess(command, status, out.read_text(), err.read_text())


@cache
def _server():
    """The process that is forked; it ends with this one."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen([sys.executable, __file__], env=environment, text=True, **pipes)


def _serve():
    """Fork for each task that comes on stdin, and print the status. Returns the task in the forked process."""
    gc.disable()
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # else each process looks for garbage among what is imported, for half a second at its end
    gc.enable()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return json.loads(line)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return None


def _do(command, cwd, environment, out, err, timeout):
    """Become the process of a task."""
    signal.alarm(timeout)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # what was imported may have asked for it
    for number, path, mode in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        file = os.open(path, mode | os.O_APPEND | os.O_CREAT * bool(number), 0o600)
        os.dup2(file, number)
        os.close(file)
    kind, *rest = command
    sys.argv, sys.path[0] = rest if kind == "-m" else command, ""
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(kind)
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__" and (task := _serve()):
    _do(**task)
