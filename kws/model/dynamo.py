"""Start-up time: keeps torch from importing torch._dynamo where nothing is compiled."""

from collections.abc import Callable
from typing import Any


def without_dynamo(function: Callable[..., Any]) -> None:
    """Keep `function`, which torch excludes from torch.compile, from importing torch._dynamo at its first call.

    The import takes a second of every run. torch's wrapper asks torch._dynamo once for a version of the function and
    caches it in the private attribute that is set here. tests/model/test_dynamo.py fails with a torch release in which
    this has no effect; the only damage would be a slower start.
    """
    inner = getattr(function, "__wrapped__", None)
    if inner:
        setattr(inner, "__dynamo_disable", inner)  # noqa: B010
