"""The documentation agrees with the code: settings table, commands and flags, links, named files and functions."""

import re
from dataclasses import MISSING
from pathlib import Path

import pytest

from kws.cli import main
from kws.config import SETTINGS

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
TEXT = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(PAGES)}
CHANGELOG = "CHANGELOG.md"  # also names commands that are gone
COMMAND = re.compile(r"(?:^ {4}|`)kws (\w+)([^`#\n]*)", re.MULTILINE)
NAMED_FILE = re.compile(r"(?<![\w/.-])(?:scripts|sweeps|kws|tests|benchmarks|docs)/[\w./-]*\w")


def settings_row(item):
    default = "`$KWS_DATA`, else `data`" if item.default is MISSING else item.default
    if item.default is not MISSING:
        default = ",".join(default) if isinstance(default, tuple) else str(default)
        default = f"`{default}`" if default else "empty"
    choices = item.metadata["choices"]
    meaning = item.metadata["help"] + (f" ({', '.join(choices)})" if choices else "")
    return f"| `{item.name}` | {default} | {meaning} |"


def test_the_settings_table_equals_the_settings_in_the_code():
    rows = [line for line in TEXT["docs/settings.md"].splitlines() if re.match(r"\| `\w+` \|", line)]
    assert rows == [settings_row(item) for item in SETTINGS.values()]


def commands():
    """Return {command: texts of its arguments} over all pages, the changelog excepted."""
    found = {}
    for page, text in TEXT.items():
        for command, arguments in COMMAND.findall(text) if page != CHANGELOG else ():
            found.setdefault(command, []).append(arguments)
    return found


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_documented_command_exists_and_has_the_documented_flags(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    usage = capsys.readouterr().out
    assert f"kws {command}" in usage
    for arguments in commands()[command]:
        for flag in re.findall(r"--[\w-]+", arguments):
            assert re.search(rf"{flag}\b", usage), f"kws {command} {arguments}"
        for key in re.findall(r"(\w+)=", arguments.partition("--set")[2]):
            assert key in SETTINGS, f"kws {command} {arguments}"


@pytest.mark.parametrize("page", TEXT)
def test_every_link_and_named_file_exists(page):
    text = TEXT[page]
    links = re.findall(r"\]\(([^):#]+)(?:#[\w-]+)?\)", text)
    missing = [link for link in links if not ((ROOT / page).parent / link).exists()]
    missing += [path for path in NAMED_FILE.findall(text) if not (ROOT / path).exists()]
    assert not missing


def test_every_room_of_the_package_is_in_the_architecture_page():
    modules = {path.stem for path in (ROOT / "kws").iterdir() if path.suffix == ".py" or path.is_dir()}
    rooms = {name for name in modules if not name.startswith("_")}
    assert {room for room in rooms if not re.search(rf"\b{room}\b", TEXT["docs/architecture.md"])} == set()


def test_every_stop_of_the_n_mels_walk_exists():
    stops = re.findall(r"^\| \d+ \| ([^|]+) \| ([^|]+) \|", TEXT["docs/architecture.md"], re.MULTILINE)
    assert len(stops) > 10
    for files, names in stops:
        code = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in re.findall(r"`([^`]+)`", files))
        for name in (part for item in re.findall(r"`([^`]+)`", names) for part in item.split(".")):
            assert re.search(rf"(?:def|class) {name}\b|^ +{name}:", code, re.MULTILINE), (files, name)


def test_the_readme_is_short():
    assert len(TEXT["README.md"].splitlines()) <= 130
