"""Small mistakes put into a source, one at a time: what a test suite that holds something notices.

    mutation.py FILE...         every mutant of these files, a line each

A mutant is the file with one node of its syntax tree replaced: a comparison turned, a condition
negated, a flag or an operand lost, a call left out, an except clause that catches less. What only
people and type checkers read is left alone: docstrings, annotations, assertions, imports, messages.
Used by tests/torture/mutants.py.

mutmut and cosmic-ray cannot drive these tests. The one chooses its mutant by a variable of the
environment, which a start as root does not read; the other knows one command for all mutants, which
would be the whole suite each time.
"""

import ast
import copy
import difflib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Node = TypeVar("Node", bound=ast.AST)

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
_OPPOSED = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)  # turned is negated
_CALLS = {"any": "all", "all": "any", "min": "max", "max": "min"}

# Their arguments are wording; whether they are called at all is not.
_MESSAGES = frozenset(("fault", "warn", "stay", "refuse", "warning", "replaceable"))
# What is assigned to these is for people, or for type checkers.
_WORDS = frozenset(("TYPE_CHECKING", "__slots__", "verb"))
_FOR_TYPES = frozenset(("annotation", "returns", "type_params", "decorator_list"))


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake: `old` in `holder` is replaced by `new`.

    `name` says which, without a line number: it stays the same while the file is edited elsewhere.
    """

    file: str
    line: int
    name: str
    tree: ast.Module
    holder: ast.AST
    field: str
    index: int | None
    old: ast.AST
    new: ast.AST

    def source(self) -> str:
        """The whole file with the mistake in it."""
        self._put(self.new)
        try:
            return ast.unparse(ast.fix_missing_locations(self.tree))
        finally:
            self._put(self.old)

    def counts(self) -> bool:
        """Whether it is a program, and another one than without the mistake."""
        source = self.source()
        try:
            compile(source, self.file, "exec", dont_inherit=True)
        except SyntaxError:
            return False
        return source != ast.unparse(self.tree)

    def diff(self) -> str:
        before, after = ast.unparse(self.tree).splitlines(), self.source().splitlines()
        found = difflib.unified_diff(before, after, n=1, lineterm="")
        changed = [line for line in found if not line.startswith(("---", "+++", "@@"))]
        return "\n".join([f"{self.file}:{self.line}", *changed])

    def _put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.holder, self.field, node)
        else:
            getattr(self.holder, self.field)[self.index] = node


def mutants(file: str, text: str) -> Iterator[Mutant]:
    """Every mutant of a source, in its order; `file` is what it is called by."""
    tree = ast.parse(text, file)
    seen: Counter[str] = Counter()
    for scope, holder, field, index, old in _nodes(tree, ()):
        for new in _mistakes(old, field):
            change = f"{_words(old)} -> {_words(new)}"
            name = f"{file} {'.'.join(scope) or 'module'}: {change}"
            seen[name] += 1
            if seen[name] > 1:
                name += f" ({seen[name]})"
            line = getattr(old, "lineno", 0)
            yield Mutant(file, line, name, tree, holder, field, index, old, new)


def _words(node: ast.AST) -> str:
    if isinstance(node, ast.ExceptHandler):
        return f"except {ast.unparse(node.type) if node.type else ''}"
    return " ".join(ast.unparse(node).split())


# --- where -------------------------------------------------------------------------------------

_Place = tuple[tuple[str, ...], ast.AST, str, int | None, ast.AST]


def _nodes(holder: ast.AST, scope: tuple[str, ...]) -> Iterator[_Place]:
    """Every node that may be mistaken, the outer before the inner."""
    if isinstance(holder, ast.FunctionDef | ast.ClassDef):
        scope = (*scope, holder.name)
    for field, value in ast.iter_fields(holder):
        if field in _FOR_TYPES:
            continue
        children = list(enumerate(value)) if isinstance(value, list) else [(None, value)]
        for index, child in children:
            if not isinstance(child, ast.AST) or _is_for_people(child):
                continue
            yield scope, holder, field, index, child
            if not (isinstance(child, ast.Raise) or _called(child) in _MESSAGES):
                yield from _nodes(child, scope)


def _is_for_people(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Assert() | ast.JoinedStr():
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log")))):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.FunctionDef(name="__str__"):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name in _WORDS
    return False


def _called(node: ast.AST) -> str:
    match node:
        case ast.Call(func=ast.Name(id=name)) | ast.Call(func=ast.Attribute(attr=name)):
            return name
    return ""


# --- what --------------------------------------------------------------------------------------


def _mistakes(node: ast.AST, field: str) -> Iterator[ast.AST]:
    if isinstance(node, ast.stmt):
        yield from _of_statement(node)
    elif isinstance(node, ast.expr):
        yield from _of_expression(node)
        if field in ("test", "ifs") and not _has_an_opposite(node):
            yield ast.UnaryOp(ast.Not(), node)
    elif isinstance(node, ast.ExceptHandler):
        yield from _of_handler(node)


def _of_statement(node: ast.stmt) -> Iterator[ast.stmt]:
    match node:
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Delete():
            yield ast.Pass()
        case ast.Raise() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        # A constant is mistaken for another one itself, and None is as good as False.
        case ast.Return(value=ast.expr() as value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))


def _of_expression(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(ops=ops):
            for number, op in enumerate(ops):
                turned = [*ops[:number], _COMPARISONS[type(op)](), *ops[number + 1 :]]
                yield _with(node, ops=turned)
        case ast.BoolOp(op=joint, values=values):
            yield _with(node, op=ast.Or() if isinstance(joint, ast.And) else ast.And())
            for number in range(len(values)):
                rest = values[:number] + values[number + 1 :]
                yield rest[0] if len(rest) == 1 else _with(node, values=rest)
        case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
            yield operand
        case ast.BinOp(op=operator, left=left, right=right):
            if type(operator) in _OPERATORS:
                yield _with(node, op=_OPERATORS[type(operator)]())
            if isinstance(operator, ast.BitOr | ast.BitAnd):
                yield left
                yield right
        case ast.Constant(value=value):
            wrong = _wrong(value)
            if wrong is not None:
                yield ast.Constant(wrong)
        case ast.Call(func=function, keywords=keywords):
            if isinstance(function, ast.Name) and function.id in _CALLS:
                yield _with(node, func=ast.Name(_CALLS[function.id]))
            for number in range(len(keywords)):
                yield _with(node, keywords=keywords[:number] + keywords[number + 1 :])


def _of_handler(node: ast.ExceptHandler) -> Iterator[ast.ExceptHandler]:
    """One exception of several is not caught, or the one that there is."""
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    for number in range(len(kinds)):
        rest = [kind for kind in kinds[:number] + kinds[number + 1 :] if kind is not None]
        yield _with(node, type=ast.Tuple(rest, ast.Load()))


def _has_an_opposite(node: ast.expr) -> bool:
    """Whether the negation is a mistake of the expression itself."""
    match node:
        case ast.UnaryOp(op=ast.Not()) | ast.Constant():
            return True
        case ast.Compare(ops=[op]):
            return isinstance(op, _OPPOSED)
    return False


def _wrong(value: object) -> bool | int | str | None:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str() if not any(char.isspace() for char in value):  # a sentence is a message
            return f"{value}X"
    return None


def _with(node: Node, **fields: object) -> Node:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        for mutant in mutants(argument, Path(argument).read_text("utf-8")):
            print(f"{mutant.line:4} {mutant.name}")
