"""Build, test, check and measure on a machine with a GPU, offline, in under ten minutes, by one command.

Phases: build (pip, no network), tests (FAIL_WITHOUT_CUDA=1), kernels (beside the floor and peers), encoder
(beside SASRec), train (with --data: the defaults, to their end), memcheck and racecheck (compute-sanitizer on
a reduced set).  Each is a process; one that fails, or for which no time is left, is said to be so and takes
nothing else with it.  Leaves gpu.json with everything, gpu.svg, and a NAME.log for each phase.
Run: python benchmarks/gpu.py --out DIR [--data INTERACTIONS] [--budget SECONDS] [--only PHASE,...] [--quick]
"""

import argparse
import json
import shutil
import statistics
import sys
import xml.etree.ElementTree as ElementTree
from contextlib import suppress
from pathlib import Path

import torch
from measuring import Result
from phases import DONE, Phase, run_phases
from reporting import ROOT, as_json, draw_bars, draw_picture, prepare, source_commit, table
from rich.console import Console

from recblr.data.atomic import atomic_path
from recblr.evaluation.machine import describe_machine

BUDGET = 530  # seconds
NAMES = "build", "tests", "kernels", "encoder", "train", "memcheck", "racecheck"
TESTS = tuple(f"tests/{name}.py" for name in
              ("ops/test_cuda", "ops/test_scan", "ops/test_bdlru", "ops/test_causal_conv1d", "ops/test_fused",
               "ops/test_scan_derivatives", "ops/test_native", "training/test_on_devices",
               "training/test_transfer"))  # fmt: skip
# Small, and every kernel in every regime; ten to a hundred times as slow under the sanitizer.
SANITIZED = "offsets_are_brought_into_order and int32 or nothing_to_do"
MEASURE = "--measure"
TRAINED = "trained"  # the folder of the run, beside the results
WIDTH = 150


def parser():
    result = argparse.ArgumentParser(
        "python benchmarks/gpu.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--out", metavar="DIR", type=Path, required=True)
    result.add_argument("--data", metavar="INTERACTIONS", type=Path, help="train on these, as recblr train")
    result.add_argument("--budget", metavar="SECONDS", type=float, default=BUDGET, help="for all phases")
    result.add_argument("--only", metavar="PHASE,...", default=",".join(NAMES), help=f"of {', '.join(NAMES)}")
    result.add_argument("--quick", action="store_true", help="tiny shapes: only to see it run")
    result.add_argument(MEASURE, choices=("kernels", "encoder"), help=argparse.SUPPRESS)
    return result


def no_gpu():
    """Why nothing can be measured here; empty where it can."""
    if torch.version.cuda is None:
        return f"this needs a GPU, and torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return "this needs a GPU, and torch finds none"
    return ""


def phases(options):
    """What is to be done, in the order of what matters most."""
    capability = "".join(map(str, torch.cuda.get_device_capability())) if torch.cuda.is_available() else "90"
    python, out = sys.executable, options.out
    native = {"RECBLR_REQUIRE_NATIVE": "1", "FAIL_WITHOUT_CUDA": "1"}
    define = "cmake.define.RECBLR_CUDA"
    build = (
        python,
        "-m",
        "pip",
        "install",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "--force-reinstall",
    )
    build += "-C", f"{define}=ON", "-C", f"{define}_ARCHITECTURES={capability}", ROOT
    pytest = (
        python,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-c",
        ROOT / "pyproject.toml",
        f"--rootdir={ROOT}",
    )
    report = f"--junitxml={out / 'tests.xml'}"
    tests = *pytest, report, *(ROOT / name for name in TESTS)
    sanitizer = shutil.which("compute-sanitizer")
    sanitized = *pytest, "-x", ROOT / TESTS[0], "-k", SANITIZED
    lacking = "" if sanitizer else "compute-sanitizer is not on the path"
    measure = [python, Path(__file__), "--out", out, *["--quick"] * options.quick, MEASURE]
    train = python, "-m", "recblr.cli", "train", options.data, "--device", "cuda", "--out", out / TRAINED
    train += ("--epochs", "1") * options.quick
    every = [
        Phase("build", build, least=20, most=300),
        Phase("tests", tests, least=20, most=180, environment=native),
        Phase("kernels", (*measure, "kernels"), least=20, most=200),
        Phase("encoder", (*measure, "encoder"), least=15, most=60),
        Phase(
            "train",
            train,
            least=30,
            most=180,
            environment={"RECBLR_REQUIRE_NATIVE": "1"},
            why_not="" if options.data else "no --data",
        ),
        *(
            Phase(
                tool,
                (sanitizer, "--tool", tool, "--error-exitcode", "1", *sanitized),
                20,
                60,
                native,
                lacking,
            )
            for tool in ("memcheck", "racecheck")
        ),
    ]
    wanted = options.only.split(",")
    return [phase for phase in every if phase.name in wanted]


