"""A pytest plugin for tests on a GPU: each result is kept at once, and a lost GPU costs one test.

RECBLR_TEST_LINES names the file that gets a line of JSON for each test.  A CUDA error that stays, such as an
illegal address, fails everything that the process does afterwards.  So the process ends, and pytest-xdist
starts another for the tests that are left.  Imports only the standard library and pytest.
"""

import json
import os
import sys

import pytest

LINES = "RECBLR_TEST_LINES"


class State:
    """lost_in: the test that left the GPU unusable for this process.  worker: one of pytest-xdist's."""

    lost_in, worker = None, False


def pytest_configure(config):
    State.worker = hasattr(config, "workerinput")


def pytest_runtest_logreport(report):
    if State.worker:
        return  # the process that gave this one its tests gets the report too
    if report.when != "call" and report.outcome == "passed":
        return
    record = {
        "id": report.nodeid,
        "outcome": report.outcome,
        "when": report.when,
        "seconds": round(report.duration, 3),
        "text": "" if report.passed else str(report.longrepr)[-2000:],
    }
    with open(os.environ[LINES], "a", encoding="utf-8") as lines:
        print(json.dumps(record, ensure_ascii=False), file=lines)


def pytest_runtest_setup(item):
    if State.lost_in is None:
        return
    print(f"{State.lost_in} left the GPU unusable for its process", file=sys.stderr, flush=True)
    if State.worker:
        os._exit(70)
    pytest.exit(f"{State.lost_in} left the GPU unusable", returncode=70)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and not _gpu_works():
        State.lost_in = item.nodeid
    return report


def _gpu_works():
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True
