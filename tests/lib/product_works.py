"""What root does at a place: the third dimension of the product. Documents, and what runs them.

Each work is aimed at a name in a directory that the service can write: at the thing itself, at a
path through it, or at what it lies in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from canary import GIVEN, SERVICE
from documents import Document, document, entry
from product_world import NAME, OUT, Place, World

COPIED_CERTIFICATES = "/var/lib/kolla/share/ca-certificates"
RECORDS = "/etc/kolla/defaults"
SCRIPTS = "/usr/local/lib/svc/bin"
REST = entry("one", "/etc/rest.conf", SERVICE, "0600")  # the rest of the document

Sections = dict[str, Any]
# Of the path that is planted, and of the directory it lies in:
Where = Callable[[str, str], str]
Made = Callable[[str, str], Sections]


@dataclass(frozen=True, slots=True)
class Work:
    """sections: of the document, by the path that is planted and the directory it lies in.

    through: it goes on through the thing. earlier: of a document that was applied before the
    planting. base: where the place must be, or "" for anywhere. name: of what is planted there.
    reads: it takes its content from the place. before: what the image has there.
    argv: what carries it out.
    """

    section: str
    name: str
    sections: Made
    through: bool = False
    earlier: Made | None = None
    base: str = ""
    thing: str = NAME
    reads: bool = False
    before: Callable[[World, str], None] | None = None
    argv: tuple[str, ...] = ("kolla_set_configs",)
    path: bool = False  # the place is searched for programs


def whole(place: Place, sections: Sections) -> Document:
    """The document: the sections, what belongs to the place, and the rest."""
    entries = [*sections.get("config_files", ()), REST]
    given = [*GIVEN, *sections.get("directories", ())] if place.shared else None
    more = {} if given is None else {"directories": given}
    return document(*entries, **{**sections, **more, "config_files": entries})


def _entries(*entries: dict[str, Any]) -> Sections:
    return {"config_files": list(entries)}


def _copy(source: str, dest: Where, owner: str = SERVICE, **keys: Any) -> Made:
    return lambda at, top: _entries(entry(source, dest(at, top), owner, "0600", **keys))


def _at(at: str, _: str) -> str:
    return at


def _top(_: str, top: str) -> str:
    return top


def _below(tail: str) -> Where:
    return lambda at, _: at + tail


def _into(_: str, top: str) -> str:
    return f"{top}/"


def _read(source: Where, name: str = "copy", **keys: Any) -> Made:
    return lambda at, top: _entries(
        entry(source(at, top), f"{OUT}/{name}", SERVICE, "0600", **keys)
    )


def _in(section: str, path: Where, perm: str, **keys: Any) -> Made:
    return lambda at, top: {
        section: [{"path": path(at, top), "owner": SERVICE, "perm": perm, **keys}]
    }


def _empty(_: str, __: str) -> Sections:
    return {}


def _has_file(world: World, at: str) -> None:
    world.box.write(at, world.original, mode=0o600)


def _has_directory(world: World, at: str) -> None:
    world.box.mkdir(at, owner=SERVICE)
    world.box.write(f"{at}/image", world.original, mode=0o600)


PRESERVED: dict[str, Any] = {"preserve_properties": True}
LINKS: dict[str, Any] = {"merge": True, "preserve_properties": True}
_ONE = "one"

COPIES = (
    Work("config_files", "copies a file over it", _copy(_ONE, _at)),
    Work("config_files", "copies a file of root's over it", _copy("roots", _at, "root")),
    Work("config_files", "copies a file through it", _copy(_ONE, _below("/new/conf")), True),
    Work("config_files", "copies a file into it", _copy(_ONE, _below("/")), True),
    Work("config_files", "copies a directory over it", _copy("flat", _at)),
    Work("config_files", "copies a directory over all", _copy("flat", _top)),
    Work("config_files", "merges a file over it", _copy("flat", _top, merge=True)),
    Work("config_files", "merges a directory over it", _copy("nested", _top, merge=True), True),
    Work("config_files", "copies by a pattern", _copy("flat/*", _into)),
    Work("config_files", "copies a file with its properties", _copy("roots", _at, **PRESERVED)),
    Work("config_files", "merges links as they are", _copy("kept", _top, **LINKS)),
)
READS = (
    Work("sources", "reads it", _read(_at), reads=True),
    Work("sources", "reads through it", _read(_below("/secret")), True, reads=True),
    Work("sources", "reads what it lies in", _read(_top), reads=True),
    Work("sources", "reads by a pattern", _read(_below("*"), "all/"), reads=True),
    Work("sources", "reads it with its properties", _read(_at, **PRESERVED), reads=True),
    Work("sources", "reads what it lies in, links too", _read(_top, **LINKS), reads=True),
)
SECTIONS = (
    Work("directories", "gives it", _in("directories", _at, "0750")),
    Work("directories", "gives through it", _in("directories", _below("/new"), "0750"), True),
    Work("files", "gives the file", _in("files", _at, "0640")),
    Work("files", "gives a file through it", _in("files", _below("/new"), "0640"), True),
    Work("permissions", "gives it, plain", _in("permissions", _at, "0660")),
    Work("permissions", "gives it, recursive", _in("permissions", _at, "0660", recurse=True)),
    Work("permissions", "gives all, recursive", _in("permissions", _top, "0660", recurse=True)),
    Work("permissions", "gives by a pattern", _in("permissions", _below("*"), "0660")),
    Work("permissions", "gives through it, plain", _in("permissions", _below("/secret"), "0660"),
         True),
    Work("permissions", "gives through it, by a pattern",
         _in("permissions", _below("/*"), "0660"), True),
)  # fmt: skip
GIVEN_BACK = (
    Work("give back", "what was made is removed", _empty, earlier=_copy(_ONE, _at)),
    Work("give back", "what was made through it is removed", _empty, True,
         _copy(_ONE, _below("/new/conf"))),
    Work("give back", "a directory is removed", _empty, earlier=_copy("flat", _at)),
    Work("give back", "what was merged is removed", _empty,
         earlier=_copy("flat", _top, merge=True)),
    Work("give back", "a file is given back", _empty, earlier=_copy(_ONE, _at), before=_has_file),
    Work("give back", "a directory is given back", _empty, earlier=_copy("flat", _at),
         before=_has_directory),
)  # fmt: skip
_CERTIFICATES = _copy("ca-certificates", lambda *_: COPIED_CERTIFICATES, merge=True)


def _certificates(name: str, thing: str, *argv: str) -> Work:
    return Work("CA certificates", name, _CERTIFICATES, earlier=_CERTIFICATES, thing=thing,
                base=COPIED_CERTIFICATES, argv=argv)  # fmt: skip


CERTIFICATES = (
    _certificates("are installed by the service's call", "bad.crt", "kolla_copy_cacerts"),
    _certificates("are installed in place of one", "good.crt", "kolla_copy_cacerts"),
    _certificates("are installed at a start", "bad.crt", "kolla_start"),
)


def _records(name: str, thing: str, base: str = RECORDS) -> Work:
    """Planted among the records, when something leaves the document."""
    earlier = _copy(_ONE, lambda *_: "/etc/app.conf")
    return Work("records", name, _empty, earlier=earlier, base=base, thing=thing)


REMEMBERED = (
    _records("the state is read", "state"),
    _records("its own record is read", "kolla_start"),
    _records("the lock is taken", "lock"),
    _records("an original is given back", "app.conf", f"{RECORDS}/etc"),
    _records("the records are entered", "defaults", "/etc/kolla"),
)
STARTED = (
    Work("extend-start", "is searched for", lambda *_: {"user": SERVICE}, base=SCRIPTS,
         thing="kolla_extend_start", argv=("kolla_start",), path=True),
)  # fmt: skip

WORKS = (*COPIES, *READS, *SECTIONS, *GIVEN_BACK, *CERTIFICATES, *REMEMBERED, *STARTED)