def lines_of(file):
    """The JSON lines that a measurement has left, whole ones only."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.split("\n")[:-1]]


def tests_of(file):
    """How many tests passed, failed and were skipped, from pytest's report; None without one."""
    try:
        suite = ElementTree.parse(file).getroot().find("testsuite")
    except (FileNotFoundError, ElementTree.ParseError):
        return None
    total, skipped, *failed = (int(suite.attrib[key]) for key in ("tests", "skipped", "failures", "errors"))
    return {"passed": total - skipped - sum(failed), "failed": sum(failed), "skipped": skipped}


def training_of(folder):
    """Each epoch of a run, its seconds and figures, and its test figures; None before the first epoch's end.

    test: masking -> metric -> value; None where the budget ended the run before its evaluation.
    """
    epochs = lines_of(folder / "log.jsonl")
    if not epochs:
        return None
    test = None
    with suppress(FileNotFoundError):
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        figures = report["ours"]["test"]
        test = {
            masking: {name: leaf["mean"] for name, leaf in metrics.items()}
            for masking, metrics in figures.items()
        }
    return {
        "device": epochs[-1]["device"],
        "seconds": [epoch["train_seconds"] for epoch in epochs],
        "valid_seconds": [epoch["valid_seconds"] for epoch in epochs],
        "loss": [epoch["loss"] for epoch in epochs],
        "valid": [epoch["valid"]["unmasked"]["ndcg@10"] for epoch in epochs],
        "best_epoch": epochs[-1]["best_epoch"],
        "test": test,
    }


def kernel_results(out):
    """(bandwidth, results, their figures) of what has been measured."""
    import gpu_kernels

    bandwidth, results, shown = None, [], []
    for record in lines_of(out / "kernels.jsonl"):
        if "copy" in record:
            bandwidth = record["copy"]
        else:
            results.append(Result(record["case"], [record["samples"]]))
            shown.append(gpu_kernels.figures(results[-1], record["failed"]))
    return bandwidth, results, shown


def encoder_results(out):
    """(results, their figures, tokens a second of each)."""
    import gpu_encoder

    records = lines_of(out / "encoder.jsonl")
    results = [Result(record["case"], [record["samples"]]) for record in records]
    shown = [gpu_encoder.figures(r, record["failed"]) for r, record in zip(results, records, strict=True)]
    return results, shown, [record["tokens_per_second"] for record in records]


def document(options, machine, outcomes):
    """Everything that is known so far, as plain values."""
    bandwidth, results, shown = kernel_results(options.out)
    encoders, encoders_shown, tokens = encoder_results(options.out)
    return {
        "benchmark": "gpu",
        "command": "python benchmarks/gpu.py" + (" --quick" if options.quick else ""),
        "commit": source_commit(),
        "machine": machine,
        "budget": options.budget,
        "phases": [outcome.as_json() for outcome in outcomes],
        "tests": tests_of(options.out / "tests.xml"),
        "copy_bytes_per_second": bandwidth,
        "results": [as_json(*each) for each in zip(results, shown, strict=True)],
        "encoder": [
            as_json(*each[:2]) | {"tokens_per_second": each[2]}
            for each in zip(encoders, encoders_shown, tokens, strict=True)
        ],
        "train": training_of(options.out / TRAINED),
    }


