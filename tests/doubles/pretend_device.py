"""`kws train` on a pretend device: CPU memory behind tensors that report another device.

    python pretend_device.py FLAGS

An operation between a CPU tensor and one on the device fails, as on a GPU. Reads from the device are counted in each
training epoch, and the counts are printed as JSON. This script changes torch for the whole process.
"""

import json
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from kws import cli
from kws.model.dynamo import without_dynamo
from kws.training import checkpoints
from kws.training import run as training

_setup_privateuseone_for_python_backend("pretend")
DEVICE = torch.device("pretend:0")
ATEN = torch.ops.aten


class DeviceTensor(torch.Tensor):
    """A tensor on the device; `data_on_cpu` has its numbers."""

    @staticmethod
    def __new__(cls, data):
        layout = {"strides": data.stride(), "storage_offset": data.storage_offset(), "dtype": data.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(cls, data.size(), **layout, device=DEVICE)
        tensor.data_on_cpu = data
        return tensor

    def __reduce_ex__(self, protocol):
        return DeviceTensor, (self.data_on_cpu,)

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), options=None):
        return run(operation, arguments, options or {})


class Pretend(TorchDispatchMode):
    """Needed for operations without a tensor argument, such as torch.arange(…, device=…)."""

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        return run(operation, arguments, options or {})


without_dynamo(Pretend.__torch_dispatch__)
reads = 0


def run(operation, arguments, options):
    global reads
    tensors = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, torch.Tensor)]
    on_device = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
    device = options.get("device")
    copies = operation in (ATEN._to_copy.default, ATEN.copy_.default)
    on_cpu = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor) and tensor.dim()]
    if on_device and on_cpu and not copies:
        raise RuntimeError(f"{operation}: tensors on the device and on the CPU, {[tensor.shape for tensor in tensors]}")
    if device is not None:
        result_on_device = device.type == DEVICE.type
        options = options | {"device": torch.device("cpu")}
    else:
        result_on_device = (
            isinstance(arguments[0], DeviceTensor) if operation is ATEN.copy_.default else bool(on_device)
        )
    reads += bool(on_device) and (operation is ATEN._local_scalar_dense.default or copies and not result_on_device)
    result = operation(*tree_map(_to_cpu, arguments), **tree_map(_to_cpu, options))
    known = {id(tensor.data_on_cpu): tensor for tensor in on_device}  # in-place operations return their argument

    def wrap(value):
        if not (result_on_device and isinstance(value, torch.Tensor)):
            return value
        return known[id(value)] if id(value) in known else DeviceTensor(value)

    return tree_map(wrap, result)


def _to_cpu(value):
    return value.data_on_cpu if isinstance(value, DeviceTensor) else value


def main(flags):
    counts = []
    train_epoch, read = training.TrainingRun.train_epoch, checkpoints.read

    def counted(self, epoch):
        before = reads
        result = train_epoch(self, epoch)
        counts.append(reads - before)
        return result

    training.TrainingRun.train_epoch = counted
    training.choose_device = lambda name: DEVICE
    torch.serialization.add_safe_globals([DeviceTensor])
    checkpoints.read = lambda path, device="cpu": read(path)  # a DeviceTensor is loaded as one
    with Pretend():
        status = cli.main(["train", *flags])
    print(json.dumps(counts))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
