"""Adam as torch has it, without the second that the first use of torch.optim costs."""

import torch

from kws.model.dynamo import without_dynamo


class Adam(torch.optim.Adam):
    """torch.optim.Adam, with `step` as it is inside the wrapper that imports torch._dynamo."""

    step = torch.no_grad()(getattr(torch.optim.Adam.step, "__wrapped__", torch.optim.Adam.step))


def adam(parameters, lr):
    """Return Adam over `parameters`, fused where its kernels exist: one pass over all of them."""
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        without_dynamo(getattr(torch.optim.Optimizer, name))
    parameters = list(parameters)
    fused = parameters[0].device.type in ("cpu", "cuda")
    return Adam(parameters, lr=lr, fused=fused)
