"""What the oracle remembers of a history: how things are, and how without config_files.

Nothing here asks the program what it meant to do, or runs it: see lives.py.
"""

import posixpath
from dataclasses import dataclass, field

from documents import Document
from oracle import Carrier, Outcome, without
from paper import Files, Node, Refused, Unclear, at_or_inside, inside
from survey import ways

IDS = {"root": 0, "nova": 4321}


@dataclass
class World:
    """What a history has left: `below` is the tree as it were without config_files."""

    below: Files
    now: Files
    last: Outcome
    command: object = None
    configured: bool = False
    guests: set[str] = field(default_factory=set)  # the service's, in directories of ours
    lingering: set[str] = field(default_factory=set)  # made by two sections of one document

    def expect(self, document: Document) -> Outcome:
        """Raises Refused and Unclear."""
        outcome = Carrier(self.below, self.now, IDS).carry_out(document)
        self._found(outcome)
        outcome.doubt |= self.lingering - outcome.ours
        for guest in self.guests - set(outcome.tree):
            if any(inside(guest, top) for top in outcome.whole):
                continue  # nothing else stays there
            above = posixpath.dirname(guest)
            if any(inside(guest, top) for top in self.last.whole) and above not in outcome.tree:
                continue  # gone with the directory
            outcome.doubt.update(each for each in ways(guest) if each not in outcome.tree)
        return outcome

    def _found(self, outcome: Outcome) -> None:
        """Known to be wrong, and not mended yet: what a start ends in is not asked there."""
        for path in set(outcome.preserved) & (outcome.given | outcome.made):
            reason = Unclear(f"find: {path} is changed by a section, and preserved in a copy")
            reason.entry = outcome.preserved[path]
            raise reason

    def killed(self, actual: Files) -> None:
        """A start was killed, and this is what stands now."""
        self.now = actual
        # Find: directories that were made for what then leaves can stay for ever.
        left = {path for path in self.last.ours if self.last.tree.kind(path) == "directory"}
        self.lingering |= {path for path in left if path not in self.below}

    def mended(self, document: Document) -> Document:
        """Without the entries that are refused, that may be, or of which the contract is silent."""
        while True:
            try:
                perhaps = self.expect(document).perhaps
            except (Refused, Unclear) as reason:
                wrong = reason.entry
            else:
                wrong = perhaps[0][1] if perhaps else None
            if wrong is None:
                return document
            document = without(document, wrong)

    def started(self, outcome: Outcome, actual: Files) -> None:
        """The start is done; what was in doubt is as it is."""
        self.lingering = (self.lingering & outcome.ours) | (outcome.made & outcome.ours)
        kept = {path: node for path, node in outcome.tree.items() if path not in outcome.ours}
        self.below.update(kept)
        self.last = outcome
        self.guests &= set(actual)
        self.now = outcome.tree.copy()
        self.notice(actual)

    def notice(self, actual: Files) -> None:
        """What somebody else has done since: that is not in question."""
        for path in sorted(set(actual) | set(self.now)):
            node = actual.get(path)
            if node == self.now.get(path) or path in self.last.ours:
                continue
            self.guests.discard(path)
            above = posixpath.dirname(path)
            copied = any(inside(path, top) for top in self.last.whole)
            if node is None:
                self.below.pop(path, None)
            elif self.below.kind(above) == "directory" and not copied:
                self.below[path] = node
            else:
                self.guests.add(path)
        for path in sorted(self.below):
            self._hold(posixpath.dirname(path))
        self.now = actual.copy()

    def _hold(self, path: str) -> None:
        """What stands somewhere stands in a directory."""
        if not self.below.kind(path) and path in self.last.tree:
            self._hold(posixpath.dirname(path))
            self.below[path] = self.last.tree[path]
            self.lingering.add(path)

    def check(self, outcome: Outcome, command: object, *, sections: bool) -> int | None:
        """What --check says before a start; None where the contract leaves it open."""
        if command != self.command:
            return 1
        stale = {
            path
            for path in self.now
            if any(at_or_inside(path, top) for top in outcome.whole) and path not in self.guests
        }
        differ = {
            path: (self.now.get(path), outcome.tree.get(path))
            for path in outcome.ours | self.last.ours | stale
            if self.now.get(path) != outcome.tree.get(path)
        }
        certain = {path: pair for path, pair in differ.items() if path not in outcome.doubt}
        if any(not _alike(*pair) for pair in certain.values()):
            return 1
        if certain and not sections:
            return 1
        return None if differ or self.last.ours != outcome.ours else 0


def _alike(one: Node | None, other: Node | None) -> bool:
    """But for owner and mode."""
    return bool(one and other and (one.kind, one.content) == (other.kind, other.content))


def has_sections(document: Document) -> bool:
    return any(document.get(name) for name in ("directories", "files", "permissions"))
