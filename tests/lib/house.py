"""The house as its syntax trees show it: who imports whom, how long everything is.

    house.py                    files, lines, the longest file and class of each tree
    house.py --picture          the imports as a picture
    house.py --picture FILE     the same, put between the markers of a Markdown file

Reads sources and runs none of them. The order of the rooms is here, as data; test_house.py holds
the house to it, and says what else a room must not do (door.py: who may touch the disk).
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent.parent
PACKAGE = "kolla_start"

# From the ground up: a module imports what stands on a lower floor, or what is in its own room.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("installed",),  # runs before everything else, and imports nothing of ours
    ("errors", "kernel", "log"),
    ("progress",),
    ("accounts",),
    ("disk",),
    ("document",),
    ("process",),
    ("homes",),
    ("records",),
    ("plan",),
    ("apply",),
    ("launch",),
    ("set_configs",),
    ("start",),
    ("config", "install"),
)
ROOMS = tuple(room for floor in FLOORS for room in floor)

# Never imported by a start.
OFF_PATH = frozenset({"document.models", "document.generate", "config", "install"})

ALWAYS, INSIDE, TYPES = "at module level", "inside a function", "for types"


@dataclass(frozen=True, slots=True)
class Import:
    """A name that a module imports: of ours without the package's name ("disk.walk")."""

    importer: str
    name: str
    line: int
    kind: str
    ours: bool


# --- modules and what they import ---------------------------------------------------------------


