"""Export of a trained model as ONNX: from waveforms to probabilities, checked against torch before it is written."""

import importlib
import json
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kws import __version__
from kws.config import Config
from kws.data.audio import N_SAMPLES, SAMPLE_RATE, to_float
from kws.data.corpus import Split
from kws.data.labels import load_labelled
from kws.errors import KwsError
from kws.files import write_atomically, write_text
from kws.formatting import count, percent
from kws.model import complexity
from kws.model.features import LOG_OFFSET
from kws.model.network import KeywordModel, label_probabilities
from kws.training import checkpoints
from kws.training.model_card import model_card
from kws.training.run_folder import find_checkpoint

CHECKED_CLIPS = 200
TOLERANCE = 1e-4  # of a probability, between torch and onnxruntime
OPSET = 18
LATENCY_RUNS = 50
PACKAGES = ("onnx", "onnxruntime", "onnxscript")


class Exported(nn.Module):
    """The model as it is exported: waveforms (batch, 16000) in [-1, 1] to probabilities (batch, labels) float32.

    Every operator is one that all runtimes have. The STFT is a convolution with the windowed sines and cosines of a
    DFT, as many runtimes lack ONNX's own STFT. That has ten times the multiply-accumulates of the network, and still
    takes less than a millisecond.
    """

    waves: Tensor
    mel_filters: Tensor

    def __init__(self, model: KeywordModel) -> None:
        super().__init__()
        features = model.features
        self.network, self.hop_length, self.edge = model.network, features.hop_length, features.n_fft // 2
        turns = torch.outer(torch.arange(features.n_freqs), torch.arange(features.n_fft)) % features.n_fft
        angles = 2 * math.pi / features.n_fft * turns.double()
        waves = torch.cat((angles.cos(), angles.sin())) * features.hann_window.double()
        self.register_buffer("waves", waves.float()[:, None])
        self.register_buffer("mel_filters", features.mel_filters)

    def forward(self, waveform: Tensor) -> Tensor:
        padded = F.pad(waveform[:, None], (self.edge, self.edge), mode="reflect")
        real, imag = F.conv1d(padded, self.waves, stride=self.hop_length).chunk(2, dim=1)
        mel = torch.matmul((real * real + imag * imag).transpose(1, 2), self.mel_filters)
        logits: Tensor = self.network(torch.log(mel + LOG_OFFSET).transpose(1, 2))
        if logits.dim() > 1:
            return logits.softmax(1)
        return torch.stack((torch.sigmoid(-logits), torch.sigmoid(logits)), dim=1)


def export(
    run: str, run_dir: str, out: str | Path, data_dir: str | None = None, int8: bool = False
) -> list[tuple[str, str]]:
    """Write the model of `run` to `out` as ONNX, with a model card beside it, and return [(fact, its text)].

    It is checked on validation clips of the run's data below `data_dir` (default: where the run found them), on noise
    and tones if they are unavailable. int8: also write a quantised copy, FILE.int8.onnx, which needs those clips.
    Raises KwsError where a package is missing, the files differ from torch, or cannot be written.
    """
    onnx, onnxruntime, _ = (_import(package) for package in PACKAGES)
    out = Path(out)
    if out.suffix != ".onnx" or not out.parent.is_dir():
        raise KwsError(f"--out: {out} must be a file name that ends in .onnx, in a folder that exists")
    path = find_checkpoint(run, run_dir)
    config, model = checkpoints.load_model(path)
    text = model_card(path.parent).text
    split, why = _validation_clips(config, data_dir)
    if int8 and split is None:
        raise KwsError(f"--int8: is calibrated on validation clips, and {why}; set --data_dir")
    clips = to_float(split.waveforms[_spread(len(split.clips))]) if split else noise_and_tones(CHECKED_CLIPS)

    exported = Exported(model).train(False)
    proto = _to_onnx(exported)
    costs = complexity.measure(model)
    session = _session(onnxruntime, proto)
    difference = _difference(session, exported, model, clips)
    latency_ms = _latency_ms(session)
    facts = [
        ("checked on", f"{len(clips)} {'validation clips' if split else f'clips of noise and tones ({why})'}"),
        ("difference", f"{difference:.1e} at most, between torch's and onnxruntime's probabilities"),
        ("network", f"{count(costs.params)} parameters, {count(2 * costs.macs)} FLOPs per clip (ptflops)"),
        ("latency", f"{latency_ms:.1f} ms per clip (onnxruntime, one thread of this CPU)"),
    ]
    record = {
        "labels": json.dumps(config.labels), "sample_rate": SAMPLE_RATE, "samples": N_SAMPLES,
        "run": path.parent.name, "params": costs.params, "macs": costs.macs, "flops": 2 * costs.macs,
        "latency_ms": f"{latency_ms:.2f}", "largest_difference": f"{difference:.1e}", "kws": __version__,
        "torch": torch.__version__, "onnxruntime": onnxruntime.__version__,
    }  # fmt: skip
    onnx.helper.set_model_props(proto, {name: str(value) for name, value in record.items()})
    files = {out: proto}
    if int8 and split:
        quantised = files[out.with_suffix(".int8.onnx")] = _quantise(onnx, proto, clips)
        onnx.helper.set_model_props(quantised, {name: str(value) for name, value in record.items()})
        for name, one in (("float32", proto), ("int8", quantised)):
            predicted = _probabilities(_session(onnxruntime, one), to_float(split.waveforms)).argmax(1)
            right = float((predicted == split.labels.numpy()).mean())
            size = f"{one.ByteSize() / 1000:,.0f} kB, of which {exported.waves.nbytes / 1000:,.0f} kB are the DFT"
            facts.append((name, f"{percent(right)} of {len(predicted):,} validation clips; {size}"))
    try:
        for file, one in files.items():
            with write_atomically(file) as temporary:
                temporary.write_bytes(one.SerializeToString())
            facts.append(("written", str(file)))
        write_text(out.with_suffix(".md"), text)
    except OSError as error:
        raise KwsError(f"--out: {out} cannot be written ({error.strerror}); choose another place") from error
    return [*facts, ("written", str(out.with_suffix(".md")))]


