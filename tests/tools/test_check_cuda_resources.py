"""tools/check_cuda_resources.py reads the output of ptxas, and refuses hot kernels with stack or spills."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import check_cuda_resources as resources
import pytest
from check_cuda_resources import MULTIPROCESSORS, Kernel

PTXAS_OUTPUT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4scanIfEvPT_' for 'sm_90'
ptxas info    : Function properties for _Z4scanIfEvPT_
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16384 bytes smem, 400 bytes cmem[0]
ptxas info    : Compile time = 2.404 ms
ptxas info    : Compiling entry function '_Z4scanIdEvPT_' for 'sm_90'
ptxas info    : Function properties for _Z4scanIdEvPT_
    64 bytes stack frame, 48 bytes spill stores, 52 bytes spill loads
ptxas info    : Function properties for __internal_slow_path
    8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers, 64 bytes cumulative stack size
"""
HOT = Kernel("scan<float>", 40, 0, 0, 0, 16384, 256)
PTX = """
.visible .entry _Z4scanIfEvPT_(
	.param .u64 _Z4scanIfEvPT__param_0
)
.maxntid 128, 2, 1
{
	ret;
}
.visible .entry _Z4scanIdEvPT_(
	.param .u64 p
)
{
	ret;
}
"""


def test_the_resources_of_every_kernel_are_read() -> None:
    assert resources.parse(PTXAS_OUTPUT) == [
        Kernel("_Z4scanIfEvPT_", 40, 0, 0, 0, 16384),
        Kernel("_Z4scanIdEvPT_", 255, 64, 48, 52, 0),
    ]


@pytest.mark.parametrize("lost", ["bytes stack frame", "Used"])
def test_an_incomplete_output_of_ptxas_is_an_error(lost: str) -> None:
    rest = "\n".join(line for line in PTXAS_OUTPUT.splitlines() if lost not in line)
    with pytest.raises(ValueError, match="ptxas did not say"):
        resources.parse(rest)


def test_the_threads_of_a_block_are_read_from_the_launch_bounds() -> None:
    assert resources.threads_of(PTX) == {"_Z4scanIfEvPT_": 256}


@pytest.mark.parametrize(
    ("kernel", "share"),
    [
        (replace(HOT, registers=32, shared=0), 1.0),
        (replace(HOT, registers=40, shared=0), 48 / 64),  # registers for 6 blocks of 8 warps
        (replace(HOT, registers=255, shared=0), 8 / 64),
        (replace(HOT, registers=32, shared=48 << 10), 32 / 64),  # shared memory for 4 blocks
        (replace(HOT, registers=16, shared=0, threads=32), 32 / 64),  # at most 32 blocks
    ],
)
def test_the_scarcest_resource_limits_occupancy(kernel: Kernel, share: float) -> None:
    assert kernel.occupancy(MULTIPROCESSORS[90]) == pytest.approx(share)


@pytest.mark.parametrize(
    "change", [{"stack": 16}, {"spill_stores": 4}, {"spill_loads": 4}], ids=lambda change: next(iter(change))
)
def test_a_hot_kernel_with_stack_or_spills_is_refused_and_a_cold_one_is_not(
    change: dict[str, int],
) -> None:
    bad = replace(HOT, **change)
    table, wrong = resources.report([bad, replace(bad, name="scan<double>")], 90)
    (sentence,) = wrong
    assert sentence.startswith("scan<float> has ")
    assert str(next(iter(change.values()))) in sentence
    assert table.count("bytes of") == 2
    assert resources.report([HOT], 90)[1] == []


def test_without_nvcc_it_says_that_nothing_was_checked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resources, "find_nvcc", lambda: None)
    monkeypatch.setattr(sys, "argv", ["check_cuda_resources.py"])
    assert resources.main() == 0
    assert "there is no nvcc here" in capsys.readouterr().out


SPILLING = """
template <typename T> __global__ void __launch_bounds__(256) spills(T* data, int n) {
  T own[64];
  for (int i = 0; i < 64; ++i) own[i] = data[i];
  for (int i = 0; i < n; ++i) own[data[i] > 0 ? i % 64 : 0] += data[i];
  for (int i = 0; i < 64; ++i) data[i] = own[i];
}
template __global__ void spills<float>(float*, int);
"""


@pytest.mark.skipif(resources.find_nvcc() is None or shutil.which("c++filt") is None, reason="needs nvcc")
def test_a_compiled_kernel_with_a_stack_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "spills.cu", tmp_path / "out.json"
    source.write_text(SPILLING)
    monkeypatch.setattr(sys, "argv", ["check_cuda_resources.py", "--out", str(out), str(source)])
    assert resources.main() == 1
    assert "spills<float> has 256 bytes of stack" in capsys.readouterr().err
    (kernel,) = json.loads(out.read_text())["kernels"]
    assert (kernel["name"], kernel["threads"], kernel["hot"]) == ("spills<float>", 256, True)


def test_the_report_that_the_build_left_is_read_if_it_is_of_this_gpu(tmp_path: Path) -> None:
    kept = tmp_path / "scan"
    kept.mkdir()
    (kept / "scan.ptx").write_text(PTX)
    source = Path("cuda/scan.cu")
    assert resources.built(tmp_path, source, 90) is None
    (kept / "ptxas.txt").write_text(PTXAS_OUTPUT)
    kernels = resources.built(tmp_path, source, 90)
    assert kernels is not None
    assert [(kernel.registers, kernel.threads) for kernel in kernels] == [(40, 256), (255, None)]
    assert resources.built(tmp_path, source, 80) is None
    assert resources.built(tmp_path, Path("cuda/bdlru.cu"), 90) is None


def test_the_launcher_keeps_the_report_and_the_status_of_the_compiler(tmp_path: Path) -> None:
    launcher = Path(resources.__file__).with_name("keep_ptxas_output.py")
    compiler = tmp_path / "nvcc"
    compiler.write_text(
        '#!/bin/sh\nfor w in "$@"; do case $w in --keep-dir=*) d=${w#*=};; esac; done\n'
        'echo kept > "$d/a.ptx"; echo large > "$d/a.cubin"; echo said "$@"; exit ${STATUS:-0}\n'
    )
    compiler.chmod(0o755)
    command = [sys.executable, launcher, tmp_path / "kept", compiler, "-c", "cuda/a.cu"]
    for status in (0, 3):
        done = subprocess.run(
            command, env={**os.environ, "STATUS": str(status)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == status
        files = {file.name for file in (tmp_path / "kept" / "a").iterdir()}
        assert files == ({"a.ptx", "ptxas.txt"} if status == 0 else {"a.ptx"})
        assert ("said -c cuda/a.cu" in done.stderr) == (status != 0)
