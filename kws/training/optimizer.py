"""Adam without the import of torch._dynamo, which costs a second at the first use of torch.optim."""

from collections.abc import Iterable

import torch

from kws.model.dynamo import without_dynamo


class Adam(torch.optim.Adam):
    """torch.optim.Adam, with `step` free of the wrapper that imports torch._dynamo."""

    step = torch.no_grad()(getattr(torch.optim.Adam.step, "__wrapped__", torch.optim.Adam.step))


def adam(parameters: Iterable[torch.nn.Parameter], lr: float) -> Adam:
    """Return Adam over `parameters`, fused (one pass over all of them) on devices that have the kernels."""
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        without_dynamo(getattr(torch.optim.Optimizer, name))
    parameters = list(parameters)
    return Adam(parameters, lr=lr, fused=parameters[0].device.type in ("cpu", "cuda"))
