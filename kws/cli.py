"""The command line: parses, calls one function, prints."""

import argparse
import atexit
import gc
import os
import sys
from dataclasses import MISSING

from kws import __version__
from kws.errors import KwsError

EPILOG = "Every setting of a run is a flag of kws train, a key of its YAML file and a sweep parameter: kws train --help"


def main(arguments=None):
    """Run one command and return its exit status: 0, 1 (it failed), 2 (bad input), 128 + signal."""
    collect_less_garbage()
    try:
        options, flags = _parser().parse_known_args(arguments)
        if flags and options.command != "train":
            command = f"kws {options.command}"
            raise KwsError(f"{flags[0]!r} is not an argument of {command}; see {command} --help")
        status = options.run(options, flags) if options.command == "train" else options.run(options)
        print(end="", flush=True)  # a reader that has gone is noticed here; stdout is None where it was closed
        return status or 0
    except KwsError as error:
        print(f"kws: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("kws: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (kws … | head). Python must not flush into the pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def collect_less_garbage():
    """Save a second of a run: the 200,000 objects that it imports live to its end.

    Python would look through them for garbage again and again while they come, and once more at exit.
    """
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)


class _Parser(argparse.ArgumentParser):
    more_help = None  # makes the text that help ends with

    def format_help(self):
        return super().format_help() + (f"\n{self.more_help()}\n" if self.more_help else "")

    def error(self, message):
        raise KwsError(f"{message}; see {self.prog} --help")


def _parser():
    parser = _Parser(prog="kws", description=sys.modules["kws"].__doc__, epilog=EPILOG, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"kws {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name, run, help, **options):
        sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False, **options)
        sub.set_defaults(run=run)
        return sub

    data = command("data", _data, "fetch Speech Commands' chosen words, or speak the synthetic corpus, and verify")
    data.add_argument("--root", metavar="DIR", help="the folder of SpeechCommands/ (default: $KWS_DATA or data)")
    data.add_argument("--words", default="no,yes", help="the two words (default: no,yes)")
    data.add_argument("--archive", metavar="FILE", help="take this speech_commands_v0.02.tar.gz instead of the network")
    data.add_argument("--synthetic", action="store_true", help="speak a synthetic corpus with espeak-ng instead")
    data.add_argument("--clips", type=int, help="synthetic: how many clips (default: 4368)")
    data.add_argument("--seed", type=int, help="synthetic: of the voices (default: 0)")

    usage = "kws train [--config FILE.yaml] [--resume RUN_ID] [--KEY=VALUE ...]"
    train = command("train", _train, "one tracked run", usage=usage)
    train.more_help = _settings_help
    train.add_argument("--config", metavar="FILE", help="settings from a YAML file; flags win over it")
    train.add_argument("--resume", metavar="RUN_ID", help="go on with a run from its last checkpoint")

    sweep = command("sweep", _sweep, "a W&B sweep file, run without a server; run again, it goes on")
    sweep.add_argument("file", metavar="SWEEP.yaml")
    sweep.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="override a fixed parameter or narrow a swept one: epochs=3 seed=0,1",
    )
    sweep.add_argument("--jobs", type=int, metavar="N", help="cells at once (default: one a CPU)")
    sweep.add_argument(
        "--storage",
        metavar="URL",
        help="share the sweep over an Optuna storage: postgresql://… or a journal file's path",
    )
    sweep.add_argument("--count", type=int, metavar="N", help="runs of a random or bayes sweep, in place of run_cap")
    sweep.add_argument("--status", action="store_true", help="print how the sweep stands, and start nothing")
    sweep.add_argument("--retry-failed", action="store_true", help="run failed cells again")

    report = command("report", _report, "one page from finished runs: index.html, figures, runs.csv, report.md")
    report.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE",
        help="run folders, folders of them, ENTITY/PROJECT or a sweep's path on W&B (default: runs)",
    )
    report.add_argument("--out", default="report", metavar="DIR", help="where to (default: report)")
    report.add_argument("--data_dir", metavar="DIR", help="where the clips' sound is (default: as the runs say)")
    report.add_argument("--publish", action="store_true", help="also as a W&B report and workspace")

    predict = command("predict", _predict, "what a trained run hears in WAV files")
    predict.add_argument("files", nargs="+", metavar="FILE.wav")
    predict.add_argument("--model", required=True, metavar="RUN", help="a run id, a run folder or a best.pt")
    predict.add_argument("--run_dir", default="runs", metavar="DIR", help="where run ids are looked up (default: runs)")
    predict.add_argument("--json", action="store_true", help="print JSON")

    doctor = command("doctor", _doctor, "what is installed, found and reachable here, and what mends what is not")
    doctor.add_argument("--data_dir", metavar="DIR", help="the folder of SpeechCommands/ (default: $KWS_DATA or data)")
    doctor.add_argument("--run_dir", metavar="DIR", help="the folder of run folders (default: runs)")

    bench = command("bench", _bench, "measure this machine: epochs and their parts, runs, studies, beside a plain loop")
    bench.add_argument("--data_dir", metavar="DIR", help="the folder of SpeechCommands/ (default: $KWS_DATA or data)")
    bench.add_argument("--json", action="store_true", help="print JSON")
    bench.add_argument("--quick", action="store_true", help="measure little, only to see that it works")
    return parser


