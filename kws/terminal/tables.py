"""Results in the terminal: tables, and plain lines if stdout is no terminal."""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from kws import metrics
from kws.config import Config
from kws.formatting import count, one_line, percent, percentage_points, seconds
from kws.terminal.progress import console
from kws.training.run_folder import read_config, read_summary

if TYPE_CHECKING:  # these modules import torch or scipy
    from kws.analysis.records import Excluded
    from kws.analysis.study import Configuration, Study
    from kws.data.corpus import Corpus
    from kws.inference.listen import Detection
    from kws.inference.predict import Prediction
    from kws.inference.rates import Rates
    from kws.sweep.runner import Status

ESCAPES = str.maketrans({"\t": "\\t", "\n": "\\n", "\r": "\\r"})


def corpus(corpus: "Corpus", config: Config) -> None:
    """Print clips and speakers per split, the folder and the fingerprint of a corpus."""
    table = Table(title=Text(corpus.name), title_justify="left")
    for name in ("split", *config.words, "speakers"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for name in ("training", "validation", "testing"):
        split = getattr(corpus, name)
        counts = [f"{int((split.labels == label).sum()):,}" for label in range(len(config.words))]
        table.add_row(name, *counts, f"{len(split.speakers):,}")
    console.print(table)
    line(f"folder       {corpus.folder}")
    console.print(f"fingerprint  {corpus.fingerprint}")


def run(folder: Path) -> None:
    """Print a finished run's result and where its files are."""
    config, summary = read_config(folder), read_summary(folder)
    data_info = config["data_info"]
    errors = f"{summary[metrics.TEST_ERRORS]} of {data_info['test']} misclassified"
    table = Table(title=f"{config['run_name']} ({config['run_id']})", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("data", data_info["corpus"])
    table.add_row("best epoch on validation", f"{summary[metrics.BEST_EPOCH]}")
    table.add_row("validation accuracy", f"{summary[metrics.BEST_VAL_ACCURACY]:.2%}")
    table.add_row("test accuracy", f"{summary[metrics.TEST_ACCURACY]:.2%} ({errors})")
    table.add_row("parameters", f"{summary[metrics.PARAMS]:,}")
    table.add_row("FLOPs per clip (network)", f"{summary[metrics.FLOPS] / 1e6:.2f} M")
    table.add_row("epoch time (median)", f"{summary[metrics.EPOCH_S_MEDIAN]:.2f} s")
    table.add_row("run time", f"{summary[metrics.RUN_S]:.1f} s")
    console.print(table)
    line(f"run folder   {folder}")
    if summary[metrics.WANDB_URL]:
        line(f"on W&B       {summary[metrics.WANDB_URL]}")
    if summary[metrics.WANDB_SYNC_DIR]:
        line("view it      wandb leet")
        line(f"upload it    wandb sync {summary[metrics.WANDB_SYNC_DIR]}")


def predictions(predictions: Iterable["Prediction"], as_json: bool) -> None:
    """Print one row per prediction; as JSON with every window."""
    if as_json:
        print(json.dumps([vars(item) for item in predictions], indent=2))
        return
    if not console.is_terminal:  # tab-separated, for other programs
        for item in predictions:
            _fields(item.file, item.word, f"{item.probability:.4f}", f"{item.milliseconds:.2f} ms")
        return
    table = Table()
    for name in ("file", "word", "probability", "at", "ms per clip"):
        table.add_column(name, justify="left" if name in ("file", "word") else "right", overflow="fold")
    for item in predictions:
        numbers = (f"{item.probability:.4f}", f"{item.start_s:.1f} s", f"{item.milliseconds:.2f}")
        table.add_row(Text(one_line(item.file, 4096)), item.word, *numbers)
    if table.row_count:
        console.print(table)


def detection(file: str, found: "Detection", as_json: bool) -> None:
    """Print a detection at once: file, seconds, word and probability, or a JSON object."""
    if as_json:
        print(json.dumps({"file": file} | vars(found)), flush=True)
    else:
        _fields(file, f"{found.time_s:.1f} s", found.word, f"{found.probability:.4f}")


def _fields(file: str, *fields: str) -> None:
    """Print tab-separated fields; the file's name as the bytes that it is, without tabs and line breaks."""
    print(file.translate(ESCAPES), *fields, sep="\t", flush=True)


def rates(curve: Sequence["Rates"], threshold: float, as_json: bool, **facts: object) -> None:
    """Print misses and false alarms at the threshold, and where they differ at others; or one JSON object with all."""
    [chosen] = [item for item in curve if item.threshold == threshold]
    if as_json:
        print(json.dumps(chosen.as_dict() | facts | {"curve": [item.as_dict() for item in curve]}))
        return
    table = Table()
    for name in ("threshold", "missed", "false alarms per hour"):
        table.add_column(name, justify="right")
    shown = (group for _, (*_, group) in groupby(curve, lambda item: (item.missed, item.false_alarms)))
    for item in shown:
        table.add_row(f"{item.threshold:g}", percent(item.miss_rate, 1), f"{item.false_alarms_per_hour:.1f}")
    console.print(table)
    line(f"material      {chosen.hours:.2f} h")
    line(f"threshold     {threshold:g}")
    line(f"missed        {chosen.missed:,} of {chosen.keywords:,} keywords ({percent(chosen.miss_rate, 1)})")
    line(f"false alarms  {chosen.false_alarms:,} ({chosen.false_alarms_per_hour:.1f} per hour)")
    for name, fact in facts.items():
        line(f"{name.replace('_', ' '):<13} {fact}")


def sweep_status(status: "Status") -> None:
    """Print how many trials of a sweep are finished, running, failed and missing, and the names of the last two."""
    line(
        f"sweep {status.sweep_id}: {status.expected} trials expected, {status.finished} finished, "
        f"{status.running} running, {len(status.failed)} failed, {len(status.missing)} missing"
    )
    for notice in status.notices:
        line(notice)
    for name, reason in status.failed.items():
        line(f"  failed   {name}: {reason}")
    for name in status.missing:
        line(f"  missing  {name}")


def report(found: Sequence["Study"], excluded: Sequence["Excluded"], page: Path) -> None:
    """Print a report's studies as tables, their recommendations, the excluded runs and the path of the page."""
    from kws.analysis.narrative import answer

    for study in found:
        console.print(study_table(study))
        recommendation, _, *needs = answer(study)
        line(" ".join([recommendation, *needs]))
        line(f"made with    {one_line(str(study.code))}")
    for run in excluded:
        line(f"excluded: {run.name}: {run.reason}")
    line(f"report       {page}")


def study_table(study: "Study") -> Table:
    """Return the comparison of a study's configurations for 80 columns. Accuracies are in percent."""
    title = f"{study.title}{' (synthetic data)' if study.synthetic else ''}: test accuracy over seeds"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    table.add_column(Text(", ".join(study.parameters) or "configuration"))
    for head in (
        "seeds",
        "held-out %" if study.resplit else "val %",
        "test % ± sd",
        "95 % interval",
        "params",
        "FLOPs",
        "epoch",
    ):
        table.add_column(head, justify="right")
    shown = study.configurations
    if study.is_search:
        shown = sorted(shown, key=lambda configuration: -configuration.val.mean)[:20]
    for configuration in shown:
        marked = study.recommends and configuration is study.recommended
        table.add_row(Text(f"{configuration.short_label}{' *' if marked else ''}"), *_numbers(configuration))
    if study.recommends:
        table.caption = f"* recommended, by {study.chosen_on} accuracy"
        table.caption_justify = "left"
    return table


def _numbers(configuration: "Configuration") -> tuple[str, ...]:
    test, interval = percentage_points(configuration.test.mean), "one run"
    if not math.isnan(configuration.test.sd):
        test += f" ± {percentage_points(configuration.test.sd)}"
        interval = f"{percentage_points(configuration.test.low)}–{percentage_points(configuration.test.high)}"
    costs = (count(configuration.params), count(configuration.flops), seconds(configuration.epoch_s.mean))
    return (str(configuration.val.n), percentage_points(configuration.val.mean), test, interval, *costs)


def line(text: str) -> None:
    """Print one line without wrapping."""
    console.print(text, soft_wrap=True, markup=False)
