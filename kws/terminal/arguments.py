"""The arguments of the command line: every command, its flags and their help."""

import argparse
import os
import sys
from typing import Any, NoReturn

from kws import __version__
from kws.config import SETTINGS, Config
from kws.errors import KwsError

EPILOG = "Every setting of a run is a flag of kws train, a key of its YAML file and a sweep parameter: kws train --help"
PATH = os.path.expanduser  # the shell leaves the ~ in --out=~/report alone
DATA_DIR_HELP = "the folder that holds SpeechCommands/ or your own WORD/*.wav (default: $KWS_DATA or data)"
THRESHOLD = 0.9  # of kws listen


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise KwsError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; `command` in what it parses is the command's name."""
    top = _Parser(prog="kws", description=sys.modules["kws"].__doc__, epilog=EPILOG, allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"kws {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, help: str, **options: Any) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help, allow_abbrev=False, **options)

    data = command("data", "download, verify and cache Speech Commands, or generate the synthetic corpus")
    data.add_argument("--root", type=PATH, metavar="DIR", help=DATA_DIR_HELP)
    data.add_argument("--words", default="no,yes", help="the keywords, or yes-no, core10, all35 (default: no,yes)")
    data.add_argument("--speaker_from", help="own recordings: pattern for the speaker in a file's name; see kws train")
    archive = "use this speech_commands_v0.02.tar.gz instead of the network"
    test_set = "download the official test set of the twelve-label task, for runs with _unknown_ or _silence_"
    data.add_argument("--test-set", action="store_true", default=None, help=test_set)
    data.add_argument("--archive", type=PATH, metavar="FILE", help=archive)
    data.add_argument("--synthetic", action="store_true", help="generate a synthetic corpus with espeak-ng instead")
    data.add_argument("--clips", type=int, help="synthetic: number of clips (default: 4368)")
    unknown = "synthetic: instead generate so many words other than --words, to train _unknown_ with"
    data.add_argument("--unknown_words", type=int, metavar="N", help=unknown)
    data.add_argument("--seed", type=int, help="synthetic: seed of the voices (default: 0)")

    usage = "kws train [--config FILE.yaml] [--resume RUN_ID] [--KEY=VALUE ...]"
    train = command("train", "one tracked run", usage=usage, epilog=_settings_help())
    train.formatter_class = argparse.RawDescriptionHelpFormatter  # keeps the lines of the epilog
    train.add_argument(
        "--config", type=PATH, metavar="FILE", help="settings from a YAML file; flags take precedence over it"
    )
    train.add_argument("--resume", metavar="RUN_ID", help="resume a run from its last checkpoint")

    sweep = command("sweep", "run a W&B sweep file without a server; resumable: re-run the command")
    sweep.add_argument("file", type=PATH, metavar="SWEEP.yaml")
    sweep.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="override a fixed parameter or narrow a swept one: epochs=3 seed=0,1",
    )
    sweep.add_argument("--jobs", type=int, metavar="N", help="trials at once (default: one per CPU)")
    sweep.add_argument(
        "--storage",
        type=PATH,
        metavar="URL",
        help="share the sweep through an Optuna storage: postgresql://… or the path of a journal file",
    )
    sweep.add_argument("--count", type=int, metavar="N", help="trials of a random or bayes sweep, instead of run_cap")
    sweep.add_argument("--status", action="store_true", help="print the state of the sweep and start nothing")
    sweep.add_argument("--retry-failed", action="store_true", help="run failed trials again")
    sweep.add_argument("--retry-stale", action="store_true", help="run trials again that other code finished")

    report = command("report", "one page from finished runs: index.html, figures, runs.csv, report.md")
    report.add_argument(
        "sources",
        nargs="*",
        type=PATH,
        metavar="SOURCE",
        help="run folders, folders of them, ENTITY/PROJECT or a sweep's path on W&B (default: runs)",
    )
    report.add_argument(
        "--out", type=PATH, default="report", metavar="DIR", help="the folder to write (default: report)"
    )
    report.add_argument("--data_dir", type=PATH, metavar="DIR", help=f"for the clips' sound: {DATA_DIR_HELP}")
    report.add_argument(
        "--margin", type=_margin, default="0.5", metavar="POINTS",
        help="loss of accuracy, in percentage points, that counts as none in the recommendation (default: 0.5)",
    )  # fmt: skip
    report.add_argument("--publish", action="store_true", help="also publish it as a W&B report and workspace")

    predict = command(
        "predict", "classify recordings; a model knows only its labels, so see the setting unknown of kws train"
    )
    files = "recordings: WAV, FLAC, Ogg, MP3 and others; - is standard input"
    predict.add_argument("files", nargs="+", type=PATH, metavar="FILE", help=files)
    predict.add_argument("--json", action="store_true", help="print JSON")

    listen = command("listen", "detect keywords in long recordings, standard input or the microphone")
    files = "recordings of any length; - is a WAV stream on standard input (default: the microphone)"
    listen.add_argument("files", nargs="*", type=PATH, metavar="FILE", help=files)
    threshold = f"smoothed probability at which a keyword is detected (default: {THRESHOLD})"
    listen.add_argument("--threshold", type=float, default=THRESHOLD, metavar="P", help=threshold)
    evaluate = "print misses and false alarms per hour; the file names the keywords said: columns file, time, label"
    measure = listen.add_mutually_exclusive_group()
    measure.add_argument("--evaluate", type=PATH, metavar="LABELS.csv", help=evaluate)
    calibrate = "choose the threshold for at most N false alarms per hour, on the run's validation clips in noise"
    measure.add_argument("--calibrate", type=float, metavar="N", help=calibrate)
    plot = "with --evaluate or --calibrate: also draw the curve of misses and false alarms as PATH.png and PATH.svg"
    listen.add_argument("--plot", type=PATH, metavar="PATH", help=plot)
    where = "for --calibrate: where the run's data is (default: as in the run)"
    listen.add_argument("--data_dir", type=PATH, metavar="DIR", help=where)
    listen.add_argument("--json", action="store_true", help="print one JSON object per line")
    for one in (predict, listen):
        one.add_argument("--model", type=PATH, required=True, metavar="RUN", help="a run id, a run folder or a best.pt")
        run_dir = "where to look up run ids (default: runs)"
        one.add_argument("--run_dir", type=PATH, default="runs", metavar="DIR", help=run_dir)

    export = command("export", "write a trained model as ONNX, with a model card beside it")
    export.add_argument("--out", type=PATH, required=True, metavar="FILE.onnx", help="the file to write")
    clips = "where the run's data is, for the check on validation clips (default: as in the run)"
    export.add_argument("--data_dir", type=PATH, metavar="DIR", help=clips)
    export.add_argument("--int8", action="store_true", help="also write a quantised model, FILE.int8.onnx")
    demo = command("demo", "one web page with a trained model that listens to the microphone; works offline")
    demo.add_argument("--out", type=PATH, metavar="FILE.html", help="write the page instead of serving and opening it")
    for sub in (export, demo):
        sub.add_argument("model", type=PATH, metavar="RUN", help="a run id or a run folder")
        sub.add_argument("--run_dir", type=PATH, default="runs", metavar="DIR", help=run_dir)

    record = command("record", "record your own clips with the microphone, as WORD/SPEAKER_nohash_N.wav")
    record.add_argument("--words", required=True, help="the words to say, such as no,yes")
    record.add_argument(
        "--clips", type=int, default=20, metavar="N", help="of each word, with earlier ones (default: 20)"
    )
    record.add_argument("--speaker", metavar="NAME", help="who speaks; only a hash is stored (default: asks)")
    own = "the folder for them, which kws train takes as --data_dir (default: recordings)"
    record.add_argument("--out", type=PATH, default="recordings", metavar="DIR", help=own)

    doctor = command("doctor", "check what is installed, found and reachable, with suggested fixes")
    doctor.add_argument("--data_dir", type=PATH, metavar="DIR", help=DATA_DIR_HELP)
    doctor.add_argument("--words", help="the keywords (default: no,yes)")
    doctor.add_argument("--run_dir", type=PATH, metavar="DIR", help="the folder of run folders (default: runs)")
    return top


def _margin(text: str) -> float:
    """Return the margin as a fraction."""
    try:
        points = float(text)
    except ValueError:
        points = 0.0
    if not 0 < points <= 100:
        raise KwsError(f"--margin: is {text!r}, but must be a number of percentage points above 0, such as 0.5")
    return points / 100


def _settings_help() -> str:
    defaults = Config().as_dict() | {"words": ",".join(Config().words)}
    lines = ["settings (--n_mels=40, --n_mels 40 and --n-mels 40 mean the same):"]
    for item in SETTINGS.values():
        choices = f" ({', '.join(item.metadata['choices'])})" if item.metadata["choices"] else ""
        lines.append(f"  --{item.name:<14} {item.metadata['help']}{choices} [{defaults[item.name]}]")
    return "\n".join(lines)