def noise_and_tones(n: int) -> Tensor:
    """Return waveforms (n, 16000): noise and rising tones of many levels, silence first. The same at every call."""
    generator = torch.Generator().manual_seed(0)
    level = torch.logspace(-4, 0, n)[:, None]
    seconds = torch.arange(N_SAMPLES) / SAMPLE_RATE
    start, rise = 4000 * torch.rand(2, n, 1, generator=generator)
    tones = torch.sin(2 * math.pi * (start * seconds + rise / 2 * seconds**2))
    noise = torch.randn(n, N_SAMPLES, generator=generator)
    clips = level * (tones + noise * torch.rand(n, 1, generator=generator)).clamp(-1, 1)
    clips[0] = 0
    return clips


def _import(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise KwsError(f"kws export needs {package}; run: pip install {' '.join(PACKAGES)}") from error


def _validation_clips(config: Config, data_dir: str | None) -> tuple[Split | None, str]:
    """Return the run's validation clips, or None and the reason."""
    data_dir = data_dir or config.data_dir
    try:
        return load_labelled(replace(config, data_dir=data_dir)).validation, ""
    except KwsError:
        return None, f"there are none of the run's data below {data_dir}"


def _spread(n: int) -> list[int]:
    """Return up to CHECKED_CLIPS of n rows, evenly spread: the clips of a word follow each other."""
    return [int(row) for row in np.linspace(0, n - 1, min(n, CHECKED_CLIPS))]


def _to_onnx(exported: Exported) -> Any:
    """Return the ModelProto."""
    from onnxscript import optimizer

    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.onnx.export(
            exported, (torch.zeros(2, N_SAMPLES),), dynamo=True, optimize=False, verbose=False, opset_version=OPSET,
            input_names=["waveform"], output_names=["probabilities"], dynamic_shapes=({0: batch},),
        )  # fmt: skip
        assert program is not None
        # The weights' reshaping is done here: a quantiser looks for constant weights.
        optimizer.optimize_ir(program.model, input_size_limit=2**26, output_size_limit=2**26)
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's and the quantiser's remarks about themselves and about packages that they do not need."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _session(onnxruntime: Any, proto: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _probabilities(session: Any, clips: Tensor) -> Any:
    """Return probabilities (clips, labels) as a NumPy array."""
    return np.concatenate([session.run(None, {"waveform": batch.numpy()})[0] for batch in torch.split(clips, 32)])


@torch.no_grad()
def _difference(session: Any, exported: Exported, model: KeywordModel, clips: Tensor) -> float:
    """Return the largest difference to the probabilities of the trained model. Raises KwsError above TOLERANCE."""
    expected = torch.cat([label_probabilities(model(batch)) for batch in torch.split(clips, 32)])
    difference = float(np.abs(_probabilities(session, clips) - expected.numpy()).max())
    if not difference <= TOLERANCE:
        raise KwsError(
            f"the exported model's probabilities differ from torch's by {difference:.1e}, more than {TOLERANCE:.0e}; "
            f"nothing was written; try other versions of {' and '.join(PACKAGES)}"
        )
    return difference


def _latency_ms(session: Any) -> float:
    clip, times = {"waveform": np.zeros((1, N_SAMPLES), np.float32)}, []
    for _ in range(LATENCY_RUNS):
        began = time.perf_counter()
        session.run(None, clip)
        times.append(time.perf_counter() - began)
    return 1000 * median(times)


def _quantise(onnx: Any, proto: Any, clips: Tensor) -> Any:
    """Return a copy whose convolutions and linear layer compute in int8, with ranges from `clips`. Log-mel stays float.

    The power spectrum has a range of ten decades, which eight bits cannot hold.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(torch.split(clips, 1))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"waveform": batch.numpy()}

    nodes = list(proto.graph.node)
    log = next(number for number, node in enumerate(nodes) if node.op_type == "Log")
    with tempfile.TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(proto.SerializeToString())
        quantize_static(
            source, target, Reader(), op_types_to_quantize=["Conv", "Gemm"], per_channel=True,
            activation_type=QuantType.QInt8, nodes_to_exclude=[node.name for node in nodes[:log]],
        )  # fmt: skip
        return onnx.load(target)
