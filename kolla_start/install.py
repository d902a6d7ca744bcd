"""Install the five commands: `python -I -m kolla_start.install --into /usr/local/bin`.

Run when an image is built, never at a start. A console script as pip writes it cannot carry the
interpreter's options, and without -I the PYTHONPATH of whoever calls sudo would decide what root
runs. So each command is a script of a few lines with the options in its first one:

    -I  isolated: no PYTHON* variable, no user site, no current directory (implies -E, -s, -P)
    -B  a start writes what its plan says, and no bytecode beside it
    -S  no site module: no .pth file is obeyed, and a start is some milliseconds shorter
    -X utf8  paths are the document's bytes, whatever the locale

The layout of the sources is for people; a start reads one file, in which all its modules are
compiled (installed.py). It is made here, beside the package's bytecode, and is no more than that:
without it, with another Python, or after a change of a source a start imports as usual.
"""

from __future__ import annotations

import argparse
import ast
import marshal
import os
import sys
import sysconfig
from _imp import source_hash
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import MAGIC_NUMBER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.installed import Module

PACKAGE = "kolla_start"
# On the container-start path.
STARTS = {
    "kolla_start": "kolla_start.start",
    "kolla_set_configs": "kolla_start.set_configs",
    "kolla_copy_cacerts": "kolla_start.launch.cacerts",
    "kolla_install_projects": "kolla_start.launch.projects",
}
ENTRIES = {**STARTS, "kolla_config": "kolla_start.config"}

_OPTIONS = "-IBSXutf8"
_LONGEST = 127  # bytes of a first line that every kernel reads whole, execve(2)
_SIGN = 12  # bytes at the end of what a start reads, by which it is known

# A start is over before a collection of garbage has paid, and it makes hardly any in circles.
_LOADED_AT_ONCE = """\
    try:
        import gc

        gc.disable()
        from _frozen_importlib_external import MAGIC_NUMBER
        from _imp import source_hash
        from marshal import loads

        form = memoryview(open({form!r}, "rb", 0).read())
        if form[-12:] == MAGIC_NUMBER + source_hash(0, form[:-12]):
            code, modules = loads(form)
            exec(code)
            load(form, modules, {module!r})
    except Exception:
        pass  # ordinary imports
"""

# What stands here has no log yet. `--check` cannot tell, any other command has not begun.
_LAUNCHER = """\
{first}
import sys

{path}try:
{at_once}    from {module} import main
except (ImportError, MemoryError, OSError) as error:
    said = str(error) or "out of memory"
    sys.stderr.write(
        f"ERROR {module} cannot be loaded: {{said}}; raise the memory limit of the container, or "
        "mend the image's Python or its disk\\n"
    )
    sys.exit(2 if "--check" in sys.argv else 1)

sys.exit(main())
"""


def launcher(module: str, interpreter: str, directories: list[str], form: str | None = None) -> str:
    """The text of a command. Raises ValueError where the interpreter's path cannot be named."""
    first = f"#!{interpreter} {_OPTIONS}"
    if len(os.fsencode(first)) > _LONGEST:
        raise ValueError(
            f"{interpreter}: too long for the first line of a script ({_LONGEST} bytes); "
            "put the virtual environment at a shorter path"
        )
    if any(char.isspace() for char in interpreter):
        raise ValueError(
            f"{interpreter}: a blank cannot stand in the first line of a script; put the "
            "virtual environment at another path"
        )
    # Appended: nothing in these directories can stand before the standard library.
    path = "".join(f"sys.path.append({directory!r})\n" for directory in directories)
    at_once = "" if form is None else _LOADED_AT_ONCE.format(form=form, module=module)
    return _LAUNCHER.format(first=first, path=path, at_once=at_once, module=module)


def install(into: str) -> list[str]:
    """Write what a start reads, and the five commands, 0755, into a directory; returns all paths.

    Raises ValueError and OSError.
    """
    package = os.path.dirname(os.path.abspath(__file__))
    form = f"{package}/__pycache__/installed.{sys.implementation.cache_tag}.bin"
    os.makedirs(os.path.dirname(form), exist_ok=True)
    _write(form, compiled(package), 0o644)
    # Where the dependencies are: another directory than the package's in a checkout.
    directories = list(dict.fromkeys([os.path.dirname(package), sysconfig.get_path("purelib")]))
    made = []
    for name, module in ENTRIES.items():
        text = launcher(module, sys.executable, directories, form if name in STARTS else None)
        path = os.path.join(into, name)
        _write(path, text.encode("utf-8", "surrogateescape"), 0o755)
        made.append(path)
    return made


