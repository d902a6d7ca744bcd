"""A bare interpreter, of every version, with the standard library alone: it says the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import pythons
from samples import GOOD, PERMISSION, whole_refusal, written
from test_text import BROKEN
from test_wrong import CASES

import kolla_start

TREE = Path(kolla_start.__file__).parent.parent
INTERPRETERS = {"this": sys.executable, **pythons.installed()}

# Loads the documents named, says what a start would, and then which modules there are.
PROGRAM = f"""
import __future__, os, stat, sys
sys.path.append({str(TREE)!r})
bare = set(sys.modules)
from kolla_start.document.load import load
from kolla_start.errors import Refused
for path in sys.argv[1:]:
    try:
        config = load(path)
        text, said = config.text, config.remarks
    except Refused as refused:
        text, said = refused.text, refused.faults
    if said:
        from kolla_start.document import places
        for line in places.lines(path, text, list(said)):
            sys.stdout.buffer.write(line.encode("utf-8", "backslashreplace") + b"\\n")
print("modules", *sorted(set(sys.modules) - bare))
ours = (os.path.dirname(os.__file__), {str(TREE / "kolla_start")!r})
files = [getattr(module, "__file__", None) or ours[0] for module in sys.modules.values()]
print("foreign", *(file for file in files if not file.startswith(ours) or "-packages" in file))
"""


def said(python: str, *paths: Path) -> tuple[list[str], set[str]]:
    """The lines about some documents, and the modules that were imported for them."""
    done = subprocess.run(
        [python, "-I", "-S", "-B", "-X", "utf8", "-c", PROGRAM, *map(str, paths)],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, modules, foreign = done.stdout.splitlines()
    assert foreign == "foreign"
    return lines, set(modules.split()[1:]) - {"errno"}  # which from 3.13 on is there before


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every refused document of these tests."""
    texts = [data for data, _ in BROKEN.values()]
    texts += [json.dumps(content, indent=2).encode() for content, _ in CASES]
    made = []
    for number, data in enumerate(texts):
        path = tmp_path_factory.mktemp("refused") / f"{number}.json"
        path.write_bytes(data)
        made.append(path)
    return made


@pytest.mark.parametrize("version", INTERPRETERS)
def test_a_refusal_reads_the_same_under_every_python(version: str, refused: list[Path]) -> None:
    expected = [line for path in refused for line in whole_refusal(path)]
    lines, modules = said(INTERPRETERS[version], *refused)
    assert lines == [line.encode("utf-8", "backslashreplace").decode() for line in expected]
    assert not modules & {"yaml", "pydantic", "jsonschema", "kolla_start.document.models"}


def test_which_pythons_were_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\na refusal under Python {pythons.said()}")
    assert len(INTERPRETERS) > 1


# --- what is imported -----------------------------------------------------------------------------

DOCUMENT = {f"kolla_start.document.{name}" for name in "judge load rules table text".split()}
DISK = {f"kolla_start.disk.{name}" for name in "given planted read source walk".split()}
ACCEPTED = {
    *("kolla_start", "kolla_start.errors", "kolla_start.kernel", "kolla_start.document"),
    *("kolla_start.disk", "_json", *DISK, *DOCUMENT),
}
PLACED = {f"kolla_start.document.{name}" for name in "json_text nodes places".split()}


def test_a_good_document_imports_few_modules(tmp_path: Path) -> None:
    path = written(tmp_path, {**GOOD["everything"], "permissions": [PERMISSION]})
    assert said(sys.executable, path) == ([], ACCEPTED)


def test_a_remark_imports_what_finds_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, {"comand": "b", "command": "a"})
    lines, modules = said(sys.executable, path)
    assert lines == [f"{path}:1:2: comand: no such key, ignored"]
    assert modules == ACCEPTED | PLACED


def test_a_refusal_imports_no_more_unless_it_guesses_a_key(tmp_path: Path) -> None:
    assert said(sys.executable, written(tmp_path, {}))[1] == ACCEPTED | PLACED
    guessed = {"command": "a", "config_files": [{"prem": 1}]}
    assert "difflib" in said(sys.executable, written(tmp_path, guessed))[1]


def test_a_pattern_that_is_no_plain_text_imports_re(tmp_path: Path) -> None:
    walk = {**PERMISSION, "exclude": ["^/plain/text"]}
    assert (
        "re"
        not in said(sys.executable, written(tmp_path, {"command": "a", "permissions": [walk]}))[1]
    )
    walk["exclude"] = ["a$"]
    assert (
        "re" in said(sys.executable, written(tmp_path, {"command": "a", "permissions": [walk]}))[1]
    )


def test_an_interpreter_without_the_scanner_in_c(tmp_path: Path, refused: list[Path]) -> None:
    program = f"import sys; sys.modules['_json'] = None\n{PROGRAM}"
    good = written(tmp_path, GOOD["everything"])
    outputs = [
        subprocess.run(
            [
                sys.executable,
                "-I",
                "-S",
                "-B",
                "-X",
                "utf8",
                "-c",
                code,
                *map(str, [good, *refused]),
            ],
            capture_output=True,
            check=True,
        ).stdout.split(b"modules")[0]
        for code in (PROGRAM, program)
    ]
    assert outputs[0] == outputs[1]
