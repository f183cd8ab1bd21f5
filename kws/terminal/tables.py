"""What a person sees in the terminal: progress while it lasts, tables at the end. Plain lines where stdout is none."""

import json
import math
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from kws import metrics
from kws.formatting import count, percentage_points, seconds
from kws.terminal.progress import console
from kws.training.run_folder import read_config, read_summary


def corpus(corpus, config):
    """Print splits, clips, speakers and the fingerprint of a loaded Corpus."""
    title = "synthetic corpus (espeak-ng, no real speech)" if config.data == "synthetic" else "Speech Commands v0.02"
    table = Table(title=title, title_justify="left")
    for name in ("split", *config.words, "speakers"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for name in ("training", "validation", "testing"):
        split = getattr(corpus, name)
        counts = [f"{int((split.labels == label).sum()):,}" for label in range(len(config.words))]
        table.add_row(name, *counts, f"{len(split.speakers):,}")
    console.print(table)
    line(f"folder       {corpus.folder}")
    console.print(f"fingerprint  {corpus.fingerprint}")


def run(folder):
    """Print a finished run's result and where to look next."""
    config, summary = read_config(Path(folder)), read_summary(Path(folder))
    table = Table(title=f"{config['run_name']} ({config['run_id']})", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    clips = config["data_info"]["test"]
    for name, value in (
        ("data", "synthetic" if config["data_info"]["synthetic"] else config["data"]),
        ("best epoch on validation", f"{summary['best/epoch']}"),
        ("validation accuracy", f"{summary['best/val_accuracy']:.2%}"),
        ("test accuracy", f"{summary['test/accuracy']:.2%} ({summary['test/errors']} of {clips} misclassified)"),
        ("parameters", f"{summary['model/params']:,}"),
        ("FLOPs a clip (network)", f"{summary['model/flops'] / 1e6:.2f} M"),
        ("epoch time (median)", f"{summary['time/epoch_s_median']:.2f} s"),
        ("run time", f"{summary['time/run_s']:.1f} s"),
    ):
        table.add_row(name, value)
    console.print(table)
    line(f"run folder   {folder}")
    if summary[metrics.WANDB_URL]:
        line(f"on W&B       {summary['wandb/url']}")
    if summary[metrics.WANDB_SYNC_DIR]:
        line("look at it   wandb leet")
        line(f"upload it    wandb sync {summary['wandb/sync_dir']}")


def predictions(heard, as_json):
    """Print Predictions: a row a file, or JSON with every window."""
    if as_json:
        print(json.dumps([vars(prediction) for prediction in heard], indent=2))
        return
    if not console.is_terminal:  # lines that other programs can cut apart
        for prediction in heard:
            fields = (
                prediction.file,
                prediction.word,
                f"{prediction.probability:.4f}",
                f"{prediction.milliseconds:.2f} ms",
            )
            print(*fields, sep="\t")
        return
    table = Table()
    for name in ("file", "word", "probability", "at", "ms a clip"):
        table.add_column(name, justify="left" if name in ("file", "word") else "right", overflow="fold")
    for prediction in heard:
        table.add_row(
            Text(prediction.file), prediction.word, f"{prediction.probability:.4f}", f"{prediction.start_s:.1f} s",
            f"{prediction.milliseconds:.2f}",
        )  # fmt: skip
    console.print(table)


def sweep_status(status):
    """Print how a sweep stands: expected, finished, running, failed, missing configurations, the last two by name."""
    counts = {"finished": status.finished, "running": status.running}
    counts |= {"failed": len(status.failed), "missing": len(status.missing)}
    figures = ", ".join(f"{number} {name}" for name, number in counts.items())
    line(f"sweep {status.sweep_id}: {status.expected} configurations expected, {figures}")
    for name, reason in status.failed.items():
        line(f"  failed   {name}: {reason}")
    for name in status.missing:
        line(f"  missing  {name}")


def report(found, excluded, page):
    """Print a report's studies as tables, the runs it left out, and where it lies."""
    for study in found:
        console.print(study_table(study))
    for run in excluded:
        line(f"left out: {run.name}: {run.reason}")
    line(f"report       {page}")


def study_table(study):
    """Return the comparison as a rich Table for the terminal, for 80 columns. Accuracies are in percent."""
    title = f"{study.title}{' (synthetic data)' if study.synthetic else ''}: test accuracy over seeds"
    result = Table(
        title=Text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
        caption_justify="left",
    )
    for head in (
        _axis_name(study),
        "seeds",
        "val %",
        "test % ± sd",
        "95 % interval",
        "params",
        "FLOPs",
        "epoch",
    ):
        result.add_column(Text(head), justify="left" if head == _axis_name(study) else "right")
    shown = (
        sorted(study.configurations, key=lambda configuration: -configuration.val.mean)[:20]
        if study.is_search
        else study.configurations
    )
    for configuration in shown:
        mark = " *" if configuration is study.recommended and study.recommends else ""
        spread = not math.isnan(configuration.test.sd)
        result.add_row(
            Text(configuration.short_label + mark),
            str(configuration.val.n),
            percentage_points(configuration.val.mean),
            f"{percentage_points(configuration.test.mean)} ± {percentage_points(configuration.test.sd)}"
            if spread
            else percentage_points(configuration.test.mean),
            f"{percentage_points(configuration.test.low)}–{percentage_points(configuration.test.high)}"
            if spread
            else "one run",
            count(configuration.params),
            count(configuration.flops),
            seconds(configuration.epoch_s.mean),
        )
    if study.recommends:
        result.caption = "* recommended, by validation accuracy; test accuracy is only reported"
    return result


def _axis_name(study):
    return ", ".join(study.parameters) or "configuration"


def line(text):
    """Print one line as it is, however long."""
    console.print(text, soft_wrap=True, markup=False)
