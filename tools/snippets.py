"""Copies the examples that the documents show out of the tests that run them, so that they cannot rot.

A page says where an example comes from, right above it:

    <!-- snippet: tests/docs/test_operators.py streaming -->

and the test marks it with the comments `# [streaming]` and `# [/streaming]`.  Run: python tools/snippets.py
"""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(
    r"(?P<marker><!-- snippet: (?P<file>\S+) (?P<name>\S+) -->\n)```(?P<language>\w+)\n(?P<code>.*?)```\n",
    re.DOTALL,
)


def pages() -> list[Path]:
    """Every page that may show an example."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def example(file: str, name: str) -> str:
    """The marked lines of a file, without their common indentation; KeyError where there are none."""
    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.search(rf"^ *# \[{name}\]\n(.*?)^ *# \[/{name}\]$", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise KeyError(f"{file} has no lines between # [{name}] and # [/{name}]")
    return textwrap.dedent(found[1])


def rendered(page: str) -> tuple[str, int]:
    """The page with every example as its test has it now, and how many there are."""
    return _BLOCK.subn(
        lambda m: f"{m['marker']}```{m['language']}\n{example(m['file'], m['name'])}```\n", page
    )


def main() -> None:
    for path in pages():
        text, found = rendered(path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {found} examples")


if __name__ == "__main__":
    main()
