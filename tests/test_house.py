"""The walls of the house: read from the syntax trees, no code of ours is run.

Imports go one way, only the disk room touches the disk, a start imports next to nothing, and no
file is too long to be read. docs/architecture.md says why.
"""

import ast
from collections.abc import Iterator

import door
import house
import pytest

ON_PATH = [name for name in house.modules() if name not in house.OFF_PATH]
PAGES = [name for name in ON_PATH if house.modules()[name].name != "__init__.py"]


# --- imports ------------------------------------------------------------------------------------


def test_every_module_has_a_floor() -> None:
    assert {house.room(name) for name in house.modules()} == {*house.ROOMS}


def test_imports_go_one_way() -> None:
    assert list(house.upwards(house.imports())) == []


def test_imports_go_in_no_circle() -> None:
    """Inside a room neither; imports for types, and those inside functions, count as well."""
    assert house.circle(house.imports()) == []


def test_rooms_hold_nothing_themselves() -> None:
    for name, path in house.modules().items():
        if path.name == "__init__.py":
            first, *rest = house.parsed(path).body
            assert isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant), name
            assert rest == [], f"{name}: a room's own page is a docstring"


def test_the_picture_is_current() -> None:
    text = (house.TREE / "docs/architecture.md").read_text("utf-8")
    assert text == house.with_picture(text), "run `make picture`"


UPWARDS = {
    "up": "from kolla_start.plan import decide",
    "up, one name": "from kolla_start.plan.decide import decide",
    "up, the package's own": "from kolla_start import apply",
    "up, as a module": "import kolla_start.apply",
    "up, relative": "from ..plan import decide",
    "up, inside a function": "def f():\n    from kolla_start import apply",
    "up, for types": "TYPE_CHECKING = False\nif TYPE_CHECKING:\n    from kolla_start import apply",
    "up, in a class and a try": "class C:\n    try:\n        from kolla_start import start\n    "
    "except ImportError:\n        pass",
    "same floor": "from kolla_start import brother",
}


@pytest.mark.parametrize("name", UPWARDS)
def test_an_import_upwards_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "FLOORS", (("disk", "brother"), ("plan",), ("apply",), ("start",)))
    known = ("disk.walk", "plan.decide", "apply", "start", "brother")
    found = house.imports_of("disk.walk", ast.parse(UPWARDS[name]), known)
    assert len(list(house.upwards(found))) == 1


def test_a_circle_is_seen() -> None:
    sources = {
        "disk.a": "from kolla_start.disk import b",
        "disk.b": "def f():\n    from kolla_start.disk.c import x",
        "disk.c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "
        "from kolla_start.disk.a import Y",
    }
    found = [
        one
        for name, text in sources.items()
        for one in house.imports_of(name, ast.parse(text), sources)
    ]
    assert house.circle(found) == ["disk.a", "disk.b", "disk.c", "disk.a"]
    assert house.circle(one for one in found if one.importer != "disk.c") == []


# --- the container-start path -------------------------------------------------------------------

# Built in, or there in a bare interpreter, or a few microseconds.
AT_ONCE = frozenset(
    """
    __future__ _queue _signal _thread errno grp itertools marshal posix pwd stat sys time
    """.split()
)
# Inside functions, where a document or a fault needs them.
ON_DEMAND = AT_ONCE | {
    "_frozen_importlib",
    "_json",
    "ctypes",  # launch.privileges: capset(2) and prctl(2), if a key asks
    "difflib",  # for a misspelt key
    "fcntl",
    "fnmatch",
    "json",  # what _json did not read, on the way to a refusal
    "re",  # `exclude`
    "traceback",  # a bug
}
# Themselves imported on demand only.
READERS_OF_YAML = {"document.yaml_text": frozenset(["yaml"])}


@pytest.mark.parametrize("name", PAGES)
def test_a_file_on_the_path_says_so(name: str) -> None:
    said = ast.get_docstring(house.parsed(house.modules()[name])) or ""
    assert "container-start path" in said


