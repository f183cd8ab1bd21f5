"""Adam as torch has it, without the second that the first use of torch.optim costs."""

import torch


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


def without_dynamo(function):
    """Spare `function`, which torch keeps away from torch.compile, the import of torch._dynamo at its first call.

    That import takes a second of a run's start, for nothing where nothing is compiled. torch's wrapper asks _dynamo
    once for a version of the function and keeps it as the attribute that is set here: the function itself. Should
    another torch do this otherwise, the attribute changes nothing and the start is slower.
    """
    inner = getattr(function, "__wrapped__", None)
    if inner:
        setattr(inner, "__dynamo_disable", inner)  # noqa: B010
