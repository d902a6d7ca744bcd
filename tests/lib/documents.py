"""Documents as tests write them. What a test does not say is nothing that it is about."""

from typing import Any

from sandbox import CONFIG_FILES

Document = dict[str, Any]
Entry = dict[str, Any]

EMPTY: Document = {"command": "true"}


def entry(source: str, dest: str, owner: str = "root", perm: str = "0644", **keys: Any) -> Entry:
    """An entry of config_files; `source` is in the mount unless it is absolute.

    With `preserve_properties` it says nothing of owner and perm.
    """
    where = source if source.startswith("/") else f"{CONFIG_FILES}/{source}"
    if keys.get("preserve_properties"):
        return {"source": where, "dest": dest, **keys}
    return {"source": where, "dest": dest, "owner": owner, "perm": perm, **keys}


def document(*entries: Entry, **sections: Any) -> Document:
    """A document with these entries of config_files; `command` is true unless it is given."""
    return {"command": "true", "config_files": list(entries), **sections}