def _write(path: str, data: bytes, mode: int) -> None:
    unfinished = f"{path}.new"
    with open(unfinished, "wb") as file:
        file.write(data)
    os.chmod(unfinished, mode)
    os.replace(unfinished, path)


# --- what a start reads --------------------------------------------------------------------------


class Source:
    """A module's source, compiled, and the modules of ours that it imports.

    always:    by itself
    sometimes: inside functions
    """

    __slots__ = ("always", "code", "name", "package", "path", "sometimes", "status")

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self.package = os.path.basename(path) == "__init__.py"
        with open(path, "rb") as file:
            self.status = os.fstat(file.fileno())
            tree = ast.parse(file.read(), path)
        self.always = list(dict.fromkeys(_imports(tree.body, inside=False)))
        self.sometimes = list(_imports(tree.body, inside=True))
        lean = ast.fix_missing_locations(_Lean().visit(tree))
        self.code = compile(lean, path, "exec", dont_inherit=True)


def compiled(package: str) -> bytes:
    """The file: (code of installed.py, its modules) as marshal has it, their codes, and a sign.

    The sign is Python's magic number, and the hash of what stands before it: bytecode of another
    Python, or damaged bytecode, must not even be looked at. Raises OSError and SyntaxError.
    """
    loader = Source(f"{PACKAGE}.installed", f"{package}/installed.py")
    found = sources(package)
    modules: list[Module] = []
    body = b""
    for together in _together(found):
        body = marshal.dumps({each.name: each.code for each in together}) + body
        for each in together:
            mtime, size = int(each.status.st_mtime), each.status.st_size
            ours = [name for name in each.always if name in found]
            place = len(body) + _SIGN
            modules.append((each.name, each.path, each.package, mtime, size, ours, place))
    body = marshal.dumps((loader.code, modules)) + body
    return body + MAGIC_NUMBER + source_hash(0, body)


def _together(found: dict[str, Source]) -> Iterable[list[Source]]:
    """What the same commands need at once: marshal is fastest with one piece. The rest singly."""
    needed = {command: needs(first, found) for command, first in STARTS.items()}
    together: dict[frozenset[str], list[Source]] = {}
    for name, each in found.items():
        by = [command for command in STARTS if name in needed[command]]
        together.setdefault(frozenset(by or [name]), []).append(each)
    return together.values()


def needs(first: str, found: dict[str, Source]) -> set[str]:
    """A module and all that is imported with it."""
    met: set[str] = set()
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name in found and name not in met:
            met.add(name)
            waiting += found[name].always
    return met


def sources(package: str) -> dict[str, Source]:
    """The modules that a start may import, by name."""
    found: dict[str, Source] = {}
    waiting = list(STARTS.values())
    while waiting:
        name = waiting.pop()
        place = f"{package}{name[len(PACKAGE) :].replace('.', '/')}"
        for path in (f"{place}/__init__.py", f"{place}.py"):
            if name not in found and os.path.exists(path):
                found[name] = Source(name, path)
                waiting += [*found[name].always, *found[name].sometimes]
    return found


def _imports(body: list[ast.stmt], inside: bool) -> Iterator[str]:
    """What might be modules of ours among the imports, with their packages, in order."""
    for node in _nodes(body, inside):
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        else:
            assert isinstance(node, ast.ImportFrom)
            named = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in named:
            parts = name.split(".")
            if parts[0] == PACKAGE:
                yield from (".".join(parts[: end + 1]) for end in range(len(parts)))


def _nodes(body: Sequence[ast.AST], inside: bool) -> Iterator[ast.AST]:
    """The import statements inside functions, or outside; not those for type checkers."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            if not inside:
                yield node
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            if inside:
                for each in ast.walk(node):
                    if isinstance(each, (ast.Import, ast.ImportFrom)):
                        yield each
        elif not _for_type_checkers(node):
            yield from _nodes(list(ast.iter_child_nodes(node)), inside)


def _for_type_checkers(node: ast.AST) -> bool:
    # None in the package has an `else` that imports.
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


class _Lean(ast.NodeTransformer):
    """Takes out what a start never looks at and would have to read: docstrings and annotations."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            body[:1] = [] if len(body) > 1 else [ast.Pass()]
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if _for_type_checkers(node) and not node.orelse else self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        made = ast.Assign([node.target], self.visit(node.value))
        return ast.copy_location(made, node)


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="kolla_start.install", description="Install commands")
    parser.add_argument("--into", required=True, metavar="DIRECTORY", help="e.g. /usr/local/bin")
    try:
        for path in install(parser.parse_args().into):
            print(path)
    except (ValueError, OSError) as problem:
        print(f"kolla_start.install: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
