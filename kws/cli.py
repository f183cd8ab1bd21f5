"""The command line: parses, calls one function, prints."""

import argparse
import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kws import __version__
from kws.config import SETTINGS, Config, parse_flags, recorded, resolve
from kws.errors import KwsError, notify
from kws.files import read_yaml, write_text

EPILOG = "Every setting of a run is a flag of kws train, a key of its YAML file and a sweep parameter: kws train --help"
PATH = os.path.expanduser  # the shell leaves the ~ in --out=~/report alone
WANDB_FOLDERS = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR")
CLIPS_PER_UNKNOWN_WORD = 40
THRESHOLD = 0.9  # of kws listen
DATA_DIR_HELP = "the folder that holds SpeechCommands/ or your own WORD/*.wav (default: $KWS_DATA or data)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 (it failed), 2 (bad input), 128 + signal."""
    # The 200,000 objects that a run imports live to its end; not looking for garbage among them saves a second.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    for name in WANDB_FOLDERS:
        if name in os.environ:
            os.environ[name] = PATH(os.environ[name])
    try:
        options, flags = _parser().parse_known_args(arguments)
        if flags and options.command != "train":
            command = f"kws {options.command}"
            raise KwsError(f"{flags[0]!r} is not an argument of {command}; see {command} --help")
        status: int = options.run(options, flags) if options.command == "train" else options.run(options)
        print(end="", flush=True)  # a reader that has gone is noticed here; stdout is None where it was closed
        return status
    except KwsError as error:
        notify(str(error))
        return 2
    except KeyboardInterrupt:
        notify("stopped")
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (kws … | head). Python must not flush into the pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise KwsError(f"{message}; see {self.prog} --help")


def _parser() -> _Parser:
    parser = _Parser(prog="kws", description=sys.modules["kws"].__doc__, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"kws {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Callable[..., int], help: str, **options: Any) -> _Parser:
        sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False, **options)
        sub.set_defaults(run=run)
        return sub

    data = command("data", _data, "download, verify and cache Speech Commands, or generate the synthetic corpus")
    data.add_argument("--root", type=PATH, metavar="DIR", help=DATA_DIR_HELP)
    data.add_argument("--words", default="no,yes", help="the keywords, or yes-no, core10, all35 (default: no,yes)")
    data.add_argument("--speaker_from", help="own recordings: pattern for the speaker in a file's name; see kws train")
    archive = "use this speech_commands_v0.02.tar.gz instead of the network"
    test_set = "download the official test set of the twelve-label task, for runs with _unknown_ or _silence_"
    data.add_argument("--test-set", action="store_true", help=test_set)
    data.add_argument("--archive", type=PATH, metavar="FILE", help=archive)
    data.add_argument("--synthetic", action="store_true", help="generate a synthetic corpus with espeak-ng instead")
    data.add_argument("--clips", type=int, help="synthetic: number of clips (default: 4368)")
    unknown = "synthetic: instead generate so many words other than --words, to train _unknown_ with"
    data.add_argument("--unknown_words", type=int, metavar="N", help=unknown)
    data.add_argument("--seed", type=int, help="synthetic: seed of the voices (default: 0)")

    usage = "kws train [--config FILE.yaml] [--resume RUN_ID] [--KEY=VALUE ...]"
    train = command("train", _train, "one tracked run", usage=usage, epilog=_settings_help())
    train.formatter_class = argparse.RawDescriptionHelpFormatter  # keeps the lines of the epilog
    train.add_argument(
        "--config", type=PATH, metavar="FILE", help="settings from a YAML file; flags take precedence over it"
    )
    train.add_argument("--resume", metavar="RUN_ID", help="resume a run from its last checkpoint")

    sweep = command("sweep", _sweep, "run a W&B sweep file without a server; resumable: re-run the command")
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

    report = command("report", _report, "one page from finished runs: index.html, figures, runs.csv, report.md")
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
        "--margin", default="0.5", metavar="POINTS",
        help="loss of accuracy, in percentage points, that counts as none in the recommendation (default: 0.5)",
    )  # fmt: skip
    report.add_argument("--publish", action="store_true", help="also publish it as a W&B report and workspace")

    predict = command("predict", _predict, "classify recordings with a trained model")
    files = "recordings: WAV, FLAC, Ogg, MP3 and others; - is standard input"
    predict.add_argument("files", nargs="+", type=PATH, metavar="FILE", help=files)
    predict.add_argument("--json", action="store_true", help="print JSON")

    listen = command("listen", _listen, "detect keywords in long recordings, standard input or the microphone")
    files = "recordings of any length; - is a WAV stream on standard input (default: the microphone)"
    listen.add_argument("files", nargs="*", type=PATH, metavar="FILE", help=files)
    threshold = f"smoothed probability at which a keyword is detected (default: {THRESHOLD})"
    listen.add_argument("--threshold", type=float, default=THRESHOLD, metavar="P", help=threshold)
    listen.add_argument("--json", action="store_true", help="print one JSON object per line")
    for one in (predict, listen):
        one.add_argument("--model", type=PATH, required=True, metavar="RUN", help="a run id, a run folder or a best.pt")
        run_dir = "where to look up run ids (default: runs)"
        one.add_argument("--run_dir", type=PATH, default="runs", metavar="DIR", help=run_dir)

    export = command("export", _export, "write a trained model as ONNX, with a model card beside it")
    export.add_argument("--out", type=PATH, required=True, metavar="FILE.onnx", help="the file to write")
    clips = "where the run's data is, for the check on validation clips (default: as in the run)"
    export.add_argument("--data_dir", type=PATH, metavar="DIR", help=clips)
    export.add_argument("--int8", action="store_true", help="also write a quantised model, FILE.int8.onnx")
    demo = command("demo", _demo, "one web page with a trained model that listens to the microphone; works offline")
    demo.add_argument("--out", type=PATH, metavar="FILE.html", help="write the page instead of serving and opening it")
    for sub in (export, demo):
        sub.add_argument("model", type=PATH, metavar="RUN", help="a run id or a run folder")
        sub.add_argument("--run_dir", type=PATH, default="runs", metavar="DIR", help=run_dir)

    doctor = command("doctor", _doctor, "check what is installed, found and reachable, with suggested fixes")
    doctor.add_argument("--data_dir", type=PATH, metavar="DIR", help=DATA_DIR_HELP)
    doctor.add_argument("--words", help="the two words (default: no,yes)")
    doctor.add_argument("--run_dir", type=PATH, metavar="DIR", help="the folder of run folders (default: runs)")
    return parser


