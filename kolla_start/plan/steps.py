"""What there is to do, each kind a type that can describe itself.

On the container-start path. apply.py has one function for each kind; nothing here does anything.
"""

from __future__ import annotations

from kolla_start.plan.wanted import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.errors import Fault
    from kolla_start.plan.permissions import Rules
    from kolla_start.records import Launch, Records


class Step:
    """One change.

    part:  whose it is (wanted.CHECKED)
    minor: right to make at a start, no reason for a restart
    """

    __slots__ = ("minor", "part", "path", "why")
    verb = ""

    def __init__(self, path: str, part: str, why: str, minor: bool = False) -> None:
        self.path = path
        self.part = part
        self.why = why
        self.minor = minor

    def __str__(self) -> str:
        return f"{self.verb} {self.path}: {self.why}"


class Placing(Step):
    """A change after which a node of the final state is there.

    over: a directory is in the way, and goes
    """

    __slots__ = ("node", "over")
    verb = "create"

    def __init__(
        self, path: str, node: Node, why: str, minor: bool = False, over: bool = False
    ) -> None:
        super().__init__(path, node.part, why, minor)
        self.node = node
        self.over = over


class MakeDirectory(Placing):
    __slots__ = ()


class MakeFile(Placing):
    """An empty one."""

    __slots__ = ()


class Copy(Placing):
    """A file, directory, link or special file as its source is."""

    __slots__ = ()
    verb = "copy"

    def __str__(self) -> str:
        source = self.node.source
        assert source is not None
        return f"{self.verb} {self.path} from {source.path}: {self.why}"


class SetOwner(Placing):
    """Owner, mode and attributes of what is there."""

    __slots__ = ()
    verb = "set"


class Remove(Step):
    """With all that is in it."""

    __slots__ = ()
    verb = "remove"


class RemoveEmpty(Step):
    """A directory that was made for something, and only if nobody else put anything into it."""

    __slots__ = ()
    verb = "rmdir"


class Save:
    """An original to be kept before the path is replaced for the first time."""

    __slots__ = ("kept", "path", "tree")

    def __init__(self, path: str, kept: str, tree: list[tuple[str, Node]]) -> None:
        self.path = path
        self.kept = kept
        self.tree = tree

    def __str__(self) -> str:
        return f"keep the image's {self.path} in {self.kept}"


class Plan:
    """Everything one start would do.

    saves:    originals kept before the first step
    steps:    in the order they are carried out
    before, after: the records before and after
    dropped:  where originals lie that nobody needs after this
    command:  the text of /run_command if it is to be written
    options:  whether the options file is to be written, or removed
    rules:    owners and modes of whole trees
    paths:    those of the final state
    warnings: where in the document, and what
    """

    __slots__ = (
        "after", "before", "command", "dropped", "launch", "options", "paths", "rules", "saves",
        "steps", "warnings",
    )  # fmt: skip

    def __init__(self, before: Records, launch: Launch, rules: Rules) -> None:
        self.saves: list[Save] = []
        self.steps: list[Step] = []
        self.before = before
        self.after = before
        self.dropped: list[str] = []
        self.command: str | None = None
        self.options = False
        self.launch = launch
        self.rules = rules
        self.paths: list[str] = []
        self.warnings: list[Fault] = []

    def writes(self) -> bool:
        """Whether anything but the owners of trees is to be written."""
        return bool(
            self.steps
            or self.command is not None
            or self.options
            or self.before.pending
            or not self.after.same_as(self.before)
        )