@cache
def modules(tree: Path = TREE) -> dict[str, Path]:
    """Our modules by name ("disk.walk"; a room's own page is "disk"), the package's left out."""
    top = tree / PACKAGE
    found = {}
    for path in sorted(top.rglob("*.py")):
        parts = path.relative_to(top).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def room(name: str) -> str:
    return name.partition(".")[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


@cache
def imports(tree: Path = TREE) -> tuple[Import, ...]:
    """Every import of every module, also inside functions and for types."""
    known = modules(tree)
    return tuple(
        one for name, path in known.items() for one in imports_of(name, parsed(path), known)
    )


def imports_of(importer: str, syntax: ast.AST, known: Iterable[str]) -> Iterator[Import]:
    known = set(known)
    for node, kind in _import_nodes(syntax, ALWAYS):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = node.module or ""
            if node.level:  # relative to the package of the importing module
                above = f"{PACKAGE}.{importer}".split(".")[: -node.level]
                base = ".".join([*above, *filter(None, [node.module])])
            names = []
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                names.append(whole if whole.removeprefix(f"{PACKAGE}.") in known else base)
        for name in dict.fromkeys(names):
            own = name.removeprefix(f"{PACKAGE}.")
            if own != name or name == PACKAGE:
                yield Import(importer, own, node.lineno, kind, True)
            else:
                yield Import(importer, name, node.lineno, kind, False)


def _import_nodes(node: ast.AST, kind: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node, kind
        return
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and kind == ALWAYS:
        kind = INSIDE
    if isinstance(node, ast.If) and _asks_for_types(node.test):
        for statement in node.body:
            yield from _import_nodes(statement, TYPES)
        for statement in node.orelse:
            yield from _import_nodes(statement, kind)
        return
    for child in ast.iter_child_nodes(node):
        yield from _import_nodes(child, kind)


def _asks_for_types(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


# --- what is wrong with it ----------------------------------------------------------------------


def upwards(found: Iterable[Import]) -> Iterator[str]:
    """Imports that go to the same floor or up."""
    floors = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    for one in found:
        here, there = room(one.importer), room(one.name)
        if not one.ours or here == there or one.name == PACKAGE:
            continue
        if floors.get(there, len(FLOORS)) >= floors.get(here, -1):
            yield f"{one.importer}:{one.line} imports {one.name} ({one.kind})"


def circle(found: Iterable[Import]) -> list[str]:
    """A way along imports, of any kind, that comes back; empty if there is none."""
    graph: dict[str, list[str]] = {}
    for one in found:
        if one.ours and one.name != one.importer:
            graph.setdefault(one.importer, []).append(one.name)
    done: set[str] = set()

    def follow(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for following in graph.get(name, ()):
            if back := follow(following, [*way, name]):
                return back
        done.add(name)
        return []

    for name in sorted(graph):
        if back := follow(name, []):
            return back
    return []


# --- how long everything is ---------------------------------------------------------------------

LONGEST_FILE, LONGEST_CLASS = 400, 150
TREES = ("kolla_start", "tests", "benchmarks", "examples")


@dataclass(frozen=True, slots=True)
class Size:
    lines: int
    what: str


def files(top: str, tree: Path = TREE) -> list[Size]:
    """Each Python file of a tree, the longest first."""
    found = [
        Size(len(path.read_bytes().splitlines()), str(path.relative_to(tree)))
        for path in (tree / top).rglob("*.py")
    ]
    return sorted(found, key=lambda size: size.lines, reverse=True)


def classes(top: str, tree: Path = TREE) -> list[Size]:
    """Each class of a tree with its decorators, the longest first."""
    found = []
    for path in (tree / top).rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                name = f"{path.relative_to(tree)}: {node.name}"
                found.append(Size((node.end_lineno or first) - first + 1, name))
    return sorted(found, key=lambda size: size.lines, reverse=True)


def numbers() -> str:
    """A table of the trees: files, lines, the longest file and class."""
    lines = [f"{'':12}{'files':>6}{'lines':>8}   longest file, longest class"]
    for top in TREES:
        all_files, all_classes = files(top), classes(top)
        total = sum(size.lines for size in all_files)
        longest = ", ".join(
            f"{size.what} {size.lines}" for size in (*all_files[:1], *all_classes[:1])
        )
        lines.append(f"{top:12}{len(all_files):6}{total:8}   {longest}")
    return "\n".join(lines)


# --- the picture --------------------------------------------------------------------------------

BEGIN, END = "<!-- imports: begin -->", "<!-- imports: end -->"


def picture(tree: Path = TREE) -> str:
    """Rooms against rooms, then inside each room, as Markdown."""
    found = [one for one in imports(tree) if one.ours and one.name != PACKAGE]
    between: dict[tuple[str, str], set[tuple[str, str]]] = {}
    within: dict[str, set[str]] = {}
    for one in found:
        here, there = room(one.importer), room(one.name)
        if here != there:
            between.setdefault((here, there), set()).add((one.importer, one.name))
        elif one.importer != one.name:
            within.setdefault(one.importer, set()).add(one.name.partition(".")[2])
    present = {room(name) for name in modules(tree)}
    rooms = [name for name in (*ROOMS, *sorted(present - {*ROOMS})) if name in present]
    lines = ["```text", f"{'':15}" + "".join(f"{number:3}" for number in range(1, len(rooms) + 1))]
    for number, here in enumerate(rooms, 1):
        cells = [
            f"{len(between.get((here, there), ())) or '.':>3}" if there != here else "  #"
            for there in rooms[: max(number, _last(here, rooms, between))]
        ]
        lines.append(f"{number:3} {here:11}{''.join(cells)}")
    for here in rooms:
        own = [name for name in modules(tree) if room(name) == here and name != here]
        if not own:
            continue
        lines += ["", f"{here}/"]
        for name in _ordered(own, within):
            below = " ".join(sorted(within.get(name, ())))
            lines.append(f"    {name.partition('.')[2]:13} {below}".rstrip())
    return "\n".join([*lines, "```"])


def _last(here: str, rooms: list[str], between: dict[tuple[str, str], set[tuple[str, str]]]) -> int:
    """Beyond the diagonal only what should not be is shown."""
    return max(
        (number for number, there in enumerate(rooms, 1) if (here, there) in between), default=0
    )


def _ordered(names: list[str], within: dict[str, set[str]]) -> list[str]:
    """Each after what it imports (where there is no circle), else by name."""
    done: list[str] = []

    def visit(name: str, way: tuple[str, ...]) -> None:
        for below in sorted(within.get(name, ())):
            full = f"{room(name)}.{below}"
            if full in names and full not in done and full not in way:
                visit(full, (*way, full))
        if name not in done:
            done.append(name)

    for name in names:
        visit(name, (name,))
    return done


def with_picture(text: str) -> str:
    """A Markdown text with the present picture between its markers. Raises ValueError."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no {BEGIN} and {END} in it")
    return f"{before}{BEGIN}\n{picture()}\n{END}{after}"


def main() -> int:
    match sys.argv[1:]:
        case []:
            print(numbers())
        case ["--picture"]:
            print(picture())
        case ["--picture", name]:
            path = Path(name)
            path.write_text(with_picture(path.read_text("utf-8")), "utf-8")
        case _:
            print(re.sub(r"(?s)^[^\n]*\n\n(.*?)\n\n.*", r"\1", __doc__ or ""), file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
