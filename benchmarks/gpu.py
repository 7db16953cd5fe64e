"""Build, test, check and measure on a machine with a GPU, by one command, offline, in under nine minutes.

The stages run in this order: build (pip, into a separate folder), tests, memcheck (compute-sanitizer on our
kernels), kernels (compared with a copy of the same size and with peers), train (with --data, for as many
epochs as fit into the time), racecheck, encoder (compared with SASRec).  Each stage is a process with its own
share of the time.  When a stage fails, hangs or makes the GPU unusable, only its own figures are lost.

This program itself needs only Python: no package, no network and no git.  When a stage lacks a package, it
names the package.  DIR gets at most five files: gpu.json (all figures, written again after each stage),
tests.xml, kernels.svg, train.jsonl and logs.tgz.  `--only build` needs no GPU.  `--only` without build uses
the last build.
Run: python benchmarks/gpu.py --out DIR [--data INTERACTIONS] [--minutes 8.5] [--only NAME,...]
"""

import argparse
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from gpu_report import document, keep, lines_of, summary
from stages import DONE, SKIPPED, Stage, run_stages

ROOT = Path(__file__).parents[1]
HERE = ROOT / "benchmarks"
NAMES = "build", "tests", "memcheck", "kernels", "train", "racecheck", "encoder"
MINUTES = 8.5
TESTS = tuple(f"tests/{name}.py" for name in
              ("ops/test_cuda", "ops/test_scan", "ops/test_bdlru", "ops/test_causal_conv1d", "ops/test_fused",
               "ops/test_scan_derivatives", "ops/test_native", "training/test_on_devices",
               "system/test_transfer"))  # fmt: skip
# The tests for the sanitizers: small ones, for each operator in each regime, in float32.  A sanitizer makes
# them 10 to 100 times slower.
SANITIZED = "(brought and int32) or nothing_to_do"
WORKERS = 8  # test processes; each uses about 500 MB of the GPU's memory


def parser():
    result = argparse.ArgumentParser(
        "python benchmarks/gpu.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--out", metavar="DIR", type=Path, required=True)
    result.add_argument("--data", metavar="INTERACTIONS", type=Path, help="train on this file")
    result.add_argument("--minutes", type=float, default=MINUTES, help=f"for all stages ({MINUTES})")
    result.add_argument("--only", metavar="NAME,...", default=",".join(NAMES), help="run these stages only")
    result.add_argument("--commit", metavar="ID", help="the commit of these sources, if git cannot tell it")
    result.add_argument("--quick", action="store_true", help="tiny shapes: a smoke test")
    return result


class Machine:
    """This machine, with the GPU that torch sees, or the reason why torch sees none."""

    def __init__(self):
        found = _output_of(sys.executable, HERE / "gpu_probe.py")
        lacking = missing("torch") or "torch failed when it looked for a GPU"
        self.gpu = json.loads(found) if found else {"why": lacking}

    def no_gpu(self):
        """The reason why no stage can use a GPU; "" if stages can use one."""
        return f"it needs a GPU, and {self.gpu['why']}" if "why" in self.gpu else ""

    def architecture(self):
        """The GPU's architecture, as CMake names it; Hopper's if there is no GPU."""
        return self.gpu.get("capability", "9.0").replace(".", "")

    def as_json(self):
        """The description of the machine for gpu.json."""
        models = (line for line in lines_of(Path("/proc/cpuinfo")) if line.startswith("model name"))
        asked = "--query-gpu=driver_version,clocks.max.sm,clocks.max.memory"
        return {
            "platform": f"{platform.system()} {platform.machine()}",
            "cpu": next(models, ":").partition(":")[2].strip(),
            "cores": _cores(),
            "python": platform.python_version(),
            "gpu": self.gpu,
            "driver, clocks": _output_of("nvidia-smi", asked, "--format=csv,noheader"),
            "nvcc": _output_of("nvcc", "--version").rpartition("\n")[2],
        }


def _cores():
    return len(os.sched_getaffinity(0))


