"""Copies the examples in the documents from the tests that run them, so they stay correct.

    python tools/snippets.py

A page names the source of an example in the line above it:

    <!-- snippet: tests/docs/test_operators.py streaming -->

The test marks the example with the comments `# [streaming]` and `# [/streaming]`.
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
    """Every page that may have examples."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def example(file: str, name: str) -> str:
    """The marked lines of a file, without their common indentation. KeyError if there are none."""
    text = (ROOT / file).read_text(encoding="utf-8")
    found = re.search(rf"^ *# \[{name}\]\n(.*?)^ *# \[/{name}\]$", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise KeyError(f"{file} has no lines between # [{name}] and # [/{name}]")
    return textwrap.dedent(found[1])


def rendered(page: str) -> tuple[str, int]:
    """The page with every example as in its test now, and the number of examples."""
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
