"""What `kws bench` measures of whole runs and studies: real commands, as processes, in a folder that goes."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kws import bench_clock
from kws.data.layout import FOLDERS, LISTS, NOISE_FOLDER
from kws.errors import KwsError


@contextmanager
def scratch_folder():
    """Work in a temporary folder, with W&B offline and all of its files below it; yield the folder."""
    environment, directory = dict(os.environ), os.getcwd()
    with TemporaryDirectory(prefix="kws-bench-") as folder:
        for name in list(os.environ):
            if name.startswith("WANDB_"):  # an agent's run id or another mode would change what is measured
                del os.environ[name]
        os.environ |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
        os.environ |= {f"WANDB_{name}_DIR": folder for name in ("DATA", "CACHE", "CONFIG", "ARTIFACT")}
        os.environ["WANDB_DIR"] = folder
        # A checkout that is not installed is to be found from there, too.
        paths = (str(Path(__file__).parent.parent), environment.get("PYTHONPATH", ""))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(directory)
            os.environ.clear()
            os.environ.update(environment)


def run(*arguments, **variables):
    """Run `python ARGUMENTS` to its end; return (when it began, when it ended, its peak memory in bytes).

    Raises KwsError, with the last line that it said, when it fails.
    """
    with open("said.txt", "w+") as said:
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *arguments], env=os.environ | variables, stdout=said, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        ended = time.monotonic()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            lines = said.read().splitlines() or [""]
            raise KwsError(f"bench: python {' '.join(arguments[:3])} … failed with {process.returncode}: {lines[-1]}")
    # Linux counts in KiB, macOS in bytes.
    return began, ended, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def flags(config):
    """The settings that the bench chooses, as flags."""
    names = ("data", "data_dir", "epochs", "batch_size", "channels", "n_mels", "threads", "device")
    return [f"--words={','.join(config.words)}", *(f"--{name}={getattr(config, name)}" for name in names)]


def fresh_run(config, mode):
    """One clocked `kws train`; returns bench_clock.fixed_costs'. mode: W&B's, offline or disabled."""
    began, ended, _ = run("-m", "kws.bench_clock", "spans.json", *flags(config), WANDB_MODE=mode)
    return bench_clock.fixed_costs(json.loads(Path("spans.json").read_text()), began, ended)


class WarmProcesses:
    """The fork server of `kws sweep`, and clocked runs in the processes that it forks."""

    def __init__(self):
        self.context = multiprocessing.get_context("forkserver")
        process = self.context.Process(target=os.getpid)
        process.start()  # returns when the server has imported everything
        process.join()
        self.runs = 0

    def run(self, config):
        """One run as a sweep's cell; returns bench_clock.fixed_costs'."""
        self.runs += 1
        receiver, sender = self.context.Pipe(duplex=False)
        one_cpu = 1  # as where a sweep has a job for each CPU
        cell = (sender, "cell.log", os.getcwd(), config, f"warm{self.runs}", None, one_cpu)
        process = self.context.Process(target=bench_clock.clocked_cell, args=("spans.json", *cell), daemon=True)
        began = time.monotonic()
        process.start()
        process.join()
        ended = time.monotonic()
        sender.close()
        receiver.close()
        if process.exitcode:
            raise KwsError(f"bench: a sweep's cell failed: {Path('cell.log').read_text().splitlines()[-1:]}")
        return bench_clock.fixed_costs(json.loads(Path("spans.json").read_text()), began, ended)


def study_seconds(config, runs, jobs):
    """Seconds that `kws sweep` takes for so many runs."""
    name = f"bench-{runs}-{jobs}"
    fixed = dict(flag[2:].split("=", 1) for flag in flags(config)) | {"study": name}
    sweep = {
        "name": name,
        "project": "kws",
        "program": "kws/train.py",
        "method": "grid",
        "metric": {"name": "best/val_accuracy", "goal": "maximize"},
        "parameters": {key: {"value": value} for key, value in fixed.items()} | {"seed": {"values": list(range(runs))}},
    }
    Path("sweep.yaml").write_text(json.dumps(sweep))  # JSON is YAML, too
    began, ended, _ = run("-m", "kws", "sweep", "sweep.yaml", f"--jobs={jobs}")
    return ended - began


def process_seconds(config):
    """Seconds of one run as a `kws train` process."""
    began, ended, _ = run("-m", "kws", "train", *flags(config))
    return ended - began


def plain_process_seconds(config):
    """Seconds of one run as a process of the plain loop."""
    began, ended, _ = run("-m", "kws.bench_baseline", json.dumps(config.as_dict()))
    return ended - began


def enlarged(config, times):
    """Return the path of a new data_dir that holds each clip `times` times: links, each copy under other speakers."""
    source = Path(config.data_dir, "SpeechCommands", FOLDERS[config.data])
    root = Path(f"data{times}").absolute()
    target = root / "SpeechCommands" / FOLDERS[config.data]
    for word in config.words:
        (target / word).mkdir(parents=True)
        for clip in (source / word).glob("*.wav"):
            for copy in range(times):
                (target / word / f"{copy}{clip.name}").symlink_to(clip)
    for name in LISTS:
        listed = [line.split("/") for line in (source / name).read_text().split()]
        lines = [f"{word}/{copy}{clip}\n" for word, clip in listed for copy in range(times) if word in config.words]
        (target / name).write_text("".join(lines))
    if (source / NOISE_FOLDER).is_dir():
        (target / NOISE_FOLDER).symlink_to(source / NOISE_FOLDER)
    return root


def sized_run(config, times):
    """A `kws train` on each clip `times` times: how many clips, an epoch's seconds, peak memory (first run, cached)."""
    root = enlarged(config, times)
    arguments = ("-m", "kws", "train", *flags(config), f"--data_dir={root}", f"--run_dir=sized{times}")
    first, second = (run(*arguments, KWS_CACHE=str(root))[2] for _ in range(2))
    folders = sorted(Path(f"sized{times}").iterdir(), key=lambda folder: folder.stat().st_mtime)
    summary, recorded = (json.loads((folders[-1] / name).read_text()) for name in ("summary.json", "config.json"))
    clips = recorded["data_info"]
    return {
        "clips": clips["train"] + clips["val"] + clips["test"],
        "epoch_s": summary["time/epoch_s_median"],
        "first_bytes": first,
        "cached_bytes": second,
    }