def _output_of(*command):
    """The output of a program; "" if it cannot be run or fails."""
    try:
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def missing(*modules):
    """A sentence that names the modules that cannot be imported; "" if all can be imported."""
    lacking = [name for name in modules if find_spec(name) is None]
    return f"it needs {', '.join(lacking)}: python -m pip install {' '.join(lacking)}" if lacking else ""


def no_compiler():
    """A sentence that names a missing build tool; "" if none is missing."""
    if not (os.environ.get("CUDACXX") or shutil.which("nvcc") or Path("/usr/local/cuda/bin/nvcc").exists()):
        return "it needs nvcc: set CUDACXX to its path"
    if not (shutil.which("cmake") or find_spec("cmake")):
        return "it needs cmake: python -m pip install cmake"
    return ""


class Plan:
    """The command of each stage, and the reason if the stage cannot run here."""

    def __init__(self, options, machine, work):
        self.options, self.machine, self.work = options, machine, work
        self.wanted = options.only.split(",")
        self.ended = {}  # name -> status of the stages that have ended
        self.quick = ["--quick"] * options.quick
        paths = filter(None, (str(work / "site"), os.environ.get("PYTHONPATH"), str(HERE)))
        self.environment = {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "RECBLR_REQUIRE_NATIVE": "1",
            "FAIL_WITHOUT_CUDA": "1",
            "CMAKE_BUILD_PARALLEL_LEVEL": str(_cores()),
        }

    def stages(self):
        """The wanted stages, the most important first."""
        tested, trained = ("torch", "pytest", "hypothesis"), ("torch", "polars", "rich", "typer")
        sanitizer = "" if shutil.which("compute-sanitizer") else "it needs compute-sanitizer on the PATH"
        no_data = "" if self.options.data else "it needs --data"
        every = (
            self._stage("build", self.build, 200, 20, self._no_build),
            self._stage("tests", self.tests, 110, 20, self._why_not(*tested)),
            self._stage("memcheck", self.check("memcheck"), 50, 15, self._why_not(*tested, also=sanitizer)),
            self._stage("kernels", self.kernels, 150, 30, self._why_not("torch")),
            self._stage("train", self.train, 60, 20, self._why_not(*trained, also=no_data)),
            self._stage("racecheck", self.check("racecheck"), 45, 15, self._why_not(*tested, also=sanitizer)),
            self._stage("encoder", self.encoder, 40, 15, self._why_not("torch", "polars", "rich")),
        )
        return [stage for stage in every if stage.name in self.wanted]

    def _stage(self, name, command, share, least, why_not):
        environment = self.environment | {"RECBLR_TEST_LINES": str(self.work / f"{name}.jsonl")}
        if name == "tests":  # each test also computes on the CPU, so the test processes share its cores
            environment["OMP_NUM_THREADS"] = str(max(1, _cores() // WORKERS))
        if name == "memcheck":  # memcheck does not see an overrun inside a block of torch's cache
            environment["PYTORCH_NO_CUDA_MEMORY_CACHING"] = "1"
        return Stage(name, command, share, least, environment, why_not)

    def _why_not(self, *modules, also=""):
        def reason():
            if "build" in self.wanted and self.ended.get("build") != DONE:
                return self.machine.no_gpu() or "it needs the build, which did not succeed"
            return self.machine.no_gpu() or missing(*modules) or also

        return reason

    def _no_build(self):
        # Compiling takes minutes, so it needs a GPU that can run the result, unless only the build is wanted.
        gpu = "" if self.wanted == ["build"] else self.machine.no_gpu()
        return gpu or missing("pip", "pybind11", "scikit_build_core") or no_compiler()

    def build(self, _):
        # Install into a separate folder: the system may forbid changes to the interpreter's own packages, and
        # the checkout must stay clean.
        pip = sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index"
        settings = (
            "cmake.define.RECBLR_CUDA=ON",
            f"cmake.define.RECBLR_CUDA_ARCHITECTURES={self.machine.architecture()}",
            f"build-dir={self.work / 'build'}",
        )
        words = [word for setting in settings for word in ("-C", setting)]
        install = shlex.join(map(str, (*pip, "--upgrade", "--target", self.work / "site", *words, ROOT)))
        # The build must be able to run a scan; otherwise all later stages would fail.
        runs = shlex.join(map(str, (sys.executable, HERE / "gpu_probe.py", "--kernels")))
        return "sh", "-c", install if self.machine.no_gpu() else f"{install} && {runs}"

    def _pytest(self, *words):
        plugins = "-p", "no:cacheprovider", "-p", "gpu_tests"
        return sys.executable, "-m", "pytest", *plugins, "--tb=short", *words

    def tests(self, _):
        workers = ("-n", min(WORKERS, _cores())) if find_spec("xdist") else ()
        return self._pytest("--continue-on-collection-errors", *workers, *TESTS)

    def check(self, tool):
        # Without --kernel-name, the sanitizer would also check torch's own kernels.
        command = "compute-sanitizer", "--tool", tool, "--kernel-name", "kns=recblr", "--error-exitcode", "1"
        return lambda _: (*command, *self._pytest(TESTS[0], "-k", SANITIZED))

    def kernels(self, seconds):
        files = self.work / "kernels.jsonl", self.options.out / "kernels.svg"
        return sys.executable, HERE / "gpu_shapes.py", *files, "--seconds", seconds, *self.quick

    def train(self, _):
        command = sys.executable, "-m", "recblr", "train", self.options.data, "--device", "cuda"
        return *command, "--out", self.work / "run", *("--epochs", "1") * self.options.quick

    def encoder(self, _):
        return sys.executable, HERE / "gpu_encoder.py", self.work / "encoder.jsonl", *self.quick


def main(arguments=None):
    options = parser().parse_args(arguments)
    if unknown := sorted(set(options.only.split(",")) - set(NAMES)):
        sys.exit(f"--only: unknown stage {', '.join(unknown)}; choose from {', '.join(NAMES)}")
    if options.data and not options.data.is_file():
        sys.exit(f"--data {options.data} is not a file")
    if not options.minutes > 0:
        sys.exit(f"--minutes must be above 0, but is {options.minutes:g}")
    options.out = options.out.resolve()
    options.data = options.data and options.data.resolve()
    # This folder stays after the command, so that the next command can use the same build.
    work = Path(tempfile.gettempdir()) / f"recblr-gpu-{os.getuid()}"
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        work.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        sys.exit(f"cannot create {error.filename}: {error.strerror}; choose another --out")
    os.chdir(ROOT)
    plan = Plan(options, Machine(), work)
    _remove_old_results(work, plan.wanted)
    about = {
        "benchmark": "gpu",
        "command": _command(options),
        "commit": options.commit or _output_of("git", "describe", "--always", "--abbrev=40", "--dirty"),
        "machine": plan.machine.as_json(),
        "minutes": options.minutes,
    }

    def record(outcomes):
        last = outcomes[-1]
        plan.ended[last.name] = last.status
        took = "" if last.status == SKIPPED else f" after {last.seconds:.0f} s"
        keep(options.out, about, work, outcomes)
        print(f"{last.name}: {last.status}{took}" + (f": {last.why}" if last.why else ""), flush=True)

    outcomes = run_stages(plan.stages(), 60 * options.minutes, work, record)
    print("\n".join(summary(document(about, work, outcomes))))
    print(f"results are in {options.out}")
    if failed := [outcome.name for outcome in outcomes if outcome.status not in (DONE, SKIPPED)]:
        sys.exit(f"not done, see above: {', '.join(failed)}")


def _remove_old_results(work, names):
    """Remove what these stages left behind in an earlier command."""
    for name in names:
        for old in (f"{name}.jsonl", f"{name}.log"):
            (work / old).unlink(missing_ok=True)
    if "train" in names:
        shutil.rmtree(work / "run", ignore_errors=True)


def _command(options):
    words = ["--quick"] * options.quick
    words += ["--only", options.only] if options.only != ",".join(NAMES) else []
    return " ".join(["python benchmarks/gpu.py", *words])


if __name__ == "__main__":
    main()