@pytest.mark.parametrize("name", ON_PATH)
def test_what_a_start_may_import(name: str) -> None:
    for one in house.imports():
        if one.importer != name or one.ours or one.kind == house.TYPES:
            continue
        allowed = AT_ONCE if one.kind == house.ALWAYS else ON_DEMAND
        assert one.name in allowed | READERS_OF_YAML.get(name, frozenset()), f"line {one.line}"


def test_what_is_never_at_a_start_is_not_imported_by_it() -> None:
    for one in house.imports():
        if one.importer in ON_PATH and one.ours and one.kind != house.TYPES:
            assert one.name not in house.OFF_PATH, f"{one.importer}:{one.line}"


def test_every_permission_to_import_is_used() -> None:
    used = {one.name for one in house.imports() if not one.ours and one.importer in ON_PATH}
    assert ON_DEMAND - used == set()


@pytest.mark.parametrize("name", ON_PATH)
def test_python_3_9_reads_it(name: str) -> None:
    """Its grammar, and what it has not got at run time; tests/launch runs it where it is there."""
    text = house.modules()[name].read_text("utf-8")
    assert list(_too_new(ast.parse(text, feature_version=(3, 9)))) == []


def _too_new(syntax: ast.Module) -> Iterator[str]:
    later = any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in syntax.body
    )
    for node in ast.walk(syntax):
        if isinstance(node, ast.Match):
            yield f"line {node.lineno}: match"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "zip" and any(each.arg == "strict" for each in node.keywords):
                yield f"line {node.lineno}: zip(strict=)"
            if node.func.id in ("isinstance", "issubclass") and _has_union(node.args[-1]):
                yield f"line {node.lineno}: {node.func.id}() with |"
        elif isinstance(node, ast.arg | ast.AnnAssign | ast.FunctionDef) and not later:
            said = node.returns if isinstance(node, ast.FunctionDef) else node.annotation
            if said is not None and _has_union(said):
                yield f"line {node.lineno}: an annotation with |, evaluated"


def _has_union(node: ast.AST) -> bool:
    return any(
        isinstance(each, ast.BinOp) and isinstance(each.op, ast.BitOr) for each in ast.walk(node)
    )


NEW_SYNTAX = {
    "match": "match x:\n    case 1: pass",
    "zip": "zip(a, b, strict=True)",
    "isinstance": "isinstance(x, int | str)",
    "argument": "def f(x: int | None): pass",
    "result": "def f() -> int | None: pass",
    "variable": "x: int | None = 3",
}


@pytest.mark.parametrize("name", NEW_SYNTAX)
def test_what_python_3_9_does_not_read_is_seen(name: str) -> None:
    try:
        syntax = ast.parse(NEW_SYNTAX[name], feature_version=(3, 9))
    except SyntaxError:
        return
    assert list(_too_new(syntax))


# --- the door to the disk -----------------------------------------------------------------------

# Outside the disk room: what, and why it may.
EXCEPTIONS: dict[str, tuple[frozenset[str], str]] = {
    "kernel": (frozenset(["os.open"]), "/proc: nobody but the kernel can have put anything there"),
    "installed": (
        frozenset(["os.stat", "sys.modules", "exec", "__import__"]),
        "loads the disk room itself, from files that lie beside the interpreter's",
    ),
    "process": (frozenset(["os.open"]), "/dev/null in place of a standard stream that is closed"),
    "homes": (
        frozenset(["os.access", "os.statvfs"]),
        "asks whether / can be written, which decides where the records lie",
    ),
    "launch.privileges": (frozenset(["import ctypes"]), "capset(2) and prctl(2) have no function"),
    "launch.program": (
        frozenset(["os.stat", "os.access"]),
        "asks of programs on PATH what execve(2) and bash would find there, as the service user",
    ),
    "launch.service": (
        frozenset(["os.stat", "os.access", "os.open", "os.POSIX_SPAWN_DUP2"]),
        "asks whether sudo can work; a program that it starts has /dev/null for its input",
    ),
    "launch.cacerts": (frozenset(["os.access"]), "asks whether there is an update command to run"),
    "install": (
        frozenset(
            """
            os.path.abspath os.path.exists os.makedirs os.chmod os.replace open compile
            """.split()
        )
        | {"import importlib"},
        "writes the commands when an image is built, never at a start",
    ),
    "document.generate": (
        frozenset(["import pathlib"]),
        "writes the table and the schemas in a checkout, never at a start",
    ),
}


