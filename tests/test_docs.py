"""What the documentation names is there: files, tests, links. It is read, nothing is run."""

import re
from functools import cache
from pathlib import Path

import house
import pytest

PAGES = sorted(
    [*house.TREE.glob("*.md"), *house.TREE.glob("docs/*.md"), *house.TREE.glob("benchmarks/*.md")]
)
TOPS = ("kolla_start", "tests", "docs", "examples", "benchmarks", "schemas", ".ci")


@cache
def written() -> dict[str, set[str]]:
    """The functions of each test file, by the file's path below tests/."""
    top = house.TREE / "tests"
    named = re.compile(r"^def (test_\w+)", re.MULTILINE)
    paths = top.rglob("test_*.py")
    return {str(path.relative_to(top)): set(named.findall(path.read_text())) for path in paths}


@pytest.fixture(params=PAGES, ids=lambda path: str(path.relative_to(house.TREE)))
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_files_are_there(page: Path) -> None:
    for name in re.findall(r"`([\w./-]+/[\w./-]*)`", page.read_text("utf-8")):
        if name.partition("/")[0] in TOPS:
            assert (house.TREE / name).exists(), name


# `FILE::NAME`, `::NAME` of the same file in the same cell, `NAME` of any; an ellipsis or a bracket
# stands for the rest.
_TEST = re.compile(r"`((?:[\w/]+\.py)?)(::)?(test_\w+)(…?)[`\[]")
_TEST_FILE = re.compile(r"`([\w/]*test_\w+\.py)`")


def test_tests_are_there(page: Path) -> None:
    for cell in re.split(r"[|\n]", page.read_text("utf-8")):
        for file in _TEST_FILE.findall(cell):
            assert _of(file), file
        names: set[str] = set()
        for file, colons, name, more in _TEST.findall(cell):
            if file or not colons:
                names = _of(file)
            assert any(one == name or (more and one.startswith(name)) for one in names), name


def _of(file: str) -> set[str]:
    """The tests of a file, or of all if none is named."""
    paths = [path for path in written() if not file or f"/tests/{path}".endswith(f"/{file}")]
    return {name for path in paths for name in written()[path]}
