"""Measure what kws costs on this machine, side by side, and print a table. Run it in the repository's root."""

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.measure import OTHER, PINNED, Bench, Sizes
from benchmarks.sections import SECTIONS
from kws.config import resolve
from kws.data.layout import FOLDERS
from kws.errors import KwsError, notify


def main() -> None:
    """Measure, and print what was measured. Raises KwsError."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument("--data_dir", metavar="DIR", help="folder of SpeechCommands/ (default: $KWS_DATA or data)")
    parser.add_argument("--only", default=",".join(SECTIONS), metavar="A,B", help="sections (default: %(default)s)")
    parser.add_argument("--against", metavar="PATH", help="checkout of another commit, measured in the same run")
    parser.add_argument("--clips", type=int, nargs="+", default=[9092], help="of the section memory (default: 9092)")
    parser.add_argument("--quick", action="store_true", help="only check that every measurement works")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="kws-benchmarks-") as folder:
        bench, sections = prepare(options, Path(folder)), options.only.split(",")
        if unknown := set(sections) - set(SECTIONS):
            raise KwsError(f"--only: there is no section {', '.join(unknown)}; sections are {', '.join(SECTIONS)}")
        for version in bench.versions if not options.quick else ():
            notify(f"filling the cache{version}")
            bench.train(version, epochs=1)
        for name in sections:
            SECTIONS[name](bench)
    if options.json:
        rows = [{"section": a, "what": b, "unit": c, "median": median(d), "values": d} for a, b, c, d in bench.rows]
        print(json.dumps({"about": about(bench), "measurements": rows}, indent=1))
    else:
        show(bench)


def prepare(options: argparse.Namespace, folder: Path) -> Bench:
    """Return the Bench that the options ask for. Raises KwsError if its checkout is missing."""
    versions = {"": Path(__file__).resolve().parent.parent}
    if options.against:
        versions[OTHER] = Path(options.against).expanduser().resolve()
        if not (versions[OTHER] / "kws" / "__main__.py").is_file():
            raise KwsError(f"--against: {options.against} is not a checkout of kws; make one with git worktree add")
    config = resolve(("--data_dir", {"data_dir": options.data_dir} if options.data_dir else {}))
    root = Path(config.data_dir).expanduser().resolve()
    real = (root / "SpeechCommands" / FOLDERS["speech_commands"]).is_dir()
    config = replace(config, data_dir=str(root), data="speech_commands" if real else "synthetic", device="cpu")
    sizes = Sizes(repeats=1, epochs=2, runs=2, study_runs=2, study_epochs=1) if options.quick else Sizes()
    return Bench(config, sizes, options.clips, folder, versions)


def about(bench: Bench) -> dict[str, object]:
    """Return what the figures depend on: commits, machine, packages, settings and sizes."""
    found: dict[str, object] = {}
    for version, path in bench.versions.items():
        command = ["git", "-C", str(path), "describe", "--always", "--dirty", "--exclude=*"]
        found[f"commit{version}"] = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    found["processor"] = cpuinfo.partition("model name\t: ")[2].partition("\n")[0] or platform.processor()
    found |= {"cpus": os.cpu_count(), "instructions": torch.backends.cpu.get_cpu_capability()}
    found |= {name: metadata.version(name) for name in ("torch", "torchaudio", "wandb", "optuna")}
    return found | {name: getattr(bench.config, name) for name in PINNED if name != "data_dir"} | bench.sizes._asdict()


def show(bench: Bench) -> None:
    """Print the measurements as a table, which is valid Markdown, and what they depend on."""
    console = Console() if sys.stdout.isatty() else Console(width=180)
    console.print(", ".join(f"{name} {value}" for name, value in about(bench).items()), soft_wrap=True)
    table = Table("section", "what", "median", "unit", "lowest to highest", box=box.MARKDOWN)
    for section, what, unit, values in bench.rows:
        spread = f"{min(values):.3g} to {max(values):.3g} ({len(values)})" if len(values) > 1 else ""
        table.add_row(section, what, f"{median(values):.3g}", unit, spread)
    console.print(table)


if __name__ == "__main__":
    try:
        main()
    except KwsError as error:
        sys.exit(f"kws: {error}")
