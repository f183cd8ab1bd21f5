"""The README says what the code does: its settings table is the code's, its commands and files exist."""

import re
from dataclasses import MISSING
from pathlib import Path

import pytest

from kws.cli import main
from kws.config import SETTINGS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def settings_row(item):
    default = "`$KWS_DATA`, else `data`" if item.default is MISSING else item.default
    if item.default is not MISSING:
        default = ",".join(default) if isinstance(default, tuple) else str(default)
        default = f"`{default}`" if default else "empty"
    choices = item.metadata["choices"]
    meaning = item.metadata["help"] + (f": {', '.join(choices)}" if choices else "")
    return f"| `{item.name}` | {default} | {meaning} |"


def test_the_settings_table_is_the_code_s():
    rows = [line for line in README.splitlines() if re.match(r"\| `\w+` \|", line)]
    assert rows == [settings_row(item) for item in SETTINGS.values()]


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^ +kws (\w+)", README, re.MULTILINE))))
def test_every_command_of_the_readme_exists(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"kws {command}" in capsys.readouterr().out


def test_every_file_that_the_readme_names_is_there():
    links = re.findall(r"\]\(([^):]+)\)", README)
    named = re.findall(r"(?:scripts|sweeps)/[\w.]+", README)
    assert named
    for path in {*links, *named}:
        assert (ROOT / path).exists(), path
