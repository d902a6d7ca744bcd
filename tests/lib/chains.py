"""The lives of a container, as chains of starts and checks with changes in between.

What the operator, the service and its neighbours do; compare.py takes both programs through them.
"""

import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import templates
from sandbox import CONFIG_FILES, Sandbox
from templates import Case

LOGS = "/var/log/kolla"

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """`change` and `document`: what happens before. `answers`: what ours must say to --check."""

    name: str
    argv: tuple[str, ...] = ()
    strategy: str = "COPY_ALWAYS"
    change: Callable[[Sandbox, Case], None] | None = None
    document: Callable[[Case], Document | str] | None = None
    answers: int | None = None


Chain = tuple[Step, ...]


def change_sources(box: Sandbox, one: Case) -> None:
    for source in one.sources:
        if source.endswith("/"):
            box.write(f"{source}a.conf", f"{source}: changed\n", mode=0o640)
            box.write(f"{source}new.conf", "new\n")
            box.remove(f"{source}sub/b.conf")
        else:
            box.write(source, f"{source}: changed\n", mode=0o640)


def without_first(one: Case) -> Document:
    # A role names one entry twice: as long as one of the two is there, nothing has left.
    first = one.entries[0]["dest"] if one.entries else None
    return {**one.document, "config_files": [e for e in one.entries if e["dest"] != first]}


def other_command(one: Case) -> Document:
    return {**without_first(one), "command": f"{one.document['command']} --more"}


def lose_source(box: Sandbox, one: Case) -> None:
    document = box.read_bytes(f"{CONFIG_FILES}/config.json")
    box.remove(CONFIG_FILES)
    box.mkdir(CONFIG_FILES)
    box.document(document)


def broken(one: Case) -> str:
    return '{"command": "true",'


def live(box: Sandbox, one: Case) -> None:
    """What a running service does to what is its own."""
    for path in templates.own_trees(one):
        # By a command of the image that was run as root, and by another user of the image.
        box.write(f"{path}/service.log", "a line of root's\n", mode=0o600)
        if one.full:
            box.write(f"{path}/old/service.log", "another line\n", owner=(42, 42), mode=0o644)
    for entry in one.entries:
        dest = entry["dest"]
        if os.path.isdir(box.host(dest)) and not dest.endswith("/"):
            box.write(f"{dest.rstrip('/')}/made-by-the-service", "\n", owner=(42, 42))


def older(one: Case) -> Document:
    return one.document


def newer(one: Case) -> Document:
    return one.newer or one.document


def other_owner(one: Case) -> Document:
    """The newer document for another user in the place of the service's."""
    document: Document = json.loads(json.dumps(newer(one)))
    users = [owner.partition(":")[0] for owner in templates.owners(document)]
    service = next((user for user in users if user != "root"), None)
    for _, entry in templates.sections(document):
        user, colon, group = entry.get("owner", "").partition(":")
        if user == service:
            entry["owner"] = templates.ANOTHER + colon + group
    return document


def logs(box: Sandbox, one: Case) -> None:
    """The shared log directory as it is after a while: fluentd's; in it each service's own, with
    what the service, and a command of its image run as root, have logged; and a neighbour's.
    """
    box.mkdir(LOGS, mode=0o2775, owner="fluentd:kolla")
    box.mkdir(f"{LOGS}/neighbour", mode=0o2775, owner="neighbour:kolla")
    box.write(f"{LOGS}/neighbour/neighbour.log", "its own\n", owner="neighbour:kolla", mode=0o600)
    for path, owner in sorted(_log_directories(one).items()):
        if not box.exists(path):
            box.mkdir(path, owner=owner)  # as Kolla's extend-start scripts do
        status = box.stat(path)
        group = status.st_gid if status.st_mode & stat.S_ISGID else box.ids(owner)[1]
        box.write(f"{path}/service.log", "a line\n", owner=(box.ids(owner)[0], group), mode=0o640)
        box.write(f"{path}/manage.log", "a line of root's\n", mode=0o600)


