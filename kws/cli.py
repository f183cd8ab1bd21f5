"""The commands: each parses, calls one function, prints. kws/terminal/arguments.py has their arguments."""

import argparse
import atexit
import codecs
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from kws.config import Config, parse_flags, recorded, resolve
from kws.errors import PATH_FAULTS, KwsError, notify
from kws.files import read_yaml, write_text
from kws.formatting import one_line
from kws.terminal.arguments import parser

if TYPE_CHECKING:
    from kws.inference.predict import Predictor

WANDB_FOLDERS = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR")
CLIPS_PER_UNKNOWN_WORD = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 (it failed), 2 (bad input), 128 + signal."""
    # The 200,000 objects that a run imports live to its end; not looking for garbage among them saves a second.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    for name in WANDB_FOLDERS:
        if name in os.environ:
            os.environ[name] = os.path.expanduser(os.environ[name])
    codecs.register_error("kws", _encode)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="kws")
    try:
        options, flags = parser().parse_known_args(arguments)
        if flags and options.command != "train":
            command = f"kws {options.command}"
            raise KwsError(f"{flags[0]!r} is not an argument of {command}; see {command} --help")
        status = _train(options, flags) if options.command == "train" else COMMANDS[options.command](options)
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
    except OSError as error:
        if error.errno not in PATH_FAULTS or error.filename is None:
            raise
        notify(f"{one_line(error.filename)}: cannot be read or written ({error.strerror}); give another path")
        return 2


def _encode(error: UnicodeError) -> tuple[bytes, int]:
    """Return what is printed for characters that stdout lacks: ?, or the bytes of a file name that are not text."""
    assert isinstance(error, UnicodeEncodeError)
    codes = map(ord, error.object[error.start : error.end])
    return bytes(code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else ord("?") for code in codes), error.end


def _data(options: argparse.Namespace) -> int:
    from kws.terminal import progress, tables

    settings = {"words": options.words} | ({"data_dir": options.root} if options.root else {})
    settings |= {"data": "synthetic"} if options.synthetic else {}
    settings |= {"speaker_from": options.speaker_from} if options.speaker_from is not None else {}
    config = resolve(("kws data", settings))
    only = {"archive": False, "test-set": False, "clips": True, "seed": True, "unknown_words": True}
    for name, is_synthetic in only.items():
        if getattr(options, name.replace("-", "_")) is not None and is_synthetic != options.synthetic:
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

    check_out(Path(options.out))
    if options.data_dir and not (folder := dataset_folder(options.data_dir, "speech_commands").parent).is_dir():
        raise KwsError(f"--data_dir: {folder} does not exist; give the folder that holds SpeechCommands/")
    with progress.bar("reading runs", unit="runs") as advance:
        results = load(options.sources or ["runs"], progress=advance)
    found = studies(results, options.margin)
    page = write(found, results.excluded, options.out, options.data_dir)
    tables.report(found, results.excluded, page)
    if options.publish:
        from kws.report.wandb_report import project_of, publish

        for what, url in publish(found, *project_of(results.runs, options.sources)).items():
            tables.line(f"{what:<12} {url}")
    return 0


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
    from kws.inference.listen import detect, moments
    from kws.inference.microphone import microphone
    from kws.inference.predict import Predictor
    from kws.inference.recording import read_blocks, shown
    from kws.terminal import tables
    from kws.terminal.listening import LiveView

    if not 0 < options.threshold <= 1:
        raise KwsError(f"--threshold: is {options.threshold}, but must be a probability above 0 and at most 1")
    predictor = Predictor(options.model, options.run_dir)
    if missing := [label for label in (UNKNOWN, SILENCE) if label not in predictor.labels]:
        wanted = " ".join(f"--{label.strip('_')}=true" for label in missing)
        notify(f"the model has no label {' or '.join(missing)}: other sounds are keywords to it; train with {wanted}")
    if options.evaluate or options.calibrate is not None:
        return _rates(options, predictor)
    if options.plot:
        raise KwsError("--plot: needs --evaluate or --calibrate; add one of them")
    status = 0
    with LiveView(predictor.labels, not options.json) as view:
        for file in options.files or ["microphone"]:
            notices: list[str] = []
            blocks = read_blocks(file, notices, is_live=True) if options.files else microphone()
            try:
                for detection in detect(view.watch(moments(predictor, blocks)), options.threshold):
                    tables.detection(file, detection, options.json)
            except KwsError as error:
                status = 2
                notify(str(error))
            for notice in notices:
                notify(f"{shown(file)}: {notice}")
    return status


def _rates(options: argparse.Namespace, predictor: "Predictor") -> int:
    from kws.inference import material, rates
    from kws.terminal import tables

    threshold, facts = options.threshold, {}
    if options.evaluate:
        if not options.files:
            raise KwsError("--evaluate: needs the recordings whose keywords the file names; give them")
        evaluated = rates.evaluate_files(predictor, options.files, options.evaluate, notify)
        curve = rates.curve(evaluated, [*rates.THRESHOLDS, threshold])
    else:
        if options.files or not 0 <= options.calibrate < float("inf"):
            raise KwsError("--calibrate: needs false alarms per hour, from 0, and no FILE: it takes the run's own data")
        config = replace(predictor.config, data_dir=options.data_dir or predictor.config.data_dir)
        made = material.Material(config, "validation", material.CALIBRATION_H)
        curve = rates.curve([rates.evaluate(predictor, made.blocks(), made.keywords)], rates.THRESHOLDS)
        threshold = rates.at_most(curve, options.calibrate).threshold
        place = "" if options.run_dir == "runs" else f" --run_dir {quote(options.run_dir)}"
        command = f"kws listen --model {quote(options.model)}{place} --threshold {threshold:g}"
        facts = {"other_words": made.others, "command": command}
    if options.plot:
        from kws.report.det import det_curve
        from kws.report.vega import save

        try:
            save(det_curve(curve, threshold), Path(options.plot))
        except OSError as error:
            raise KwsError(f"--plot: {options.plot} cannot be written ({error.strerror}); choose another") from error
    tables.rates(curve, threshold, options.json, **facts)
    return 0


def _record(options: argparse.Namespace) -> int:
    from kws.terminal.recorder import session

    session(Path(options.out), resolve(("kws record", {"words": options.words})).words, options.clips, options.speaker)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from kws import doctor
    from kws.terminal.progress import console

    given = {name: getattr(options, name) for name in ("data_dir", "run_dir", "words") if getattr(options, name)}
    checks = doctor.report(resolve(("kws doctor", given)))
    doctor.show(checks, console)
    return doctor.exit_status(checks)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "data": _data, "sweep": _sweep, "report": _report, "predict": _predict, "listen": _listen, "export": _export,
    "demo": _demo, "record": _record, "doctor": _doctor,
}  # fmt: skip
