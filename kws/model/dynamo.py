"""Start-up time: keeps torch from importing torch._dynamo where nothing is compiled."""


def without_dynamo(function):
    """Spare `function`, which torch keeps away from torch.compile, the import of torch._dynamo at its first call.

    That import takes a second of a run's start, for nothing where nothing is compiled. torch's wrapper asks _dynamo
    once for a version of the function and keeps it as the attribute that is set here: the function itself. Should
    another torch do this otherwise, the attribute changes nothing and the start is slower.
    """
    inner = getattr(function, "__wrapped__", None)
    if inner:
        setattr(inner, "__dynamo_disable", inner)  # noqa: B010
