"""`permissions`: owners and modes of paths and whole trees, one answer for each path.

On the container-start path: `re` is imported only for an `exclude` that needs it. Several entries
may speak of the same path: the last one decides, so that no start writes anything twice or undoes
its own work.
"""

from _collections_abc import Callable

from kolla_start import disk, forms
from kolla_start.tree import ABSENT, DIRECTORY, PARENT, Tree, ancestors, directory_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kolla_start.treewalk import Rule, Wanted


def compiled(patterns: tuple[str, ...]) -> Callable[[str], bool] | None:
    """Whether any of the patterns is found in a path; None where there are none."""
    if not patterns:
        return None
    if all(forms.literal(pattern) for pattern in patterns):
        starts = tuple(pattern[1:] for pattern in patterns if pattern[0] == "^")
        parts = [pattern for pattern in patterns if pattern[0] != "^"]
        return lambda path: path.startswith(starts) or any(part in path for part in parts)
    import re

    compiled = [re.compile(pattern) for pattern in patterns]
    return lambda path: any(pattern.search(path) for pattern in compiled)


class _Rule:
    __slots__ = ("exclude", "gid", "order", "perm", "recurse", "root", "shown", "uid")

    def __init__(
        self,
        order: int,
        root: str,
        shown: str,
        uid: int,
        gid: int,
        perm: int | None,
        recurse: bool,
        exclude: Callable[[str], bool] | None,
    ) -> None:
        self.order = order
        self.root = root
        self.shown = shown
        self.uid = uid
        self.gid = gid
        self.perm = perm
        self.recurse = recurse
        self.exclude = exclude

    def holds(self, path: str) -> bool:
        """Whether the rule speaks of a path at or below its root (as the document spells it)."""
        if path == self.root:
            return True
        if not self.recurse:
            return False
        return self.exclude is None or not self.exclude(self.shown + path[len(self.root) :])


class Rules:
    """All `permissions`, so that each path has one owner and mode, whatever entries cover it."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._by_root: dict[str, list[_Rule]] = {}
        self._parents_of_roots: set[str] = set()
        self._count = 0

    def add(
        self,
        root: str,
        shown: str,
        uid: int,
        gid: int,
        perm: int | None,
        recurse: bool,
        exclude: Callable[[str], bool] | None,
    ) -> None:
        rule = _Rule(self._count, root, shown, uid, gid, perm, recurse, exclude)
        self._by_root.setdefault(root, []).append(rule)
        self._parents_of_roots.add(disk.split(root)[0])
        self._count += 1

    def fold(self) -> None:
        """Give the nodes of the final state the owner and mode that `permissions` wants."""
        if not self._count:
            return
        for path, node in self._tree.nodes.items():
            if node.kind in {ABSENT, PARENT}:
                continue
            for rule in self._about(path):
                if rule.holds(path):
                    node.uid, node.gid = rule.uid, rule.gid
                    if rule.perm is not None:
                        is_directory = node.kind == DIRECTORY
                        node.mode = directory_mode(rule.perm) if is_directory else rule.perm

    def walks(self) -> list["Walk"]:
        """One walk for each tree or path that is not inside another one's tree."""
        walks = []
        for root, rules in self._by_root.items():
            if not any(
                rule.recurse for place in ancestors(root) for rule in self._by_root.get(place, ())
            ):
                recurse = any(rule.recurse for rule in rules)
                walks.append(Walk(root, recurse, self))
        return walks

    def reach(self, path: str) -> bool:
        """Whether any of them speaks of a path or of anything below it."""
        return bool(self._about(path)) or any(root.startswith(f"{path}/") for root in self._by_root)

    def named(self, path: str) -> bool:
        """Whether the document itself says what a path's owner is, or nobody may be given it."""
        node = self._tree.nodes.get(path)
        return (
            (node is not None and node.kind not in {ABSENT, PARENT})
            or any(rule.holds(path) for rule in self._about(path))
            or forms.kept(path)
            or forms.holds_records(path)
        )

    def of_entries(self, path: str) -> "Rule":
        """What the entries of a directory should have: one answer if there is only one."""
        rules = [rule for rule in self._about(path) if rule.recurse]
        if (
            path in self._parents_of_roots
            or path in self._tree.children
            or not rules
            or any(rule.exclude is not None for rule in rules)
        ):
            return self.of
        return self._wanted(rules)

    def of(self, path: str) -> "Wanted | None":
        """What one path should have; None where nothing is asked, or the steps have seen to it."""
        node = self._tree.nodes.get(path)
        if node is not None and node.kind != PARENT:
            return None
        rules = [rule for rule in self._about(path) if rule.holds(path)]
        return self._wanted(rules) if rules else None

    def _wanted(self, rules: list[_Rule]) -> "Wanted":
        last = rules[-1]
        perm = None
        for rule in rules:
            if rule.perm is not None:
                perm = rule.perm
        return last.uid, last.gid, perm, None if perm is None else directory_mode(perm)

    def _about(self, path: str) -> list[_Rule]:
        """The rules whose root is the path or above it, in the document's order."""
        found = list(self._by_root.get(path, ()))
        for place in ancestors(path):
            found += (rule for rule in self._by_root.get(place, ()) if rule.recurse)
        found.sort(key=lambda rule: rule.order)
        return found


class Walk:
    """The `permissions` of one tree."""

    __slots__ = ("_rules", "recurse", "top")

    def __init__(self, top: str, recurse: bool, rules: "Rules") -> None:
        self.top = top
        self.recurse = recurse
        self._rules = rules

    def mend(self, failed: Callable[[str, Exception], None]) -> tuple[int, int]:
        """Set what is not as it should be; how many entries were set, and how many failed."""
        from kolla_start import treewalk

        return treewalk.mend(self.top, self.recurse, self._rule, self._rules.named, failed)

    def _rule(self, path: str) -> "Rule":
        return self._rules.of_entries(path) if path else self._rules.of
