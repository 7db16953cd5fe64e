"""The devices that tests run on: the CPU, and CUDA where there is a GPU.  A conftest.py imports the fixtures.

With FAIL_WITHOUT_CUDA=1 a missing GPU is a failure, so that skipped tests are not mistaken for passed ones.
"""

from __future__ import annotations

import os

import pytest
import torch

REQUIRED = os.environ.get("FAIL_WITHOUT_CUDA") == "1"
DEVICES = ["cpu", "cuda"] if REQUIRED or torch.cuda.is_available() else ["cpu"]


# The scope is the session, because Hypothesis calls a test many times with one value of a fixture.
@pytest.fixture(scope="session", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn."""
    return str(request.param) if request.param == "cpu" else _cuda()


@pytest.fixture(scope="session")
def gpu() -> str:
    """The name of the first CUDA device; without a GPU, tests that use it are skipped."""
    return _cuda()


def _cuda() -> str:
    if torch.cuda.is_available():
        return "cuda:0"
    if REQUIRED:
        pytest.fail("FAIL_WITHOUT_CUDA=1, but torch finds no GPU")
    pytest.skip("needs a GPU")
