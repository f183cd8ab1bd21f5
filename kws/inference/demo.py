"""The demo: one HTML page with a trained model inside, which listens to the microphone and fetches nothing."""

import base64
import webbrowser
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor

from kws import metrics
from kws.config import SILENCE, UNKNOWN
from kws.formatting import count, percent, script_digest
from kws.model import complexity
from kws.model.network import Block, KeywordModel
from kws.training import checkpoints
from kws.training.run_folder import find_checkpoint, has_summary, read_summary


def demo_page(run: str, run_dir: str) -> str:
    """Return the HTML of the page with the model of `run`. Raises KwsError."""
    path = find_checkpoint(run, run_dir)
    config, model = checkpoints.load_model(path)
    summary = read_summary(path.parent) if has_summary(path.parent) else {}
    costs = complexity.measure(model)
    accuracy = summary.get(metrics.TEST_ACCURACY)
    facts = {
        "Trained on": "synthetic speech" if config.data == "synthetic" else "real recordings",
        "Test accuracy": percent(accuracy) if isinstance(accuracy, float) else "unknown",
        "Parameters": count(costs.params),
        "Multiply-accumulates per second": f"{count(costs.macs)} in the network",
        "Log-mel": f"{config.n_mels} bands, {config.n_fft} samples every {config.hop_length}",
    }
    environment = Environment(
        loader=PackageLoader("kws.inference", "static"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["script_digest"] = script_digest
    static = resources.files("kws.inference") / "static"
    theme = resources.files("kws.report") / "static" / "page.css"
    return (
        environment.get_template("demo.html.j2")
        .render(
            run=path.parent.name,
            words=config.words,
            labels=config.labels,
            other={UNKNOWN, SILENCE} & {*config.labels},
            facts=facts,
            model=weights(model) | {"labels": config.labels, "words": len(config.words), "meanNorm": config.mean_norm},
            script=(static / "demo.js").read_text(encoding="utf-8"),
            style="".join(file.read_text(encoding="utf-8") for file in (theme, static / "demo.css")),
        )
        .lstrip()
    )


def weights(model: KeywordModel) -> dict[str, Any]:
    """Return sizes and weights of a model as demo.js takes them. A batch norm becomes a scale and a shift."""
    features, network = model.features, model.network
    blocks = [block for block in network.blocks if isinstance(block, Block)]
    folded = []
    for norm in (block.norm for block in blocks):
        assert norm.running_var is not None and norm.running_mean is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        folded.append((scale, norm.bias.double() - scale * norm.running_mean.double()))
    return {
        "nFft": features.n_fft,
        "hop": features.hop_length,
        "nMels": features.n_mels,
        "groups": blocks[-1].conv.groups,
        "melFilters": _base64(features.mel_filters),
        "blocks": [
            [_base64(block.conv.weight), *map(_base64, both)] for block, both in zip(blocks, folded, strict=True)
        ],
        "linear": [_base64(network.linear.weight), _base64(network.linear.bias)],
    }


def _base64(values: Tensor) -> str:
    """Return float32 values, little-endian, as base64."""
    return base64.b64encode(values.detach().numpy().astype("<f4").tobytes()).decode()


def serve(page: str, notify: Callable[[str], None]) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C and open it in the browser: there a page may use the microphone."""
    content = page.encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(content if found else b"")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        notify(f"the demo is at {url}; Ctrl-C ends it")
        webbrowser.open(url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
