"""What `kws bench` measures inside one process: our epoch and its parts, the matrix product, inference.

Each function `timed_…` prepares a measurement and returns a function that takes it once and returns numbers by name:
what `kws.bench_race.race` asks for.
"""

import time
from statistics import median

import torch

from kws import train
from kws.data.audio import N_SAMPLES, to_float
from kws.data.batches import epoch_generator

MATRIX_SIZES = (1024, 1536, 2048)


def timed_epoch(config, cpus=None, compile_mode=None):
    """Our training epoch, as `kws train` does it on `cpus` CPUs, default all. compile_mode: torch.compile's, if any."""
    run = train.Run(config, train.prepare(config, cpus=cpus), None, None, None)
    if compile_mode:
        run.parts.model.network = torch.compile(run.parts.model.network, mode=compile_mode)

    def once():
        began = time.perf_counter()
        run.train_epoch(1)
        return {"seconds": time.perf_counter() - began}

    return once


def timed_parts(config):
    """Milliseconds a batch of each part of our training step, with augmentation; and the GFLOP of the network's step.

    Our loop draws an augmented batch at once; "augmentation" is what that costs beyond a plain batch of the same clips.
    """
    run = train.Run(config, train.prepare(config), None, None, None)
    batches, network, optimizer = run.parts.batches, run.parts.model, run.optimizer
    gflop = _step_gflop(network, config)

    def once():
        generator = epoch_generator(config.seed, 1)
        network.train()
        marks = []
        order = torch.randperm(len(batches.labels), generator=generator)
        for rows in order.split(config.batch_size):
            mark = [time.perf_counter()]
            to_float(batches.seconds.index_select(0, batches.starts[rows]))
            mark.append(time.perf_counter())
            waveforms = batches.augment(batches.seconds, batches.starts[rows], generator)
            change = batches.spectral.draw(len(rows), generator)
            labels = batches.labels[rows]
            mark.append(time.perf_counter())
            features = network.features(waveforms)
            mark.append(time.perf_counter())
            features = change(features)
            mark.append(time.perf_counter())
            logits = network.network(features)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
            mark.append(time.perf_counter())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            mark.append(time.perf_counter())
            optimizer.step()
            mark.append(time.perf_counter())
            marks.append(mark)
        marks = marks[:-1] if len(order) % config.batch_size else marks  # the last batch is a smaller one
        moments = torch.tensor(marks, dtype=torch.float64)
        milliseconds = (1000 * moments.diff(dim=1).median(0).values).tolist()
        assembly, augmented, features, changed, forward, backward, step = milliseconds
        return {
            "batch assembly": assembly,
            "augmentation": augmented - assembly + changed,
            "front end": features,
            "forward": forward,
            "backward": backward,
            "optimiser": step,
            "network": forward + backward + step,
            "gflop": gflop,
        }

    return once


def _step_gflop(model, config):
    """Floating-point operations of the network's forward and backward pass of a batch, as torch counts them, / 1e9."""
    from torch.utils.flop_counter import FlopCounterMode

    model.train()
    features = model.features(torch.zeros(config.batch_size, N_SAMPLES))
    with FlopCounterMode(display=False) as counter:
        model.network(features).sum().backward()
    return counter.get_total_flops() / 1e9


def timed_matrix_product(threads, sizes=MATRIX_SIZES):
    """The fastest matrix product's GFLOP/s over square matrices of `sizes`."""
    torch.set_num_threads(threads)
    matrices = [torch.randn(size, size) for size in sizes]

    def once():
        rates = []
        for matrix in matrices:
            began = time.perf_counter()
            torch.mm(matrix, matrix)
            rates.append(2 * len(matrix) ** 3 / (time.perf_counter() - began) / 1e9)
        return {"gflops": max(rates)}

    return once


def timed_inference(config, batch, times=20):
    """Milliseconds a clip from waveforms to logits in batches of `batch`."""
    parts = train.prepare(config)
    model = parts.model.eval()
    waveforms = to_float(parts.corpus.testing.waveforms)
    waveforms = waveforms.repeat(-(-batch // len(waveforms)), 1)[:batch]

    @torch.inference_mode()
    def once():
        spent = []
        for _ in range(times):
            began = time.perf_counter()
            model(waveforms)
            spent.append(time.perf_counter() - began)
        return {"ms": 1000 * median(spent) / batch}

    return once