def _log_directories(one: Case) -> dict[str, str]:
    """The directories of services below LOGS that the older document names, and whose they are."""
    found: dict[str, str] = {}
    for name, entry in templates.sections(one.document):
        parts = entry.get("path", "").split("/")
        if name != "config_files" and entry["path"].startswith(f"{LOGS}/"):
            inner = "*" not in parts[4] and (len(parts) > 5 or "." not in parts[4])
            if inner:
                found.setdefault("/".join(parts[:5]), entry["owner"].partition(":")[0])
    return found


def image_defaults(box: Sandbox, one: Case) -> None:
    """A file, or a directory with a file of its own, wherever the document copies to."""
    for entry, source in _pairs(one):
        dest = entry["dest"]
        if dest.endswith("/"):
            dest += os.path.basename(source.rstrip("/"))
        dest = dest.rstrip("/")
        if os.path.lexists(box.host(dest)):
            continue
        if source.endswith("/"):
            box.write(f"{dest}/of-the-image.conf", f"{dest}: the image's\n", mode=0o640)
        else:
            box.write(dest, f"{dest}: the image's\n", owner=(0, 42), mode=0o640)


def _pairs(one: Case) -> Iterator[tuple[dict[str, str], str]]:
    for entry in one.entries:
        for source in templates.case("", {"config_files": [entry]}, one.full).sources:
            yield entry, source


# What a document without config_files cannot go through.
NEED_ENTRIES = (change_sources, without_first, lose_source)

CHECK = ("--check",)

PLAIN = (
    Step("first start"),
    Step("check after the start", CHECK, answers=0),
    Step("second start"),
    Step("check while the service lives", CHECK, change=live, answers=0),
    Step("check after a source changed", CHECK, change=change_sources, answers=1),
    Step("start after a source changed"),
    Step("check after an entry left", CHECK, document=without_first, answers=1),
    Step("start after an entry left"),
    Step("check after the command changed", CHECK, document=other_command, answers=1),
)
DEFAULTS = (
    Step("first start over image defaults", change=image_defaults),
    Step("second start over image defaults"),
    Step("third start, sources changed", change=change_sources),
    Step("start after an entry left, image default", document=without_first),
    Step("check after that, image default", CHECK, answers=0),
)
ONCE = (
    Step("first start, COPY_ONCE", strategy="COPY_ONCE"),
    Step("start after a source changed, COPY_ONCE", strategy="COPY_ONCE", change=change_sources),
    Step("start with a broken document, COPY_ONCE", strategy="COPY_ONCE", document=broken),
)

# What must be refused.
REFUSED = (
    Step("start that goes well"),
    Step("check without the sources", CHECK, change=lose_source, answers=2),
    Step("start without the sources"),
    Step("check of a broken document", CHECK, document=broken, answers=2),
    Step("start with a broken document"),
)
CHAINS: tuple[Chain, ...] = (PLAIN, DEFAULTS, ONCE, REFUSED)

# A deployment: an older kolla-ansible's document, a newer one's over what it left behind, and back,
# while other containers, root's commands and the service leave their logs in the shared directory.
DEPLOYMENT: Chain = (
    Step("older document: first start"),
    Step("older document: restart after a root command and fluentd", change=logs),
    Step("check of the older document", CHECK, answers=0),
    Step("newer document: upgrade", document=newer),
    Step("check after the upgrade", CHECK, answers=0),
    Step("newer document: restart after a root command and fluentd", change=logs),
    Step("newer document: reconfigured, sources changed", change=change_sources),
    Step("newer document: another owner", document=other_owner),
    Step("check with another owner", CHECK, answers=0),
    Step("older document: back again", document=older),
    Step("check after that", CHECK, answers=0),
    Step("older document: restart once more", change=logs),
)
