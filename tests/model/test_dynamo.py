"""kws.model.dynamo avoids the import of torch._dynamo, a second of every run, by means of private attributes of torch.

If a test fails with a new release of torch, that saving no longer works with it: adapt `without_dynamo` or remove it.
"""

import pytest
from helpers import forked

BEGIN = """
import sys
import torch
from kws.config import Config
from kws.model import complexity, network
from kws.training.optimizer import adam

model = network.build(Config(channels=8))

def use(optimizer):
    model(torch.zeros(2, 16000)).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    optimizer.load_state_dict(optimizer.state_dict())
"""
END = """
print("torch._dynamo" in sys.modules)
"""
WITH = "use(adam(model.parameters(), 0.003)); complexity.measure(model)"
WITHOUT = {
    "optimizer": "use(torch.optim.Adam(model.parameters(), 0.003))",
    "complexity": "complexity.without_dynamo = lambda function: None; complexity.measure(model)",
}


def imports_dynamo(statements):
    """Whether torch._dynamo is imported by `statements` in a new process."""
    done = forked.run("-c", BEGIN + statements + END)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1] == "True"


def test_a_run_does_not_import_dynamo():
    assert not imports_dynamo(WITH)


@pytest.mark.parametrize("part", WITHOUT)
def test_without_the_patch_dynamo_is_imported(part):
    assert imports_dynamo(WITHOUT[part])
