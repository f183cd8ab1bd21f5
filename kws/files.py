"""Atomic writing of files, and reading of YAML."""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from kws.errors import KwsError
from kws.formatting import one_line


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it to `path`.

    Whatever is killed when, a reader finds the old file or the new one, never a part.
    On an exception the temporary file is removed and `path` is unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.touch(exist_ok=False)
    mode = temporary.stat().st_mode  # as the umask gives it
    temporary.chmod(0o600)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def lock(file: IO[Any], option: str, wait: bool = True) -> None:
    """Lock an open file until it is closed or the process ends, however it ends.

    Raises BlockingIOError if another process has the lock, unless `wait`, and KwsError where the file system has no
    locks; `option` is the one that chooses another folder.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        raise KwsError(
            f"{file.name}: its file system has no file locks ({error.strerror}); choose a folder on another one with "
            f"{option}, or mount it with locks (Lustre: -o flock)"
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """Write `text` (UTF-8) to `path` atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically. Raises ValueError on NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_yaml(path: str | Path) -> dict[Any, Any]:
    """Return the mapping in a YAML (or JSON) file. Raises KwsError where there is none, or a key is written twice.

    - and _ mean the same in a key.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_mapping_node(self, anchor: Any) -> Any:
            node, seen = super().compose_mapping_node(anchor), set()
            for key in (key for key, _ in node.value if isinstance(key.value, str)):
                if (name := key.value.replace("-", "_")) in seen:  # PyYAML would drop the first without a word
                    raise yaml.MarkedYAMLError(problem=f"{key.value!r} is written twice", problem_mark=key.start_mark)
                seen.add(name)
            return node

    try:
        with open(path, encoding="utf-8") as file:
            content = Loader(file).get_single_data()
    except OSError as error:
        raise KwsError(f"{path}: cannot be read ({error.strerror}); give the path of a YAML file") from error
    except UnicodeDecodeError as error:
        raise KwsError(f"{path}: is not UTF-8 text; give the path of a YAML file") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed"
        raise KwsError(f"{path}{line}: is not valid YAML: {one_line(problem)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise KwsError(f"{path}: contains a {type(content).__name__}, not KEY: VALUE lines")
    return content
