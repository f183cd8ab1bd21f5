"""Bad input, kind by kind: the exact line on stderr, exit status 2, no traceback, nothing written.

Each row is (name, arguments, line). In both, {data} is a whole corpus and {work} the empty folder that the command
runs in; `prepare` functions make what a row needs.
"""

import json
import os
import pickle

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY, finish, snapshot, start
from helpers.corpus import make_corpus

from kws import config as kws_config

SETTINGS = ", ".join(kws_config.SETTINGS)
NOT_WORDS = "but must be 2 to 35 different words, such as no,yes, or one of yes-no, core10, all35"

FLAGS = (
    ("--n_mel=40", "flag: there is no setting 'n_mel'; did you mean n_mels?"),
    ("--learning_rate=0.1", f"flag: there is no setting 'learning_rate'; settings are: {SETTINGS}"),
    ("--Epochs=3", "flag: there is no setting 'Epochs'; did you mean epochs?"),
    ("--batch-sise=3", "flag: there is no setting 'batch-sise'; did you mean batch_size?"),
    ("--=5", f"flag: there is no setting ''; settings are: {SETTINGS}"),
    ("--n_mels", "flag: --n_mels has no value; write --n_mels=VALUE"),
    ("--n_mels --seed=1", "flag: --n_mels has no value; write --n_mels=VALUE"),
    ("n_mels=40", "flag: 'n_mels=40' is not a --KEY=VALUE; see kws train --help"),
    ("-n 40", "flag: '-n' is not a --KEY=VALUE; see kws train --help"),
    ("run.yaml", "flag: 'run.yaml' is not a --KEY=VALUE; see kws train --help"),
    ("--n_mels=", "flag: n_mels is '', but must be a whole number"),
    ("--n_mels=forty", "flag: n_mels is 'forty', but must be a whole number"),
    ("--n_mels=40.5", "flag: n_mels is '40.5', but must be a whole number"),
    ("--n_mels=0x20", "flag: n_mels is '0x20', but must be a whole number"),
    ("--n_mels=²", "flag: n_mels is '²', but must be a whole number"),
    ("--n_mels=nan", "flag: n_mels is 'nan', but must be a whole number"),
    ("--n_mels=0", "flag: n_mels is 0, but must be between 1 and 128"),
    ("--n_mels=-20", "flag: n_mels is -20, but must be between 1 and 128"),
    ("--n_mels=1e9", "flag: n_mels is 1e9, but must be between 1 and 128"),
    ("--n_fft=8", "flag: n_fft is 8, but must be between 16 and 4096"),
    ("--hop_length=1600", "flag: hop_length is 1600, but must be between 1 and 1000"),
    ("--hop_length=500", "hop_length: 500 is larger than n_fft 400, so samples are skipped"),
    ("--channels=0", "flag: channels is 0, but must be between 1 and 1024"),
    (
        "--channels=128", "channels: the network would have 259,713 parameters, at most 100,000 are allowed; "
        "lower channels, kernel_size or n_mels, or raise groups",
    ),
    ("--kernel_size=4", "kernel_size: 4 is even; choose an odd one, so that frames stay centred"),
    ("--kernel_size=33", "flag: kernel_size is 33, but must be between 1 and 31"),
    (
        "--channels=64 --groups=3", "groups: 3 does not divide the 64 channels of the convolutions; "
        "choose one of 1, 2, 4, 8, 16, 32, 64",
    ),
    ("--groups=0", "flag: groups is 0, but must be between 1 and 1024"),
    ("--epochs=0", "flag: epochs is 0, but must be between 1 and 10000"),
    ("--epochs=True", "flag: epochs is 'True', but must be a whole number"),
    ("--batch_size=0", "flag: batch_size is 0, but must be between 1 and 65536"),
    ("--lr=fast", "flag: lr is 'fast', but must be a number"),
    ("--lr=nan", "flag: lr is 'nan', but must be a number"),
    ("--lr=inf", "flag: lr is 'inf', but must be a number"),
    ("--lr=0", "flag: lr is 0, but must be between 1e-08 and 10"),
    ("--lr=-0.003", "flag: lr is -0.003, but must be between 1e-08 and 10"),
    ("--lr=0,003", "flag: lr is '0,003', but must be a number"),
    ("--lr_gamma=2", "flag: lr_gamma is 2, but must be between 1e-06 and 1"),
    ("--lr_step=0", "flag: lr_step is 0, but must be between 1 and 10000"),
    ("--seed=-1", "flag: seed is -1, but must be between 0 and 2.14748e+09"),
    ("--seed=99999999999999999999", "flag: seed is 99999999999999999999, but must be between 0 and 2.14748e+09"),
    ("--augment=maybe", "flag: augment is 'maybe', but must be true or false"),
    ("--noise_prob=1.5", "flag: noise_prob is 1.5, but must be between 0 and 1"),
    ("--noise_level=-1", "flag: noise_level is -1, but must be between 0 and 1"),
    ("--shift_ms=2000", "flag: shift_ms is 2000, but must be between 0 and 1000"),
    ("--gain_db=100", "flag: gain_db is 100, but must be between 0 and 40"),
    ("--threads=0", "flag: threads is 0, but must be between 1 and 1024"),
    ("--device=gpu", "flag: device is 'gpu', but must be one of auto, cpu, cuda, mps"),
    ("--device=Cuda", "flag: device is 'Cuda', but must be one of auto, cpu, cuda, mps; did you mean cuda?"),
    (
        "--data=syntetic",
        "flag: data is 'syntetic', but must be one of speech_commands, synthetic; did you mean synthetic?",
    ),
    ("--run_name=x", "flag: --run_name is not a setting; a run records it by itself"),
    ("--words=yes", "flag: words is 'yes', " + NOT_WORDS),
    ("--words=yes,yes", "flag: words is 'yes,yes', " + NOT_WORDS),
    ("--words=yes,no,_up_", "flag: words is 'yes,no,_up_', " + NOT_WORDS),
    ("--words=../x,no", "flag: words is '../x,no', " + NOT_WORDS),
    ("--data_dir=", "data_dir: is empty; leave it out or give it a value"),
    ("--project=a/b", "project: 'a/b' has one of / \\ # ? % : which W&B refuses"),
    (f"--study={'x' * 65}", "study: has 65 characters; W&B takes 64 at most"),
    ("--project=runs", "project: 'runs' is a word of W&B's addresses; choose another name"),
    (f"--project={'x' * 129}", "project: has 129 characters; W&B takes 128 at most"),
    ("--entity=a:b", "entity: 'a:b' has one of / \\ # ? % : which W&B refuses"),
    ("--study=a\nb", "flag: study is 'a b', but must be text"),
    ("--run_dir=\x00", "flag: run_dir is ' ', but must be text"),
    ("--config", "argument --config: expected one argument; see kws train --help"),
    ("--config=missing.yaml", "missing.yaml: cannot be read (No such file or directory); give the path of a YAML file"),
    ("--config=.", ".: cannot be read (Is a directory); give the path of a YAML file"),
    ("--resume=../../etc", "run id: '../../etc' is not valid; use at most 64 letters, digits, - _ . (no leading .)"),
    ("--resume=.hidden", "run id: '.hidden' is not valid; use at most 64 letters, digits, - _ . (no leading .)"),
    ("--resume=", "run id: '' is not valid; use at most 64 letters, digits, - _ . (no leading .)"),
    ("--resume=other", "run other: there is no run folder runs/other; name a run in --run_dir runs"),
)  # fmt: skip