def _settings_help() -> str:
    defaults = Config().as_dict() | {"words": ",".join(Config().words)}
    lines = ["settings (--n_mels=40, --n_mels 40 and --n-mels 40 mean the same):"]
    for item in SETTINGS.values():
        choices = f" ({', '.join(item.metadata['choices'])})" if item.metadata["choices"] else ""
        lines.append(f"  --{item.name:<14} {item.metadata['help']}{choices} [{defaults[item.name]}]")
    return "\n".join(lines)


def _data(options: argparse.Namespace) -> int:
    from kws.terminal import progress, tables

    settings = {"words": options.words} | ({"data_dir": options.root} if options.root else {})
    settings |= {"data": "synthetic"} if options.synthetic else {}
    settings |= {"speaker_from": options.speaker_from} if options.speaker_from is not None else {}
    config = resolve(("kws data", settings))
    for name, is_synthetic in (("archive", False), ("clips", True), ("seed", True), ("unknown_words", True)):
        if getattr(options, name) is not None and is_synthetic != options.synthetic:
            raise KwsError(f"--{name}: is for {'--synthetic' if is_synthetic else 'the real data'}; leave it out")
    if options.synthetic:
        from kws.data.synthetic.corpus import generate
        from kws.data.synthetic.vocabulary import unknown_words

        with progress.bar("generating", unit="clips") as advance:
            given = {name: getattr(options, name) for name in ("clips", "seed") if getattr(options, name) is not None}
            if options.unknown_words is not None:
                words = unknown_words(config.words, options.unknown_words)
                given = {"clips": CLIPS_PER_UNKNOWN_WORD * len(words)} | given
                folder = generate(config.data_dir, words, **given, progress=advance, data="synthetic_unknown")
                print(f"{len(words)} unknown words in {folder}: {', '.join(words)}")
                return 0
            generate(config.data_dir, config.words, **given, progress=advance)
    elif options.test_set:
        from kws.data.fetch import fetch_test_set

        with progress.bar("downloading", unit="bytes") as advance:
            print(f"test set  {fetch_test_set(config.data_dir, options.archive, progress=advance)}")
        return 0
    else:
        from kws.data.fetch import fetch

        with progress.bar("downloading", unit="bytes") as advance:
            fetch(config.data_dir, config.words, options.archive, progress=advance)
    from kws.data.corpus import load

    corpus = load(config.data_dir, config.data, config.words, progress.notify, speaker_from=config.speaker_from)
    tables.corpus(corpus, config)
    return 0


def _train(options: argparse.Namespace, flags: list[str]) -> int:
    from kws.terminal import progress, tables

    layers = [("flag", parse_flags(flags))]
    if options.config:
        layers.insert(0, (options.config, read_yaml(options.config)))
    config = resolve(*layers)
    if options.resume is not None:
        config = _resumed_config(config, options.resume, layers)
    from kws.train import train
    from kws.training.run import Diverged, Stopped

    try:
        with progress.epochs(config) as on_epoch:
            folder = train(config, options.resume, bool(options.resume), None, on_epoch, progress.notify)
    except (Diverged, Stopped) as error:
        notify(str(error))
        # W&B's agent gives up after a few statuses above 0, but stopping runs is part of a sweep.
        return 0 if isinstance(error, Stopped) and "WANDB_SWEEP_ID" in os.environ else 1
    tables.run(folder)
    return 0


