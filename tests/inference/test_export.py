"""kws export writes an ONNX model that gives torch's probabilities, and a model card; kws demo a page that does."""

import json
import sys

import pytest
import torch
from conftest import TINY

from kws.config import Config
from kws.inference import export
from kws.model.network import KeywordModel, label_probabilities


@pytest.fixture(scope="module")
def runs(tmp_path_factory, data_dir):
    """A folder of runs with one, `tiny`."""
    from kws.cli import main

    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("WANDB_RUN_ID", "tiny")
        patch.setenv("KWS_DATA", str(data_dir))
        assert main(["train", *TINY]) == 0
    return folder / "runs"


def variant(**settings):
    """Return an untrained model of the settings in evaluation mode, with batch norms as after training."""
    torch.manual_seed(0)
    model = KeywordModel(Config(**{"channels": 8} | settings)).eval()
    for name, value in model.state_dict().items():
        if ".norm." in name and value.is_floating_point():
            value.copy_(torch.rand(value.shape) + 0.5)
            value[::2] *= 1 if name.endswith("running_var") else -1  # a negative scale exchanges maximum and minimum
    return model


VARIANTS = (
    {}, {"mean_norm": "none"}, {"mean_norm": "clip", "groups": 4}, {"words": ("no", "yes", "up"), "groups": 2},
    {"n_fft": 401, "hop_length": 99, "n_mels": 7}, {"kernel_size": 1, "n_fft": 1024, "n_mels": 10, "hop_length": 1000},
)  # fmt: skip


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_the_exported_form_of_a_model_gives_its_probabilities(settings):
    model, clips = variant(**settings), export.noise_and_tones(20)
    with torch.no_grad():
        difference = export.Exported(model)(clips) - label_probabilities(model(clips))
    assert difference.abs().max() < 1e-5


def test_an_exported_run_answers_as_torch_does_and_says_what_it_is(runs, data_dir, tmp_path, kws, monkeypatch):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    arguments = ("tiny", "--run_dir", runs, "--out", file)
    outcome = kws("export", *arguments, "--data_dir", data_dir, "--int8")
    assert (outcome.status, outcome.err) == (0, "")
    assert "validation clips" in outcome.out and "int8" in outcome.out and "difference" in outcome.out
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "model.int8.onnx", "model.md"}

    session = onnxruntime.InferenceSession(file)
    record = session.get_modelmeta().custom_metadata_map
    assert json.loads(record["labels"]) == ["no", "yes"] and (record["run"], record["sample_rate"]) == ("tiny", "16000")
    assert int(record["flops"]) == 2 * int(record["macs"]) > 0 and float(record["latency_ms"]) > 0
    _, model = export.checkpoints.load_model(runs / "tiny" / "best.pt")
    clips = export.noise_and_tones(5)
    with torch.no_grad():
        expected = label_probabilities(model(clips))
    for batch in (1, 5):
        [probabilities] = session.run(None, {"waveform": clips[:batch].numpy()})
        assert abs(probabilities - expected[:batch].numpy()).max() < 1e-4
    [quantised] = onnxruntime.InferenceSession(tmp_path / "model.int8.onnx").run(None, {"waveform": clips.numpy()})
    assert abs(quantised - expected.numpy()).max() < 0.2
    types = {item.data_type for item in onnx.load(tmp_path / "model.int8.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in types

    card = (tmp_path / "model.md").read_text()
    summary = json.loads((runs / "tiny" / "summary.json").read_text())
    for text in (
        f"{100 * summary['test/accuracy']:.2f} %",
        "95 % interval",
        "| recall |",
        "| no |",
        "Every sound is answered",
    ):
        assert text in card

    # An export that differs from the trained model replaces nothing. Without the run's data it is checked on noise.
    proto, before = onnx.load(file), {path: path.read_bytes() for path in tmp_path.iterdir()}
    bias = next(item for item in proto.graph.initializer if item.name == "network.linear.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 0.01, bias.name))
    monkeypatch.setattr(export, "_to_onnx", lambda exported: proto)
    outcome = kws("export", *arguments, "--data_dir", tmp_path / "none")
    assert outcome.status == 2 and "differ from torch's" in outcome.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_an_export_needs_is_named(runs, tmp_path, kws, monkeypatch):
    pytest.importorskip("onnx")
    arguments = ("tiny", "--run_dir", runs, "--out", tmp_path / "model.onnx")
    outcome = kws("export", *arguments, "--data_dir", tmp_path, "--int8")
    assert outcome.status == 2 and "--int8" in outcome.err and "--data_dir" in outcome.err
    for out in ("model.md", "none/model.onnx"):
        outcome = kws("export", "tiny", "--run_dir", runs, "--out", tmp_path / out)
        assert outcome.status == 2 and "--out" in outcome.err and len(outcome.notices) == 1
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    outcome = kws("export", *arguments)
    assert outcome.status == 2 and "pip install onnx onnxruntime onnxscript" in outcome.err
    assert len(outcome.notices) == 1
