"""benchmarks/serve.py measures a server with wrk, and finds every event that it sent."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.harness import BENCHMARKS


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk: apt-get install wrk")
def test_the_benchmark_of_the_server(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "serve.py", "--quick", "--out", tmp_path, "--folder", tmp_path],
        capture_output=True, text=True, timeout=170, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "serve.json").read_text())
    assert document["claim"].startswith("Claim: ")
    _, gets, posts, both_gets, both_posts, replay = document["results"]
    for result in (gets, posts, both_gets, both_posts):
        assert result["errors"] == 0
        assert result["requests"] > 0
        assert 0 < result["p50_ms"] <= result["p99_ms"]
    assert replay["acknowledged"] == posts["requests"] + both_posts["requests"]
    assert replay["reached"]
