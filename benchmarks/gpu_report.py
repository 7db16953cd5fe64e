"""Gather the results of the stages of benchmarks/gpu.py into files and a summary.

This module imports only the standard library, because it runs before the build, without any package.
"""

import json
import shutil
import statistics
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager
from dataclasses import asdict

from stages import SKIPPED

LARGEST = 4 << 20  # bytes; a larger file in --out gets a warning
LARGEST_LOG = 1 << 20  # bytes of each log that are kept
FAILURES = 20  # the summary names at most so many failed tests


def json_lines(file):
    """The records of a file of JSON lines; a last line that was cut off is left out."""
    return [json.loads(line) for line in "".join(lines_of(file)).split("\n")[:-1]]


def lines_of(file):
    """The lines of a text file; an empty list if the file does not exist."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            return list(lines)
    except FileNotFoundError:
        return []


def tests_of(records):
    """Numbers of passed, failed and skipped tests, and the text of each failure; None if no test ran."""
    if not records:
        return None
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for record in records:
        counts[record["outcome"]] += 1
    failures = {record["id"]: record["text"][-500:] for record in records if record["outcome"] == "failed"}
    return counts | {"failures": failures}


def sanitizer_of(log, records):
    """The summaries of compute-sanitizer, and the results of its tests; None if it has not run."""
    summaries = [line.strip("= \n") for line in lines_of(log) if "SUMMARY:" in line]
    tests = tests_of(records)
    return {"summaries": summaries, "tests": tests} if summaries or tests else None


def training_of(epochs):
    """Seconds and figures of each epoch in a run's log; None if no epoch has ended."""
    if not epochs:
        return None
    return {
        "device": epochs[-1]["device"],
        "seconds": [epoch["train_seconds"] for epoch in epochs],
        "valid_seconds": [epoch["valid_seconds"] for epoch in epochs],
        "targets": [epoch["targets"] for epoch in epochs],
        "loss": [epoch["loss"] for epoch in epochs],
        "valid": [epoch["valid"]["unmasked"]["ndcg@10"] for epoch in epochs],
        "best_epoch": epochs[-1]["best_epoch"],
    }


def document(about, work, outcomes):
    """All results so far, as plain values.

    about: the first fields of the document.  work: the folder with the results and logs of the stages.
    """
    lines = {name: json_lines(work / f"{name}.jsonl") for name in ("tests", "memcheck", "racecheck")}
    return about | {
        "stages": [asdict(outcome) for outcome in outcomes],
        "tests": tests_of(lines["tests"]),
        "memcheck": sanitizer_of(work / "memcheck.log", lines["memcheck"]),
        "kernels": json_lines(work / "kernels.jsonl"),
        "train": training_of(json_lines(work / "run" / "log.jsonl")),
        "racecheck": sanitizer_of(work / "racecheck.log", lines["racecheck"]),
        "encoder": json_lines(work / "encoder.jsonl"),
    }


def keep(out, about, work, outcomes):
    """Write all results so far into the folder `out`, and return them."""
    found = document(about, work, outcomes)
    with _whole(out / "gpu.json") as draft:
        draft.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if records := json_lines(work / "tests.jsonl"):
        with _whole(out / "tests.xml") as draft:
            junit(records).write(draft, encoding="utf-8", xml_declaration=True)
    if (log := work / "run" / "log.jsonl").exists():
        with _whole(out / "train.jsonl") as draft:
            shutil.copyfile(log, draft)
    if logs := [work / f"{outcome.name}.log" for outcome in outcomes if outcome.status != SKIPPED]:
        with _whole(out / "logs.tgz") as draft, tarfile.open(draft, "w:gz") as archive:
            for log in logs:
                _add_end(archive, log)
    for file in out.iterdir():
        if file.stat().st_size > LARGEST:
            print(f"{file.name} has {file.stat().st_size:,} bytes, over {LARGEST:,}", file=sys.stderr)
    return found


