"""`kws train` on a device that is not the CPU, where there is none: the CPU's memory behind tensors that say otherwise.

    python pretend_device.py FLAGS

An operation between a tensor here and one on the device fails, as on a GPU. What a training epoch fetches from the
device is counted; the counts of all epochs are printed as JSON. It changes torch for the whole process.
"""

import json
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from kws import cli
from kws.training import checkpoints
from kws.training import run as training

_setup_privateuseone_for_python_backend("pretend")
DEVICE = torch.device("pretend:0")
ATEN = torch.ops.aten


class Away(torch.Tensor):
    """A tensor on the device; `here` has its numbers."""

    @staticmethod
    def __new__(cls, here):
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(cls, here.size(), **layout, device=DEVICE)
        tensor.here = here
        return tensor

    def __reduce_ex__(self, protocol):
        return Away, (self.here,)

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), options=None):
        return run(operation, arguments, options or {})


class Pretend(TorchDispatchMode):
    """Needed for what has no tensor among its arguments, such as torch.arange(…, device=…)."""

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        return run(operation, arguments, options or {})


fetched = 0


def run(operation, arguments, options):
    global fetched
    tensors = [leaf for leaf in tree_leaves((arguments, options)) if isinstance(leaf, torch.Tensor)]
    away = [tensor for tensor in tensors if isinstance(tensor, Away)]
    device = options.get("device")
    copies = operation in (ATEN._to_copy.default, ATEN.copy_.default)
    strangers = [tensor for tensor in tensors if not isinstance(tensor, Away) and tensor.dim()]
    if away and strangers and not copies:
        raise RuntimeError(f"{operation}: tensors on the device and on the CPU, {[tensor.shape for tensor in tensors]}")
    if device is not None:
        result_away = device.type == DEVICE.type
        options = options | {"device": torch.device("cpu")}
    else:
        result_away = isinstance(arguments[0], Away) if operation is ATEN.copy_.default else bool(away)
    fetched += bool(away) and (operation is ATEN._local_scalar_dense.default or copies and not result_away)
    result = operation(*tree_map(_here, arguments), **tree_map(_here, options))
    known = {id(tensor.here): tensor for tensor in away}  # in-place operations return what they were given

    def wrap(value):
        if not (result_away and isinstance(value, torch.Tensor)):
            return value
        return known[id(value)] if id(value) in known else Away(value)

    return tree_map(wrap, result)


def _here(value):
    return value.here if isinstance(value, Away) else value


def main(flags):
    counts = []
    train_epoch, read = training.TrainingRun.train_epoch, checkpoints.read

    def counted(self, epoch):
        before = fetched
        result = train_epoch(self, epoch)
        counts.append(fetched - before)
        return result

    training.TrainingRun.train_epoch = counted
    training.choose_device = lambda name: DEVICE
    torch.serialization.add_safe_globals([Away])
    checkpoints.read = lambda path, device="cpu": read(path)  # an Away comes back as one
    with Pretend():
        status = cli.main(["train", *flags])
    print(json.dumps(counts))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