@pytest.mark.parametrize("name", [name for name in house.modules() if house.room(name) != "disk"])
def test_the_door_to_the_disk_is_shut(name: str) -> None:
    allowed, _ = EXCEPTIONS.get(name, (frozenset[str](), ""))
    found = door.passages(house.parsed(house.modules()[name]))
    assert [one for one in found if one.what not in allowed] == []


def test_every_exception_is_used() -> None:
    for name, (allowed, why) in EXCEPTIONS.items():
        found = {one.what for one in door.passages(house.parsed(house.modules()[name]))}
        assert allowed - found == set(), name
        assert why


PASSAGES = [
    'open("/etc/x")',
    "opener = open",
    "import builtins\nbuiltins.open(x)",
    "from builtins import open as o",
    "import io",
    "from io import FileIO",
    "import os\nos.open(x, 0)",
    "import os\nos.rename(a, b)",
    "import os\nmove = os.replace",
    "import os\nos.listdir(x)",
    "import os\nos.lstat(x)",
    "import os\nos.fchmod(3, 0)",
    "import os as system\nsystem.unlink(x)",
    "import os\nother = os\n",
    "import os\ngetattr(os, 'op' + 'en')(x, 0)",
    "import os\nvars(os)['mkdir'](x)",
    "import os\nos.__dict__['mkdir'](x)",
    "import os\nfor each in (os,): each.rmdir(x)",
    "import os\nos.POSIX_SPAWN_OPEN",
    "from os import symlink",
    "from os import link as fasten",
    "from os import *",
    "import posix\nposix.mkdir(x)",
    "from posix import truncate",
    "import os\nos.path.exists(x)",
    "import os.path\nos.path.realpath(x)",
    "import os\nwhere = os.path",
    "from os import path\npath.isdir(x)",
    "from os import path as p\ngetattr(p, 'isdir')",
    "from os.path import getsize",
    "import posixpath",
    "import shutil",
    "from pathlib import Path",
    "def f():\n    import tempfile",
    "import subprocess",
    "import ctypes",
    "import importlib.util",
    "__import__('os').mkdir(x)",
    "import sys\nsys.modules['os'].mkdir(x)",
    "from sys import modules",
    "eval(text)",
    "exec(text)",
]


@pytest.mark.parametrize("snippet", PASSAGES)
def test_a_way_to_the_disk_is_seen(snippet: str) -> None:
    assert door.passages(ast.parse(snippet))


def test_what_is_no_way_to_the_disk() -> None:
    innocent = """
import errno, os, stat, sys
from os import fsencode, path
from kolla_start.disk import read, write

def work(entry: os.stat_result, document: dict[str, str]) -> int:
    entry.open()
    write.write_file(os.path.join("/", path.basename("x")), b"", os.geteuid(), 0, 0o644)
    os.environ["HOME"] = os.fsdecode(b"/")
    fd = read.open_file("/etc/x", os.O_RDONLY)
    try:
        return len(os.read(fd, 10)) + os.fstat(fd).st_size + stat.S_IFREG + errno.EIO
    finally:
        os.close(fd)
        os.write(2, b"done")
        sys.exit(0)
"""
    assert door.passages(ast.parse(innocent)) == []


# --- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", house.TREES)
def test_no_file_and_no_class_is_too_long(top: str) -> None:
    long = [size for size in house.files(top) if size.lines > house.LONGEST_FILE]
    long += [size for size in house.classes(top) if size.lines > house.LONGEST_CLASS]
    assert long == []