def junit(records):
    """The tests as a JUnit XML document, which tools for test reports read."""
    suite = ElementTree.Element("testsuite", name="recblr on a GPU", tests=str(len(records)))
    for outcome, attribute in (("failed", "failures"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(record["outcome"] == outcome for record in records)))
    for record in records:
        place, _, name = record["id"].partition("::")
        case = ElementTree.SubElement(suite, "testcase", classname=place, name=name)
        case.set("time", str(record["seconds"]))
        if record["outcome"] != "passed":
            kind = "failure" if record["outcome"] == "failed" else "skipped"
            text = "".join(c for c in record["text"] if c.isprintable() or c in "\n\t")
            ElementTree.SubElement(case, kind, message=record["when"]).text = text
    return ElementTree.ElementTree(suite)


@contextmanager
def _whole(file):
    """A draft that replaces the file at the end of the block, so that the file is never half-written.

    recblr.io.atomic does the same, but cannot be imported before recblr is built.
    """
    draft = file.with_name(f".{file.name}.draft")
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _add_end(archive, log):
    """Add a log to the archive; only the end of a long log is added."""
    with tempfile.NamedTemporaryFile() as end:
        end.write(log.read_bytes()[-LARGEST_LOG:])
        end.flush()
        archive.add(end.name, log.name)


def summary(found):
    """The lines that gpu.py prints at the end."""
    lines = []
    if tests := found["tests"]:
        lines.append(f"tests: {tests['passed']} passed, {tests['failed']} failed, {tests['skipped']} skipped")
        lines += [f"  failed: {name}" for name in list(tests["failures"])[:FAILURES]]
    for tool in ("memcheck", "racecheck"):
        if checked := found[tool]:
            verdict = "; ".join(checked["summaries"]) or "ended before its summary"
            passed = (checked["tests"] or {}).get("passed", 0)
            lines.append(f"{tool}: {verdict}, in {passed} tests that passed")
    if rows := _shares(found["kernels"]):
        lines += ["shares of the speed of a copy of the same size, float32 and bfloat16:", *rows]
    lines += _beside_peers(found["kernels"])
    lines += [
        f"{', '.join(record['case'].values())}: {name} made the GPU unusable: {why}"
        for record in found["kernels"]
        for name, why in record.get("lost", {}).items()
    ]
    if trained := found["train"]:
        seconds, best = statistics.median(trained["seconds"]), max(trained["valid"])
        epochs = len(trained["seconds"])
        lines.append(f"train: {epochs} epochs of {seconds:.2f} s, NDCG@10 {best:.4f} on validation")
    for record in found["encoder"]:
        for figure in record["figures"]:
            value = f"{figure['value']['median']:.2f}" if figure["value"] else figure["note"]
            lines.append(f"T = {record['case']['T']}: {figure['ours']} beside {figure['beside']}: {value}")
    return lines


def _shares(kernels):
    """One line for each shape and operator: the share of a copy's speed in float32 and bfloat16."""
    found = {}
    for record in kernels:
        if record["pass"] != "ours":
            continue
        case, figure = record["case"], record["figures"][0]  # beside the copy
        row = f"{case['shape']:<18} {case['operator']:<13} {case['direction']:<20}"
        value = f"{figure['value']['median']:.2f}" if figure["value"] else "none"
        missed = " missed" if figure["reached"] is False else ""
        found.setdefault(row, {})[case["dtype"]] = value + missed
    return [
        f"{row} {cells.get('float32', ''):>12} {cells.get('bfloat16', ''):>12}"
        for row, cells in found.items()
    ]


def _beside_peers(kernels):
    """One line for each peer: how many times as fast ours is, over all cases that the peer ran."""
    found = {}
    for record in kernels:
        for figure in record.get("figures", ()):
            if record["pass"] == "peers" and figure["beside"] != "copy" and figure["value"]:
                key = record["case"]["operator"], record["case"]["direction"], figure["beside"]
                found.setdefault(key, []).append(figure["value"]["median"])
    return [
        f"{', '.join(key)}: {statistics.median(times):.1f} times as fast, from {min(times):.1f} to "
        f"{max(times):.1f} in {len(times)} cases"
        for key, times in found.items()
    ]