def _settings_help():
    from kws.config import SETTINGS

    lines = ["settings (--n_mels=40, --n_mels 40 and --n-mels 40 mean the same):"]
    for item in SETTINGS.values():
        default = item.default if item.default is not MISSING else item.default_factory()
        default = ",".join(default) if isinstance(default, tuple) else default
        choices = f" ({', '.join(item.metadata['choices'])})" if item.metadata["choices"] else ""
        lines.append(f"  --{item.name:<14} {item.metadata['help']}{choices} [{default}]")
    return "\n".join(lines)


def _data(options):
    from kws import show
    from kws.config import resolve

    settings = {"words": options.words} | ({"data_dir": options.root} if options.root else {})
    settings |= {"data": "synthetic"} if options.synthetic else {}
    config = resolve(("kws data", settings))
    for name, given, belongs in (
        ("--archive", options.archive is not None, not options.synthetic),
        ("--clips", options.clips is not None, options.synthetic),
        ("--seed", options.seed is not None, options.synthetic),
    ):
        if given and not belongs:
            raise KwsError(
                f"{name}: is for {'--synthetic' if not options.synthetic else 'the real data'}; leave it out"
            )
    if options.synthetic:
        from kws.synthetic import speak

        with show.progress("speaking", unit="clips") as progress:
            given = {"clips": options.clips, "seed": options.seed}
            given = {name: value for name, value in given.items() if value is not None}
            speak(config.data_dir, config.words, **given, progress=progress)
    else:
        from kws.fetch import fetch

        with show.progress("fetching", unit="bytes") as progress:
            fetch(config.data_dir, config.words, options.archive, progress=progress)
    from kws.speech_commands import load

    show.corpus(load(config.data_dir, config.data, config.words, show.notice), config)


def _train(options, flags):
    from kws import show
    from kws.config import parse_flags, read_yaml, resolve

    layers = [("flag", parse_flags(flags))]
    if options.config:
        layers.insert(0, (options.config, read_yaml(options.config)))
    config = resolve(*layers)
    if options.resume:
        config = _resumed_config(config, options.resume, layers)
    from kws.train import Diverged, train

    try:
        with show.epochs(config) as on_epoch:
            folder = train(config, options.resume, bool(options.resume), on_epoch=on_epoch, say=show.notice)
    except Diverged as error:
        print(f"kws: {error}", file=sys.stderr)
        return 1
    show.run(folder)


def _resumed_config(config, run_id, layers):
    """Return the recorded config of a run with the flags laid over it."""
    import json
    from pathlib import Path

    from kws.config import resolve
    from kws.tracking import check_run_id

    check_run_id(run_id)
    path = Path(config.run_dir).expanduser() / run_id / "config.json"
    if not path.is_file():
        raise KwsError(f"run {run_id}: there is no {path} to go on from; name a run in --run_dir {config.run_dir}")
    try:
        recorded = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise KwsError(f"{path}: is not a run's config; start a new run") from error
    # The folder may have moved since: go on where it was found.
    return resolve((str(path), recorded | {"run_dir": config.run_dir}), *layers)


def _predict(options):
    from kws import show
    from kws.predict import Listener

    listener = Listener(options.model, options.run_dir)
    heard, faults = [], []
    for file in options.files:  # one bad file of many takes nothing from the others
        try:
            heard.append(listener.listen(file))
        except KwsError as error:
            faults.append(error)
    if heard:
        show.predictions(heard, options.json)
    for fault in faults:
        show.notice(fault)
    return 2 if faults else 0


def _sweep(options):
    from kws import sweep

    if options.status:
        from kws import show

        show.sweep_status(sweep.status(options.file, options.overrides, options.storage, options.count))
        return 0
    outcome = sweep.run(
        options.file, options.overrides, options.jobs, options.storage, options.count, options.retry_failed
    )
    return outcome.exit_status


def _report(options):
    from kws import report, results, show

    with show.progress("reading runs", unit="runs") as progress:
        found = results.load(options.sources or ["runs"], progress=progress)
    page = report.write(found, options.out, options.data_dir)
    show.report(found, page)
    if options.publish:
        from kws.study import studies
        from kws.wandb_report import project_of, publish

        for what, url in publish(studies(found), *project_of(found, options.sources)).items():
            show.line(f"{what:<12} {url}")
    return 0


def _doctor(options):
    from kws import doctor, show
    from kws.config import resolve

    given = {name: getattr(options, name) for name in ("data_dir", "run_dir") if getattr(options, name)}
    checks = doctor.report(resolve(("kws doctor", given)))
    doctor.show(checks, show.console)
    return doctor.exit_status(checks)


def _bench(options):
    import json

    from kws import bench, show

    config = bench.choose_data(options.data_dir)
    result = bench.run(config, options.quick, progress=show.notice)
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        bench.show(result, show.console)
