"""The command line as a user sees it: help, versions, progress on a terminal and without one."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import REPOSITORY, TINY, finish, start
from helpers.run_folders import make_study
from helpers.terminal import on_a_terminal

import kws as package
from kws.config import SETTINGS, Config


def test_version(kws):
    done = kws("--version")
    assert (done.status, done.out, done.err) == (0, f"kws {package.__version__}\n", "")


def test_help_names_every_command(kws):
    done = kws("--help")
    assert done.status == 0 and done.err == ""
    for command in ("data", "train", "sweep", "report", "predict", "listen", "record", "doctor"):
        assert re.search(rf"^    {command} ", done.out, re.MULTILINE), command


@pytest.mark.parametrize("command", ("data", "train", "sweep", "report", "predict", "listen", "record", "doctor"))
def test_every_command_has_help(kws, command):
    done = kws(command, "--help")
    assert done.status == 0 and done.out.startswith(f"usage: kws {command}") and done.err == ""


def test_predicts_help_says_that_there_are_only_the_labels_to_answer_with(kws):
    assert "a model knows only its labels" in " ".join(kws("predict", "--help").out.split())


def test_trains_help_is_the_table_of_settings(kws):
    shown = dict(re.findall(r"^  --(\w+) .*\[(.*)\]$", kws("train", "--help").out, re.MULTILINE))
    defaults = Config().as_dict() | {"words": "no,yes"}
    assert shown == {name: str(defaults[name]) for name in SETTINGS}


def test_kws_and_python_m_kws_and_python_m_kws_train_are_the_same(work):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    said = [
        subprocess.run([sys.executable, "-m", *words, "--n_mels=x"], capture_output=True, text=True, env=environment)
        for words in (("kws", "train"), ("kws.train",))
    ]
    assert {(done.returncode, done.stdout, done.stderr) for done in said} == {
        (2, "", "kws: flag: n_mels is 'x', but must be a whole number\n")
    }


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom kws.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'wandb', 'numpy', 'optuna', 'rich', 'torchaudio', 'matplotlib'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


def test_data_that_are_there_are_shown(kws, work, data_dir):
    done = kws("data", "--root", data_dir)
    assert (done.status, done.err) == (0, "")
    table = {cells[0]: cells[1:] for line in done.out.splitlines() if len(cells := re.findall(r"\w+", line)) == 4}
    assert table["training"] == ["32", "32", "16"]  # no, yes, speakers
    assert table["validation"] == table["testing"] == ["8", "8", "4"]
    assert re.search(r"^fingerprint  [0-9a-f]{16}$", done.out, re.MULTILINE)


def test_on_a_terminal_there_is_a_bar_with_loss_accuracy_and_time_left(work, data_dir):
    status, shown = on_a_terminal("train", *TINY, f"--data_dir={data_dir}")
    assert status == 0
    assert re.search(r"epoch 2/2 loss 0\.\d+  val accuracy \d+\.\d\d% \d+:\d\d:\d\d", shown)
    assert "test accuracy" in shown and "wandb leet" in shown and "Traceback" not in shown


def test_without_a_terminal_there_is_a_line_an_epoch_and_no_control_code(work, data_dir, kws_process):
    done = kws_process("train", *TINY, f"--data_dir={data_dir}", env={"TERM": "dumb"})
    assert (done.status, done.err) == (0, "")
    assert re.match(r"mels20-\S+  epoch 1/2  train loss \d\.\d+  val loss \d\.\d+  val accuracy \d+\.\d\d%  ", done.out)
    assert "\x1b" not in done.out and "\r" not in done.out


def test_a_closed_stdout_does_not_end_in_a_traceback(work, data_dir):
    process = start("data", f"--root={data_dir}")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 141
    process.stderr.close()


def test_no_stdout_at_all_does_not_end_in_a_traceback(work, data_dir):
    done = finish(start("data", f"--root={data_dir}", before=("sh", "-c", 'exec "$0" "$@" >&-')))
    assert (done.status, done.err) == (0, "")


SEVERAL = """
import sys
from kws.cli import main
for line in sys.argv[1:]:
    print(main(line.split("|")), file=sys.stderr)
"""


def test_every_command_prints_with_replacements_where_the_terminal_lacks_a_character(work, data_dir):
    make_study(work / "runs", values=(20, 40), seeds=3, study="日本 – étude")
    (work / "日本.yaml").write_text(
        "name: 日本\nmethod: grid\nparameters: {seed: {values: [0]}, epochs: {value: 1}, channels: {value: 8}, "
        "batch_size: {value: 16}, run_dir: {value: 日本}, study: {value: 日本}}\n"
    )
    shutil.copy(next(data_dir.glob("SpeechCommands/*/yes/*.wav")), work / "日本.wav")
    model = "日本/model"
    commands = [
        "data", f"train|{'|'.join(TINY)}|--run_dir=日本|--study=日本", "sweep|日本.yaml", "sweep|日本.yaml|--status",
        "report", f"predict|日本.wav|--model={model}/best.pt", f"predict|日本.wav|--model={model}/best.pt|--json",
        f"demo|{model}|--out=日本.html", "doctor", "report|日本/nothing/at/all/日本",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "ascii", "KWS_DATA": str(data_dir)}
    environment |= {"WANDB_RUN_ID": "model"}
    done = subprocess.run([sys.executable, "-c", SEVERAL, *commands], capture_output=True, env=environment, timeout=300)
    out, err = done.stdout.decode("ascii"), done.stderr.decode("ascii").splitlines()
    assert [line for line in err if not line.startswith("kws: ")] == ["0"] * (len(commands) - 1) + ["2"]
    for line in (
        "folder       ",
        "run folder   ",
        "sweep ?? (",
        "?? ? ?tude: test accuracy",
        "??.wav\tyes\t0.",
        "??.html",
    ):
        assert any(text.startswith(line) for text in out.splitlines()), line