def arguments_of(text):
    """Split at the blanks before a flag's dashes or a plain word; values here hold none but line breaks."""
    return text.split(" ")


def assert_refused(kws, work, line, *arguments):
    """The command says that one line, exits 2, and leaves everything as it was."""
    before = snapshot(work)
    done = kws(*arguments)
    assert done.notices == [f"kws: {line}"]
    assert (done.status, done.out) == (2, "")
    assert snapshot(work) == before


@pytest.mark.parametrize("flags,line", FLAGS, ids=[row[0] for row in FLAGS])
def test_flags(kws, work, data_dir, flags, line, monkeypatch):
    monkeypatch.setenv("KWS_DATA", str(data_dir))
    assert_refused(kws, work, line, "train", *arguments_of(flags))


YAML = (
    ("n_mels: 40\nn_mel: 20", "a.yaml: there is no setting 'n_mel'; did you mean n_mels?"),
    ("- n_mels\n- 40", "a.yaml: contains a list, not KEY: VALUE lines"),
    ("just text", "a.yaml: contains a str, not KEY: VALUE lines"),
    ("40", "a.yaml: contains a int, not KEY: VALUE lines"),
    ("n_mels: [40", "a.yaml, line 1: is not valid YAML: expected ',' or ']', but got '<stream end>'"),
    ("n_mels: 40\n\tlr: 1", "a.yaml, line 2: is not valid YAML: found character '\\t' that cannot start any token"),
    ("a: 1\n  b: 2", "a.yaml, line 2: is not valid YAML: mapping values are not allowed here"),
    ("n_mels: *x", "a.yaml, line 1: is not valid YAML: found undefined alias 'x'"),
    ("---\nn_mels: 20\n---\nn_mels: 40", "a.yaml, line 3: is not valid YAML: but found another document"),
    (
        "lr: !!python/object/apply:os.system [touch hacked]",
        "a.yaml, line 1: is not valid YAML: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    ("n_mels: [20, 40]", "a.yaml: n_mels is '[20, 40]', but must be a whole number"),
    ("n_mels: {value: 20}", "a.yaml: n_mels is \"{'value': 20}\", but must be a whole number"),
    ("n_mels: ", "a.yaml: n_mels is 'None', but must be a whole number"),
    ("n_mels: true", "a.yaml: n_mels is 'True', but must be a whole number"),
    ("lr: .nan", "a.yaml: lr is 'nan', but must be a number"),
    ("lr: 2026-11-22", "a.yaml: lr is '2026-11-22', but must be a number"),
    ("words: [a, b, a]", "a.yaml: words is \"['a', 'b', 'a']\", " + NOT_WORDS),
    ("words: !!set {yes, no}", "a.yaml: words is '{False, True}', " + NOT_WORDS),
    ("study: [a]", "a.yaml: study is \"['a']\", but must be text"),
    ("1: 2", f"a.yaml: there is no setting '1'; settings are: {SETTINGS}"),
    ("null: 2", f"a.yaml: there is no setting 'None'; settings are: {SETTINGS}"),
    ("n_mels: 1" + "0" * 5000, "a.yaml: is not valid YAML: cannot be parsed"),
    (b"\xff\xfe\x00n", "a.yaml: is not UTF-8 text; give the path of a YAML file"),
    (b"n_mels: 4\x000", "a.yaml: is not valid YAML: special characters are not allowed"),
    ("[" * 5000, "a.yaml: is not valid YAML: cannot be parsed"),
)  # fmt: skip


@pytest.mark.parametrize("content,line", YAML, ids=[str(row[0][:30]) for row in YAML])
def test_yaml(kws, work, data_dir, content, line, monkeypatch):
    monkeypatch.setenv("KWS_DATA", str(data_dir))
    (work / "a.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_refused(kws, work, line, "train", "--config", "a.yaml")


COMMANDS = (
    ("", "the following arguments are required: COMMAND; see kws --help"),
    ("data --rot=x", "'--rot=x' is not an argument of kws data; see kws data --help"),
    ("data extra", "'extra' is not an argument of kws data; see kws data --help"),
    ("data --clips=many --synthetic", "argument --clips: invalid int value: 'many'; see kws data --help"),
    ("data --words=yes", "kws data: words is 'yes', " + NOT_WORDS),
    ("sweep", "the following arguments are required: SWEEP.yaml; see kws sweep --help"),
    ("data --clips=9", "--clips: is for --synthetic; leave it out"),
    ("data --synthetic --test-set", "--test-set: is for the real data; leave it out"),
    ("data --synthetic --archive=x", "--archive: is for the real data; leave it out"),
    ("sweep missing.yaml", "missing.yaml: cannot be read (No such file or directory); give the path of a YAML file"),
    ("sweep text.txt", "text.txt: contains a str, not KEY: VALUE lines"),
    ("sweep key.yaml", "key.yaml: parameters: there is no setting 'n_mel'; did you mean n_mels?"),
    ("sweep method.yaml", "method.yaml: method is 'gird', but must be one of grid, random, bayes"),
    ("sweep values.yaml", "values.yaml: n_mels: values must be a list of at least one value"),
    (
        "sweep none.yaml",
        "none.yaml: parameters must be a mapping from settings to value, values or a distribution",
    ),
    ("sweep good.yaml --set n_mel=3", "--set: there is no setting 'n_mel'; did you mean n_mels?"),
    ("sweep good.yaml --set n_mels", "--set: 'n_mels' is not KEY=VALUE with a setting as KEY"),
    ("sweep good.yaml --count=-1", "--count: is '-1', but must be a whole number from 1 to 100000"),
    ("report missing", "missing: is neither a folder nor ENTITY/PROJECT on W&B; run kws sweep or kws train first"),
    ("report text.txt", "text.txt: is neither a folder nor ENTITY/PROJECT on W&B; run kws sweep or kws train first"),
    ("report empty", "empty: contains no run; run kws sweep or kws train first"),
    ("report empty --data_dir=/nowhere", "--data_dir: /nowhere/SpeechCommands does not exist; give the folder that "
     "holds SpeechCommands/"),
    ("report empty --margin=much", "--margin: is 'much', but must be a number of percentage points above 0, "
     "such as 0.5"),
    ("report empty --margin=0", "--margin: is '0', but must be a number of percentage points above 0, "
     "such as 0.5"),
    ("report empty --margin=nan", "--margin: is 'nan', but must be a number of percentage points above 0, "
     "such as 0.5"),
    ("predict", "the following arguments are required: FILE, --model; see kws predict --help"),
    (
        "predict x.wav --model nope",
        "--model: there is no trained run at nope or runs/nope; give a run folder, a run id or a best.pt",
    ),
    ("predict x.wav --model text.txt", "text.txt: is not a complete checkpoint of kws; choose another run"),
)  # fmt: skip
FILES = {
    "text.txt": "hello",
    "key.yaml": "method: grid\nparameters:\n  n_mel:\n    values: [20]\n",
    "method.yaml": "method: gird\nparameters:\n  n_mels:\n    values: [20]\n",
    "values.yaml": "method: grid\nparameters:\n  n_mels:\n    values: []\n",
    "none.yaml": "method: grid\n",
    "good.yaml": "method: grid\nparameters:\n  n_mels:\n    values: [20]\n",
}


@pytest.mark.parametrize("arguments,line", COMMANDS, ids=[row[0] or "nothing" for row in COMMANDS])
def test_commands(kws, work, arguments, line):
    for name, content in FILES.items():
        (work / name).write_text(content)
    (work / "empty").mkdir()
    assert_refused(kws, work, line, *arguments.split())


@pytest.mark.parametrize(
    "command",
    [
        "report {}/{}", "predict x.wav --model {}", "demo {}", "listen --model {}", "export {} --out x.onnx",
        "train --data_dir={}", "train --config {}", "data --root {}", "sweep {}",
        "sweep good.yaml --status --storage {}",
    ],
)  # fmt: skip
def test_a_path_longer_than_any_file_name(kws, work, command):
    (work / "good.yaml").write_text(FILES["good.yaml"])
    done = kws(*command.format(*["x" * 300] * 2).split())
    assert (done.status, done.out, len(done.notices)) == (2, "", 1)
    assert "(File name too long); " in done.notices[0]


def test_an_unknown_command(kws, work):
    done = kws("trian")
    assert (done.status, done.out, len(done.notices)) == (2, "", 1)
    assert done.notices[0].startswith("kws: argument COMMAND: invalid choice: 'trian' (choose from ")


# --- data folders and audio ---


def first_clip(folder, word="yes"):
    return sorted((folder / word).iterdir())[0]


def fix(folder):
    """Return the commands that rename an incomplete folder that kws did not make, and download it again."""
    return f"run: mv {folder} {folder}.incomplete && kws data --root {folder.parent.parent}"


def no_lists(folder):
    (folder / "validation_list.txt").unlink()
    return f"data: {folder} is incomplete: there is no validation_list.txt; {fix(folder)}"


def no_word(folder):
    (folder / "yes").rename(folder / "oui")
    # Other words are the user's own recordings: a download would not help.
    return f"data: {folder} is incomplete: there is no clip of 'yes'; its words are: no, oui"


def listed_clip_missing(folder):
    listed = sorted((folder / "testing_list.txt").read_text().split())
    (folder / listed[0]).unlink()
    return f"data: {folder} is incomplete: 1 listed clips are missing, such as {listed[0]}; {fix(folder)}"


def empty_clip(folder):
    first_clip(folder).write_bytes(b"")
    return f"data: {folder} is incomplete: 1 clips of 'yes' are empty, such as {first_clip(folder).name}; {fix(folder)}"


def file_for_folder(folder):
    parent = folder.parent
    folder.rename(parent / "elsewhere")
    folder.write_text("")
    return (
        f"data: {folder} does not exist; run: kws data --root {parent.parent}, or set the right folder with --data_dir"
    )


def too_long(folder):
    soundfile.write(first_clip(folder), np.zeros(160_001), 16000, subtype="PCM_16")
    return f"{first_clip(folder)}: is longer than 10 s; cut or remove it"


def not_finite(folder):
    soundfile.write(first_clip(folder), np.full(16000, np.nan), 16000, subtype="FLOAT")
    return f"{first_clip(folder)}: has samples that are not finite numbers; replace or remove it"


def impossible_rate(folder):
    soundfile.write(first_clip(folder), np.zeros(100), 3999, subtype="PCM_16")
    return f"{first_clip(folder)}: has a sample rate of 3999; resample or remove it"


def other_kind(folder):
    path = first_clip(folder).with_suffix(".flac")
    first_clip(folder).rename(path)
    return f"{path}: is a WAV file; name it as one, or remove it"


def cut_off(folder):
    first_clip(folder).write_bytes(first_clip(folder).read_bytes()[:5000])
    return f"{first_clip(folder)}: is truncated; replace or remove it"


def not_audio(folder):
    first_clip(folder).write_text("<html>404 Not Found</html>" * 10)
    return f"{first_clip(folder)}: cannot be read as a WAV file (Format not recognised); replace or remove it"


def noise_too_short(folder):
    for path in (folder / "_background_noise_").iterdir():
        path.unlink()
    soundfile.write(folder / "_background_noise_" / "hum.wav", np.zeros(800), 16000, subtype="PCM_16")
    return (
        f"data: {folder}/_background_noise_ has less than a second of noise; add noise recordings, "
        "or train without noise: --noise_prob=0"
    )


def listed_twice(folder):
    clip = (folder / "testing_list.txt").read_text().split()[0]
    with open(folder / "testing_list.txt", "a") as file:
        file.write(clip + "\n")
    return f"data: testing_list.txt of {folder} has {clip} twice; correct it"


def list_in_latin_1(folder):
    (folder / "testing_list.txt").write_bytes("no/zoë_nohash_0.wav\n".encode("latin-1"))
    return f"data: {folder}/testing_list.txt is not UTF-8 text; save it as UTF-8"


def listed_in_both(folder):
    clip = (folder / "testing_list.txt").read_text().split()[0]
    with open(folder / "validation_list.txt", "a") as file:
        file.write(clip + "\n")
    return f"data: 1 clips appear in validation and testing: {clip}; correct the lists of {folder}"


def listed_outside(folder):
    with open(folder / "testing_list.txt", "a") as file:
        file.write("../x/no/a_nohash_0.wav\n")
    return f"data: testing_list.txt of {folder} has '../x/no/a_nohash_0.wav', not WORD/CLIP.wav; correct it"


def lists_empty(folder):
    (folder / "testing_list.txt").write_text("")
    return f"data: {folder} has no testing clip of 'no'; run: kws data --root {folder.parent.parent}"


DATA = (
    no_lists, no_word, listed_clip_missing, empty_clip, file_for_folder, too_long, not_finite, impossible_rate,
    other_kind, cut_off, not_audio, noise_too_short, listed_twice, list_in_latin_1, listed_in_both, listed_outside,
    lists_empty,
)  # fmt: skip


@pytest.mark.parametrize("spoil", DATA, ids=lambda spoil: spoil.__name__)
def test_data(kws, work, tmp_path, spoil):
    line = spoil(make_corpus(tmp_path / "spoilt", speakers=10, takes=1))
    assert_refused(kws, tmp_path, line, "train", *TINY, f"--data_dir={tmp_path}/spoilt")


def test_data_that_are_not_there(kws, work):
    assert_refused(
        kws, work, f"data: {work}/data/SpeechCommands/speech_commands_v0.02 does not exist; run: "
        f"kws data --root {work}/data, or set the right folder with --data_dir", "train",
    )  # fmt: skip
    assert_refused(
        kws, work, f"data: {work}/x/SpeechCommands/speech_commands_synthetic does not exist; run: "
        f"kws data --synthetic --root {work}/x, or set the right folder with --data_dir",
        "train", "--data=synthetic", "--data_dir=x",
    )  # fmt: skip


# --- run folders and checkpoints ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_dir):
    """The bytes of a finished run's files."""
    from kws.config import resolve
    from kws.train import train

    folder = tmp_path_factory.mktemp("finished")
    settings = {"channels": 8, "epochs": 1, "batch_size": 16, "data_dir": str(data_dir), "run_dir": str(folder)}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)  # W&B's client makes its folder where it is
        run = train(resolve(("test", settings)), "done", notify=print)
    return {path.name: path.read_bytes() for path in run.iterdir()}


class Harm:
    def __reduce__(self):
        return os.system, ("touch hacked",)


def config_with(**changes):
    return lambda files: files | {"config.json": json.dumps(json.loads(files["config.json"]) | changes).encode()}


def checkpoint(content):
    def change(files):
        torch.save(content, "made.pt")
        with open("made.pt", "rb") as file:
            made = file.read()
        os.unlink("made.pt")
        return files | {"last.pt": made}

    return change


NOT_WHOLE = "{run}/last.pt: is not a complete checkpoint of kws; choose another run"
NOT_OURS = "{run}/last.pt: is not a checkpoint of kws; choose another run"
RUNS = {
    "config.json cut": (
        lambda files: files | {"config.json": files["config.json"][:56]},
        "runs/done/config.json: is not JSON (Expecting value: line 6 column 14 (char 53)); start a new run",
    ),
    "config.json a list": (
        lambda files: files | {"config.json": b"[1, 2]"},
        "runs/done/config.json: is not a JSON object; start a new run",
    ),
    "config.json binary": (
        lambda files: files | {"config.json": b"\xff\xfe"},
        "runs/done/config.json: is not JSON ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte); "
        "start a new run",
    ),
    "config.json with a wrong value": (
        config_with(n_mels=-3), "runs/done/config.json: n_mels is -3, but must be between 1 and 128",
    ),
    "config.json with an unknown key": (
        config_with(chanels=8),
        "runs/done/config.json: was recorded by another version of kws (unknown chanels); start a new run",
    ),
    "config.json of another run": (
        config_with(n_mels=40), "run done: was started with another n_mels; start a new run",
    ),
    "config.json missing": (
        lambda files: {name: files[name] for name in files if name != "config.json"},
        "runs/done/config.json: cannot be read (No such file or directory); start a new run",
    ),
    "last.pt empty": (lambda files: files | {"last.pt": b""}, NOT_WHOLE),
    "last.pt text": (lambda files: files | {"last.pt": b"hello"}, NOT_WHOLE),
    "last.pt a pickle that runs a command": (
        lambda files: files | {"last.pt": pickle.dumps(Harm(), protocol=2)},
        NOT_WHOLE,
    ),
    "last.pt a checkpoint that runs a command": (
        checkpoint({"model": {}, "config": {}, "rows": Harm()}), NOT_WHOLE,
    ),
    "last.pt a tensor": (checkpoint(torch.zeros(3)), NOT_OURS),
    "last.pt another dict": (checkpoint({"state_dict": {}}), NOT_OURS),
    "last.pt without weights": (checkpoint({"model": None, "config": {}}), NOT_OURS),
    "last.pt is best.pt": (
        lambda files: files | {"last.pt": files["best.pt"]},
        "{run}/last.pt: cannot be resumed; start a new run",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_runs_that_cannot_be_resumed(kws, work, finished, name):
    change, line = RUNS[name]
    run = work / "runs" / "done"
    run.mkdir(parents=True)
    (run / ".lock").touch()
    for file, content in change(finished).items():
        (run / file).write_bytes(content)
    before = {path: path.read_bytes() for path in run.iterdir()}
    done = kws("train", "--resume=done")
    assert done.notices == [f"kws: {line.format(run=run)}"]
    assert (done.status, done.out) == (2, "")
    assert {path: path.read_bytes() for path in run.iterdir()} == before
    assert {path.name for path in work.iterdir()} == {"runs"}  # no W&B run, nothing that the pickle made


def test_run_ids_of_the_environment(kws, work, data_dir, monkeypatch):
    for given in ("a/b", "..", "a b", "x" * 65):
        monkeypatch.setenv("WANDB_RUN_ID", given)
        line = f"run id: {given!r} is not valid; use at most 64 letters, digits, - _ . (no leading .)"
        assert_refused(kws, work, line, "train", *TINY, f"--data_dir={data_dir}")


def test_a_wrong_wandb_mode(kws, work, data_dir, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "ofline")
    line = "WANDB_MODE is 'ofline', but must be one of online, offline, disabled, shared, dryrun, run"
    assert_refused(kws, work, line, "train", *TINY, f"--data_dir={data_dir}")


def test_a_run_dir_that_is_a_file(kws, work, data_dir):
    (work / "runs").write_text("mine")
    done = kws("train", *TINY, f"--data_dir={data_dir}")
    assert (done.status, done.out) == (2, "")
    assert done.notices[0].startswith(f"kws: run_dir: {work}/runs/")
    assert done.notices[0].endswith(" cannot be written (Not a directory); choose another --run_dir")
    assert (work / "runs").read_text() == "mine" and not (work / "wandb").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there(kws, work, data_dir):
    line = "device: cuda is not available here; use --device=auto"
    assert_refused(kws, work, line, "train", *TINY, f"--data_dir={data_dir}", "--device=cuda")


# --- as processes ---


@pytest.mark.parametrize("arguments,line", (
    (("train", "--n_mels=forty"), "flag: n_mels is 'forty', but must be a whole number"),
    (("train", "--resume=a/b"), "run id: 'a/b' is not valid; use at most 64 letters, digits, - _ . (no leading .)"),
), ids=("settings", "run"))  # fmt: skip
def test_in_a_process_of_its_own(work, arguments, line):
    done = finish(start(*arguments))
    assert (done.status, done.out, done.err) == (2, "", f"kws: {line}\n")
    assert list(work.iterdir()) == []


def test_a_wandb_variable_that_makes_no_sense(work, data_dir, kws_process):
    done = kws_process("train", *TINY, f"--data_dir={data_dir}", env={"WANDB_INIT_TIMEOUT": "soon"})
    assert (done.status, done.out, len(done.notices)) == (2, "", 1)
    assert done.notices[0].startswith("kws: W&B rejects its settings (1 validation error for Settings init_timeout ")
    assert done.notices[0].endswith("; check the WANDB_ variables") and "soon" not in done.err  # nor a key
    assert list(work.iterdir()) == []


def test_there_are_at_least_fifty_kinds():
    assert len(FLAGS) + len(YAML) + len(COMMANDS) + len(DATA) + len(RUNS) >= 100
