"""Everything that a document names exists: links, examples, flags, files, make targets, variables, names."""

from __future__ import annotations

import importlib
import re
import subprocess
from pathlib import Path

import pytest
import typer

import recblr.cli.commands  # noqa: F401  registers them
from recblr.cli.app import app
from recblr.config import OPTIONS

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")), *DOCS]

# Flags of other programs.
OTHERS_FLAGS = {
    "--json": "curl", "--no-deps": "pip", "--strict": "mypy", "--durations": "pytest",
    "--preload": "gunicorn",
} | dict.fromkeys(("--data", "--only", "--minutes"), "benchmarks/gpu.py")  # fmt: skip

of_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without its fenced blocks, where # begins a comment and brackets are not links."""
    return re.sub(r"```.*?```", "", text_of(page), flags=re.DOTALL)


def spans(page: Path) -> list[str]:
    """The texts between backticks, outside fenced blocks."""
    return re.findall(r"`([^`\n]+)`", prose(page))


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Fenced blocks: the line above, the language, the lines."""
    return re.findall(r"([^\n]*)\n```(\w+)\n(.*?)```", text_of(page), re.DOTALL)


@of_every_page
def test_links_work(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", prose(page)):
        path = page.parent / target if target else page
        assert path.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {target}{anchor}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {"#" + re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_an_anchor_is_a_heading_and_not_a_comment_in_an_example(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page: *its* `name`\n```bash\n# a comment\n```\n## 2. Next\n")
    assert anchors(page) == {"#a-page-its-name", "#2-next"}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.stem)
def test_a_page_is_short_and_the_index_has_it_once(page: Path) -> None:
    assert len(text_of(page).splitlines()) <= 250
    index = ROOT / "docs" / "README.md"
    rows = re.findall(rf"^\| ([\w ]+) \| \[{page.name}\]\({page.name}\) \|", text_of(index), re.MULTILINE)
    if page != index:
        assert len(rows) == 1, f"docs/README.md must list {page.name} once"
        assert rows[0] in {"tutorial", "how to", "reference", "explanation", "results"}


# The tutorial is left out, because tests/docs/test_tutorial.py runs it.
@pytest.mark.parametrize("page", [p for p in DOCS if p.stem != "tutorial"], ids=lambda page: page.stem)
def test_examples_come_from_tests_that_run_them(page: Path) -> None:
    for above, language, lines in blocks(page):
        if above.startswith("<!-- snippet: "):
            continue
        assert language == "bash", f"{page.name} has an example that no test runs:\n{lines}"
        for line in lines.splitlines():
            program = re.match(r"make (?P<target>[\w-]+)|(?:\w+=\w+ )*python (?P<file>\S+)", line)
            assert program, f"{page.name}: {line}"
            assert program["target"] in targets() or (ROOT / (program["file"] or "?")).is_file(), line


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@of_every_page
def test_make_targets_exist(page: Path) -> None:
    for span in spans(page):
        if found := re.fullmatch(r"make ([\w-]+).*", span):
            assert found[1] in targets(), span


@of_every_page
def test_flags_exist(page: Path) -> None:
    known = {flag for command in commands() for parameter in command.params for flag in flags(parameter)}
    known |= {f"--{key}" for key in OPTIONS} | {"--help"} | OTHERS_FLAGS.keys()
    used = {flag for span in spans(page) for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)}
    assert used <= known


def commands() -> list[typer.core.TyperCommand]:
    """Every command, and `recblr` itself."""
    group = typer.main.get_command(app)
    return [group, *group.commands.values()]


def flags(parameter: typer.core.TyperOption) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts]


@of_every_page
def test_files_and_folders_exist(page: Path) -> None:
    for span in spans(page):
        if re.fullmatch(r"(cpp|cuda|src|tests|tools|benchmarks|docs|\.github)(/[\w.-]+)*/?", span):
            assert (ROOT / span).exists(), f"{page.name} names {span}"


@of_every_page
def test_environment_variables_are_used_in_the_code(page: Path) -> None:
    for name in set(re.findall(r"\bRECBLR_[A-Z_]+\b", " ".join(spans(page)))):
        where = ("cpp", "src", "tools", "Makefile", "CMakeLists.txt", "tests/data")
        read = subprocess.run(["grep", "-rqIw", name, *where], cwd=ROOT, check=False)
        assert read.returncode == 0, f"{page.name} names {name}"


@of_every_page
def test_python_names_exist(page: Path) -> None:
    for span in spans(page):
        found = re.fullmatch(r"(recblr(?:\.\w+)+)(?:\(.*\))?", span)
        if found:
            assert resolves(found[1]), f"{page.name} names {found[1]}"


def resolves(name: str) -> bool:
    """Whether a dotted name is a module or in one. Of modules that need other packages, the text is read."""
    adapter = re.fullmatch(r"recblr\.integrations\.(recbole|rectools)(?:\.(\w+))?", name)
    if adapter:
        file = ROOT / f"src/recblr/integrations/{adapter[1]}.py"
        return file.exists() and (adapter[2] is None or f"class {adapter[2]}(" in text_of(file))
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def test_pages_that_the_code_names_exist() -> None:
    named = subprocess.run(
        ["grep", "-rohE", r"docs/[A-Za-z0-9_-]+\.md", *("src", "tools", "benchmarks", "cuda", "cpp")],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout.split()
    assert named
    assert [page for page in named if not (ROOT / page).exists()] == []


@pytest.mark.parametrize("module", ["", ".data", ".evaluation", ".nn", ".nn.losses", ".serving", ".training"])
def test_the_page_of_python_names_every_public_name(module: str) -> None:
    public = importlib.import_module(f"recblr{module}").__all__
    named = {span.partition("(")[0].rpartition(".")[2] for span in spans(ROOT / "docs" / "python.md")}
    assert set(public) - named == set()
