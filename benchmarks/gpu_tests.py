"""A pytest plugin for tests on a GPU: it writes each result at once, and survives an unusable GPU.

RECBLR_TEST_LINES names the file that gets a line of JSON for each test.  After some CUDA errors, such as an
illegal address, everything that the process does on the GPU fails.  So the process ends with the next test,
which is lost, and pytest-xdist starts another process for the remaining tests.  This plugin imports only the
standard library and pytest.
"""

import json
import os
import sys

import pytest

LINES = "RECBLR_TEST_LINES"


class State:
    """lost_in: the test that made the GPU unusable.  worker: whether this is a worker of pytest-xdist."""

    lost_in, worker = None, False


def pytest_configure(config):
    State.worker = hasattr(config, "workerinput")


def pytest_runtest_logreport(report):
    if State.worker:
        return  # the main process of pytest-xdist gets this report too, and writes it
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
    print(f"{State.lost_in} made the GPU unusable for its process", file=sys.stderr, flush=True)
    if State.worker:
        os._exit(70)
    pytest.exit(f"{State.lost_in} made the GPU unusable", returncode=70)


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
