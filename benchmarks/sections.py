"""The questions that the benchmark answers: a function each, which adds its rows to a Bench."""

import json
import os
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.measure import FRONT_END, NETWORK, NETWORK_S, PARTS, PRODUCT, Bench, Finished, Forms
from kws.config import Config
from kws.data.clips import LISTS, NOISE_FOLDER
from kws.data.layout import FOLDERS
from kws.errors import notify
from kws.training.run_folder import SUMMARY

TRAIN, SWEEP, PROCESS, TRIAL = "kws train", "kws sweep --jobs 2", "fresh process", "trial of a sweep"
FILES, MEMORY = "baseline loop, WAV files", "baseline loop, memory"


def epoch(bench: Bench) -> None:
    """How long does an epoch take, against the baseline loops and against the network alone?"""
    cpus = {"": False} | ({", one CPU": True} if hasattr(os, "sched_setaffinity") else {})  # macOS has no affinity
    loop = partial(bench.run, "benchmarks.loops")
    forms: Forms = {NETWORK_S: partial(loop, "network", *bench.flags())}
    for suffix, one_cpu in cpus.items():
        forms |= {TRAIN + suffix + version: partial(bench.train, version, one_cpu) for version in bench.versions}
        forms[FILES + suffix] = partial(loop, "files", *bench.flags(), one_cpu=one_cpu)
        forms[MEMORY + suffix] = partial(loop, "memory", *bench.flags(), one_cpu=one_cpu)
    values = bench.take_turns("epoch", "s", lambda finished: finished.epoch_s, forms)
    for suffix in cpus:
        bench.add_ratio("epoch", values, FILES + suffix, TRAIN + suffix)
        bench.add_ratio("epoch", values, MEMORY + suffix, TRAIN + suffix)
        bench.add_ratio("epoch", values, TRAIN + suffix, NETWORK_S)


def step(bench: Bench) -> None:
    """Where does the time of a training step go, and how near is the network to a matrix product's rate?"""
    finished = bench.run("benchmarks.loops", "step", *bench.flags(epochs=bench.sizes.repeats + 1))
    values = {name: numbers[1:] for name, numbers in json.loads(finished.last_line).items()}
    bench.rows += [("step", part, "ms per batch", values[part]) for part in (*PARTS, FRONT_END)]
    bench.rows += [("step", name, "GFLOP/s", values[name]) for name in (NETWORK, PRODUCT)]
    bench.add_ratio("step", values, NETWORK, PRODUCT)


def fixed(bench: Bench) -> None:
    """What does a run cost beside its epochs: as a process, without W&B, as a trial (from end to end)?"""
    forms: Forms = {}
    for version in bench.versions:
        forms[PROCESS + version] = partial(bench.train, version)
        forms[f"{PROCESS}, W&B disabled{version}"] = partial(bench.train, version, mode="disabled")
        forms[TRIAL + version] = partial(bench.sweep, version, jobs=1, runs=bench.sizes.runs)

    def fixed_s(finished: Finished) -> float:
        ends = sorted((run / SUMMARY).stat().st_mtime for run in finished.runs)
        whole_s = median(end - before for before, end in pairwise(ends)) if len(ends) > 1 else finished.seconds
        return whole_s - bench.sizes.epochs * finished.epoch_s

    bench.add_ratio("fixed", bench.take_turns("fixed", "s", fixed_s, forms), PROCESS, TRIAL)


def study(bench: Bench) -> None:
    """How many runs per minute does a sweep do, against runs one after the other?"""
    runs, epochs = bench.sizes.study_runs, bench.sizes.study_epochs
    forms: Forms = {SWEEP + end: partial(bench.sweep, end, 2, runs, epochs=epochs) for end in bench.versions}
    forms[TRAIN] = partial(bench.train, epochs=epochs)
    values = bench.take_turns("study", "runs per minute", lambda it: 60 * len(it.runs) / it.seconds, forms)
    bench.add_ratio("study", values, SWEEP, TRAIN)


def memory(bench: Bench) -> None:
    """How much memory does a run take with so many clips, when it reads their files and when they are cached?"""
    for clips in bench.clips:
        root = enlarged(bench.config, clips, bench.folder)
        for version in bench.versions:
            for state in ("first run", "cached"):
                what = f"{clips:,} clips, {state}{version}"
                notify(f"memory: {what}")
                bench.rows.append(("memory", what, "GB", [bench.train(version, epochs=1, data_dir=root).peak_gb]))


SECTIONS = {"epoch": epoch, "step": step, "fixed": fixed, "study": study, "memory": memory}


def enlarged(config: Config, n_clips: int, folder: Path) -> Path:
    """Return a new data_dir in `folder` with n_clips links to the clips of `config`; each copy has its own speakers."""
    source = Path(config.data_dir, "SpeechCommands", FOLDERS[config.data])
    root = folder / f"data-{n_clips}"
    target = root / "SpeechCommands" / source.name
    clips = [f"{word}/{path.name}" for word in config.words for path in sorted((source / word).glob("*.wav"))]
    copies = [(clips[n % len(clips)], f"/{n // len(clips)}") for n in range(n_clips)]
    for word in config.words:
        (target / word).mkdir(parents=True)
    for clip, copy in copies:
        (target / clip.replace("/", copy)).symlink_to(source / clip)
    for file in LISTS:
        listed = set((source / file).read_text().split())
        (target / file).write_text("\n".join(clip.replace("/", copy) for clip, copy in copies if clip in listed))
    (target / NOISE_FOLDER).symlink_to(source / NOISE_FOLDER)
    return root
