"""The door to the disk: what in a syntax tree opens, lists, looks at or changes files.

Of `os` only what is listed here may be used outside the disk room: a list of what is forbidden
would not know the functions of the next Python. `os` itself may not be handed about, so that no
getattr() and no other name leads round the list.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

# Of os and posix: who we are, what the environment says, other processes, open descriptors, text.
ALLOWED = frozenset(
    """
    getuid geteuid getgid getegid getgroups getgrouplist getresuid getresgid getpid getppid
    setuid seteuid setgid setegid setgroups setresuid setresgid umask
    environ environb fsencode fsdecode fspath strerror stat_result PathLike error devnull
    execv execve _exit fork posix_spawn kill waitpid waitstatus_to_exitcode
    read write close fstat dup dup2 pipe pipe2 isatty set_inheritable get_inheritable
    """.split()
)
# Constants (os.O_RDONLY, os.X_OK) open nothing by themselves.
PURE_PATHS = frozenset("join dirname basename normpath split splitext isabs sep commonpath".split())

# Modules that open or change files, load what does, or could call the kernel past `os`.
CLOSED_MODULES = frozenset(
    """
    io shutil pathlib tempfile glob fileinput mmap codecs zipfile tarfile gzip bz2 lzma zlib shelve
    dbm sqlite3 subprocess multiprocessing ctypes cffi importlib imp runpy pkgutil zipimport _io
    _ctypes _posixsubprocess genericpath posixpath ntpath nt linecache tokenize configparser csv
    logging pickle
    """.split()
)
CLOSED_NAMES = frozenset(["open", "eval", "exec", "__import__", "compile", "__builtins__"])
CLOSED_ATTRIBUTES = {"sys": frozenset(["modules"]), "builtins": CLOSED_NAMES}
_SYSTEM = ("os", "posix")


@dataclass(frozen=True, slots=True)
class Passage:
    """A way to the disk: where, and what it is ("os.rename", "open", "import shutil")."""

    line: int
    what: str


def passages(syntax: ast.Module) -> list[Passage]:
    """Every way to the disk in a module."""
    return sorted(set(_passages(syntax)), key=lambda one: (one.line, one.what))


def _passages(syntax: ast.Module) -> Iterator[Passage]:
    system = {name: module for name, module in _names(syntax) if module in _SYSTEM}
    paths = {name for name, module in _names(syntax) if module == "os.path"}
    others = {name: module for name, module in _names(syntax) if module in CLOSED_ATTRIBUTES}
    bases: set[ast.expr] = set()  # of attributes that were looked at
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in CLOSED_MODULES:
                    yield Passage(node.lineno, f"import {alias.name.partition('.')[0]}")
        elif isinstance(node, ast.ImportFrom):
            yield from _taken(node)
        elif isinstance(node, ast.Attribute):
            base = node.value
            if isinstance(base, ast.Name) and base.id in system:
                bases.add(base)
                if node.attr != "path" and not _may(node.attr):
                    yield Passage(node.lineno, f"os.{node.attr}")
            elif isinstance(base, ast.Name) and base.id in others:
                if node.attr in CLOSED_ATTRIBUTES[others[base.id]]:
                    yield Passage(node.lineno, f"{others[base.id]}.{node.attr}")
            elif _is_path(base, system, paths):
                bases.add(base)
                if node.attr not in PURE_PATHS:
                    yield Passage(node.lineno, f"os.path.{node.attr}")
    for node in ast.walk(syntax):
        if isinstance(node, ast.Name) and node not in bases:
            if node.id in system or node.id in paths:
                yield Passage(node.lineno, f"{node.id} itself")
            elif node.id in CLOSED_NAMES and isinstance(node.ctx, ast.Load):
                yield Passage(node.lineno, node.id)
        elif (
            isinstance(node, ast.Attribute) and node not in bases and _is_path(node, system, paths)
        ):
            yield Passage(node.lineno, "os.path itself")


def _names(syntax: ast.Module) -> Iterator[tuple[str, str]]:
    """The names under which modules are known in it."""
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    yield alias.asname, alias.name
                else:
                    yield alias.name.partition(".")[0], alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            for alias in node.names:
                if alias.name == "path":
                    yield alias.asname or alias.name, "os.path"


def _taken(node: ast.ImportFrom) -> Iterator[Passage]:
    """What `from MODULE import NAMES` takes."""
    module = node.module or ""
    for alias in node.names:
        if module in _SYSTEM and alias.name != "path" and not _may(alias.name):
            yield Passage(node.lineno, f"os.{alias.name}")
        elif module == "os.path" and alias.name not in PURE_PATHS:
            yield Passage(node.lineno, f"os.path.{alias.name}")
        elif alias.name in CLOSED_ATTRIBUTES.get(module, ()):
            yield Passage(node.lineno, f"{module}.{alias.name}")
    if not node.level and module.partition(".")[0] in CLOSED_MODULES:
        yield Passage(node.lineno, f"import {module.partition('.')[0]}")


def _may(name: str) -> bool:
    return name in ALLOWED or (name.isupper() and not name.startswith("POSIX_SPAWN_"))


def _is_path(node: ast.expr, system: dict[str, str], paths: set[str]) -> bool:
    if isinstance(node, ast.Name):
        return node.id in paths
    return (
        isinstance(node, ast.Attribute)
        and node.attr == "path"
        and isinstance(node.value, ast.Name)
        and node.value.id in system
    )
