"""Nothing that is read runs code, and no key is ever written."""

import os
import pickle
import stat
from pathlib import Path

import pytest
import torch
import yaml
from conftest import REPOSITORY, TINY

from kws.data.corpus import cache_folder, load
from kws.errors import KwsError
from kws.files import read_yaml, write_atomically, write_json
from kws.training import checkpoints

CANARY = "c0ffee" * 6 + "f00d"  # forty characters, as W&B's older keys have
NEW_CANARY = "wandb_v1_" + "c0ffee" * 12  # and the form of its newer ones


class Harm:
    """A pickle of it makes the file `hacked` where it is loaded without care."""

    def __reduce__(self):
        return os.system, ("touch hacked",)


HOSTILE = {
    "a bare pickle": lambda path: path.write_bytes(pickle.dumps(Harm(), protocol=2)),
    "in torch's own format": lambda path: torch.save({"model": {}, "config": {}, "format": Harm()}, path),
    "in torch's legacy format": lambda path: torch.save(
        {"model": {}, "config": {"x": Harm()}}, path, _use_new_zipfile_serialization=False
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_hostile_files_of_these_tests_are_hostile(work, kind):
    HOSTILE[kind](work / "file.pt")
    load = pickle.loads if kind == "a bare pickle" else None
    if load:
        load((work / "file.pt").read_bytes())
    else:
        torch.load(work / "file.pt", weights_only=False)
    assert (work / "hacked").exists()


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_checkpoint_is_refused_by_every_reader(kws, work, kind):
    HOSTILE[kind](work / "best.pt")
    with pytest.raises(KwsError, match="is not a complete checkpoint of kws"):
        checkpoints.read(work / "best.pt")
    done = kws("predict", "--model=best.pt", "x.wav")
    assert done.status == 2 and done.notices == [
        "kws: best.pt: is not a complete checkpoint of kws; choose another run"
    ]
    assert not (work / "hacked").exists()


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_cache_is_refused_and_made_again(work, data_dir, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("KWS_CACHE", str(tmp_path / "cache"))
    fingerprint = load(data_dir).fingerprint
    (cache,) = cache_folder().iterdir()
    HOSTILE[kind](cache)
    said = []
    assert load(data_dir, notify=said.append).fingerprint == fingerprint
    assert len(said) == 1 and said[0].startswith(f"cache {cache} is damaged (") and "reading the clips again" in said[0]
    assert load(data_dir, notify=said.append) and len(said) == 1
    assert not (work / "hacked").exists()


@pytest.mark.parametrize("tag", ("!!python/object/apply:os.system [touch hacked]", "!!python/name:os.system ''",
                                 "!!python/object:pathlib.Path {}", "!!python/module:os ''"))  # fmt: skip
def test_yaml_that_makes_objects_is_refused(kws, work, tag):
    (work / "run.yaml").write_text(f"study: {tag}\n")
    with pytest.raises(KwsError, match="run.yaml, line 1: is not valid YAML: could not determine a constructor"):
        read_yaml(work / "run.yaml")
    assert kws("train", "--config=run.yaml").status == 2
    assert not (work / "hacked").exists()


def test_no_key_is_written_or_said(work, data_dir, kws_process):
    """A run with two keys set: run folder, W&B's folder, caches, home and what is said are searched for them."""
    home = work / "home"
    home.mkdir()
    (home / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {NEW_CANARY}\n")
    (home / ".netrc").chmod(0o600)
    environment = {"WANDB_API_KEY": CANARY, "HOME": str(home), "WANDB_MODE": "offline"}
    done = kws_process("train", *TINY, f"--data_dir={data_dir}", env=environment)
    assert done.status == 0, done.err
    written = [path for path in work.rglob("*") if path.is_file() and path != home / ".netrc"]
    assert {"config.json", "best.pt"} <= {path.name for path in written}
    assert [path for path in written if path.suffix == ".wandb"] and [path for path in written if path.suffix == ".log"]
    for secret in (CANARY, NEW_CANARY):
        for path in written:
            assert secret.encode() not in path.read_bytes(), path
        assert secret not in done.out + done.err


def test_temporary_files_are_private_until_they_are_whole(tmp_path):
    with write_atomically(tmp_path / "file") as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        assert temporary.parent == tmp_path and temporary.name.startswith(".file.")
        temporary.write_text("whole")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "file.json", {"a": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "file.json", {"a": float("nan")})
    with pytest.raises(KeyboardInterrupt), write_atomically(tmp_path / "file.json") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]
    assert yaml.safe_load((tmp_path / "file.json").read_text()) == {"a": 1}


def test_the_code_has_no_shell_no_eval_and_no_unsafe_loader():
    forbidden = ("shell=True", "os.system(", "os.popen(", "eval(", "exec(", "pickle.load", "weights_only=False",
                 "yaml.load(", "yaml.unsafe_load", "mktemp(")  # fmt: skip
    for path in Path(REPOSITORY, "kws").rglob("*.py"):
        text = path.read_text().replace("model.eval(", "").replace("network.eval(", "")
        for word in forbidden:
            assert word not in text, f"{path.name}: {word}"