def _resumed_config(config: Config, run_id: str, layers: list[tuple[str, dict[str, Any]]]) -> Config:
    """Return the recorded config of a run, with the flags applied."""
    from kws.training.run_folder import CONFIG, read_config
    from kws.training.wandb_variables import check_run_id

    check_run_id(run_id)
    folder = Path(os.path.expanduser(config.run_dir)) / run_id
    if not folder.is_dir():
        raise KwsError(f"run {run_id}: there is no run folder {folder}; name a run in --run_dir {config.run_dir}")
    try:
        record = read_config(folder)
    except KwsError as error:
        raise KwsError(f"{error}; start a new run") from error
    path = str(folder / CONFIG)
    # The folder may have moved since: continue where it was found.
    return resolve((path, recorded(path, record).as_dict() | {"run_dir": config.run_dir}), *layers)


def _sweep(options: argparse.Namespace) -> int:
    from kws.sweep import runner

    what = (options.file, options.assignments, options.storage, options.count)
    if options.status:
        from kws.terminal import tables

        tables.sweep_status(runner.status(*what))
        return 0
    from kws.terminal.sweep import make_display, print_outcome

    status = runner.run(*what, make_display, options.jobs, options.retry_failed, options.retry_stale)
    print_outcome(status)
    return status.exit_status


def _report(options: argparse.Namespace) -> int:
    from kws.analysis.load import load
    from kws.analysis.study import studies
    from kws.data.layout import dataset_folder
    from kws.report.write import check_out, write
    from kws.terminal import progress, tables

    margin = _margin(options.margin)
    check_out(Path(options.out))
    if options.data_dir and not (folder := dataset_folder(options.data_dir, "speech_commands").parent).is_dir():
        raise KwsError(f"--data_dir: {folder} does not exist; give the folder that holds SpeechCommands/")
    with progress.bar("reading runs", unit="runs") as advance:
        results = load(options.sources or ["runs"], progress=advance)
    found = studies(results, margin)
    page = write(found, results.excluded, options.out, options.data_dir)
    tables.report(found, results.excluded, page)
    if options.publish:
        from kws.report.wandb_report import project_of, publish

        for what, url in publish(found, *project_of(results.runs, options.sources)).items():
            tables.line(f"{what:<12} {url}")
    return 0


def _margin(text: str) -> float:
    """Return the margin as a fraction."""
    try:
        points = float(text)
    except ValueError:
        points = 0.0
    if not 0 < points <= 100:
        raise KwsError(f"--margin: is {text!r}, but must be a number of percentage points above 0, such as 0.5")
    return points / 100


def _predict(options: argparse.Namespace) -> int:
    from kws.inference.predict import Prediction, Predictor
    from kws.inference.recording import shown
    from kws.terminal import tables

    predictor = Predictor(options.model, options.run_dir)
    status = 0

    def predictions() -> Iterator[Prediction]:
        nonlocal status
        for file in options.files:  # one bad file does not affect the others
            try:
                prediction = predictor.predict(file)
            except KwsError as error:
                status = 2
                notify(str(error))
                continue
            for notice in prediction.notices:
                notify(f"{shown(file)}: {notice}")
            yield prediction

    tables.predictions(predictions(), options.json)
    return status


def _export(options: argparse.Namespace) -> int:
    from kws.inference.export import export
    from kws.terminal import tables

    for fact, text in export(options.model, options.run_dir, options.out, options.data_dir, options.int8):
        tables.line(f"{fact:<12} {text}")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from kws.inference.demo import demo_page, serve

    page = demo_page(options.model, options.run_dir)
    if options.out is None:
        serve(page, notify)
        return 0
    try:
        write_text(options.out, page)
    except OSError as error:
        raise KwsError(f"--out: {options.out} cannot be written ({error.strerror}); choose another place") from error
    print(options.out)
    return 0


def _listen(options: argparse.Namespace) -> int:
    from kws.config import SILENCE, UNKNOWN
    from kws.inference.listen import detections, microphone
    from kws.inference.predict import Predictor
    from kws.inference.recording import read_blocks, shown
    from kws.terminal import tables

    if not 0 < options.threshold <= 1:
        raise KwsError(f"--threshold: is {options.threshold}, but must be a probability above 0 and at most 1")
    predictor = Predictor(options.model, options.run_dir)
    if missing := [label for label in (UNKNOWN, SILENCE) if label not in predictor.labels]:
        wanted = " ".join(f"--{label.strip('_')}=true" for label in missing)
        notify(f"the model has no label {' or '.join(missing)}: other sounds are keywords to it; train with {wanted}")
    status = 0
    for file in options.files or ["microphone"]:
        notices: list[str] = []
        blocks = read_blocks(file, notices, is_live=True) if options.files else microphone()
        try:
            for detection in detections(predictor, blocks, options.threshold):
                tables.detection(file, detection, options.json)
        except KwsError as error:
            status = 2
            notify(str(error))
        for notice in notices:
            notify(f"{shown(file)}: {notice}")
    return status


def _doctor(options: argparse.Namespace) -> int:
    from kws import doctor
    from kws.terminal.progress import console

    given = {name: getattr(options, name) for name in ("data_dir", "run_dir", "words") if getattr(options, name)}
    checks = doctor.report(resolve(("kws doctor", given)))
    doctor.show(checks, console)
    return doctor.exit_status(checks)