def gpu_of_this_machine():
    """What the measurements ran on."""
    properties = torch.cuda.get_device_properties(0)
    return {
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory": properties.total_memory,
        "l2_cache": properties.L2_cache_size,
        "driver_serves_cuda": torch._C._cuda_getDriverVersion(),
        "torch_cuda": torch.version.cuda,
    }


def main(arguments=None):
    options = parser().parse_args(arguments)
    unknown = set(options.only.split(",")) - set(NAMES)
    if unknown:
        sys.exit(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(NAMES)}")
    if options.data and not options.data.exists():
        sys.exit(f"--data {options.data} does not exist")
    if lacking := no_gpu():
        sys.exit(f"benchmarks/gpu.py: {lacking}")
    if options.measure:
        import gpu_encoder
        import gpu_kernels

        module = {"kernels": gpu_kernels, "encoder": gpu_encoder}[options.measure]
        module.main(options.out / f"{options.measure}.jsonl", options.quick)
        return
    options.out = options.out.resolve()
    prepare(options.out)
    for stale in ("kernels.jsonl", "encoder.jsonl", "tests.xml"):
        (options.out / stale).unlink(missing_ok=True)
    shutil.rmtree(options.out / TRAINED, ignore_errors=True)
    machine = describe_machine() | {"gpu": gpu_of_this_machine()}
    console = Console()

    def told(outcomes):
        last = outcomes[-1]
        said = f"{last.name}: {last.status}, {last.seconds:.0f} s"
        console.print("\n".join(filter(None, (said, last.why))), highlight=False, markup=False)
        with atomic_path(options.out / "gpu.json") as draft:
            text = json.dumps(document(options, machine, outcomes), indent=1, ensure_ascii=False)
            draft.write_text(text + "\n", encoding="utf-8")

    outcomes = run_phases(phases(options), options.budget, options.out, told)
    summary(options.out, console)
    failed = [outcome.name for outcome in outcomes if outcome.status not in (DONE, "skipped")]
    print(f"results are in {options.out}")
    if failed:
        sys.exit(f"not done, see above: {', '.join(failed)}")


def summary(out, console):
    """Tables and the picture."""
    import gpu_kernels

    claim = " ".join(gpu_kernels.__doc__.partition("\n\n")[0].split())
    if not console.is_terminal:
        console = Console(width=WIDTH)
    bandwidth, results, shown = kernel_results(out)
    if results:
        console.print(f"a copy moves {bandwidth / 1e9:,.0f} GB/s, read and written")
        console.print(table(claim, results, shown, "times as fast"))
        if any(figure.bar is not None and figure.value for figures in shown for figure in figures):
            draw_picture(out / "gpu.svg", claim, draw_bars, results, shown, "times as fast")
    results, shown, _ = encoder_results(out)
    if results:
        console.print(table("RecBLR's encoder beside SASRec's", results, shown, "times as fast"))
    if trained := training_of(out / TRAINED):
        console.print(training_line(trained), highlight=False, soft_wrap=True)


def training_line(trained):
    """What `training_of` has found, in a line."""
    seconds, test = trained["seconds"], trained["test"]
    said = f"training on {trained['device']}: {len(seconds)} epochs of {statistics.median(seconds):.2f} s"
    if test is None:
        return f"{said}, ended by the budget"
    shown = (
        f"{masking} {name} {test[masking][name]:.4f}" for masking in test for name in ("hr@10", "ndcg@10")
    )
    return f"{said}; test: {', '.join(shown)}"


if __name__ == "__main__":
    main()
