"""What this program remembers between starts, and where.

On the container-start path: reads two small files, writes only what changed.

    /etc/kolla/defaults/state        upstream's form: for every path that config_files created or
                                     replaced, where its original is kept, or null if there was none
    /etc/kolla/defaults/kolla_start  what upstream's form has no room for (see Records)
    /etc/kolla/defaults/PATH         the originals
    /etc/kolla/defaults/lock         held while a run applies
    /run_command                     the command: a string as it is, a list as JSON
    /etc/kolla/options               user, capabilities, no_new_privileges, where the document
                                     names any: readable for the unprivileged stage
    /configured                      COPY_ONCE has succeeded

/etc/kolla may be a link of the image; homes.py says where else all of it can lie, and whether it is
believed. It must not decide what to restore: the plan does.
"""

from __future__ import annotations

import posix as os

from kolla_start import homes, kernel
from kolla_start.disk import walk, write
from kolla_start.document.text import parse_json, to_json
from kolla_start.errors import refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from kolla_start.homes import Home


class Launch:
    """What a start hands to the service: recorded, so that COPY_ONCE needs no document."""

    __slots__ = ("capabilities", "command", "no_new_privileges", "user")

    def __init__(
        self,
        command: str | tuple[str, ...],
        user: str | None,
        capabilities: tuple[str, ...],
        no_new_privileges: bool,
    ) -> None:
        self.command = command
        self.user = user
        self.capabilities = capabilities
        self.no_new_privileges = no_new_privileges

    def options_text(self) -> str | None:
        """What the options file holds; None where all is as without one."""
        if not (self.user or self.capabilities or self.no_new_privileges):
            return None
        return to_json(
            {
                "user": self.user,
                "capabilities": list(self.capabilities),
                "no_new_privileges": self.no_new_privileges,
            }
        )


class Records:
    """What the last runs left.

    originals:  path -> where its original is kept, or None if there was nothing
    parents:    directories made because a destination's parent was missing, sorted
    attributes: directory -> owner, group and mode it had before a merge changed them
    placed:     what this program put inside directories that it copied whole
    pending:    a run began to write and did not report its end; if so,
    mark:       begins the names of its temporary files (write.mark()),
    places:     the directories in which it may have left some, and
    saving:     where it was about to keep originals
    """

    __slots__ = (
        "attributes", "mark", "originals", "parents", "pending", "placed", "places", "saving",
    )  # fmt: skip

    def __init__(self) -> None:
        self.originals: dict[str, str | None] = {}
        self.parents: list[str] = []
        self.attributes: dict[str, tuple[int, int, int]] = {}
        self.placed: set[str] = set()
        self.pending = False
        self.mark = ""
        self.places: list[str] = []
        self.saving: list[str] = []

    def copy(self) -> Records:
        twin = Records()
        twin.originals = dict(self.originals)
        twin.parents = list(self.parents)
        twin.attributes = dict(self.attributes)
        twin.placed = set(self.placed)
        twin.pending = self.pending
        twin.mark = self.mark
        twin.places = list(self.places)
        twin.saving = list(self.saving)
        return twin

    def same_as(self, other: Records) -> bool:
        return all(getattr(self, name) == getattr(other, name) for name in Records.__slots__)

    def state_json(self) -> dict[str, object]:
        return {
            path: {"source": path, "preserve_properties": True, "dest": kept}
            for path, kept in self.originals.items()
        }

    def own_json(self) -> dict[str, object]:
        return {
            "version": 1,
            "pending": self.pending,
            "mark": self.mark,
            "parents": self.parents,
            "attributes": {path: list(value) for path, value in self.attributes.items()},
            "placed": sorted(self.placed),
            "places": self.places,
            "saving": self.saving,
        }


def load(place: Home) -> Records:
    """Read the records; an empty container has none.

    Raises Refused where they are damaged: guessing could lose an image default.
    """
    records = Records()
    walk.ours.free = f"{place.defaults}/"
    try:
        for path, entry in _read(place.state).items():
            # Upstream swaps the two when it restores: the original is the one it keeps.
            kept = [
                end
                for end in (entry["source"], entry["dest"])
                if end is not None and _path(end).startswith(f"{place.defaults}/")
            ]
            records.originals[_path(path)] = kept[0] if kept else None
        own = _read(place.own)
        if own:
            if type(own["pending"]) is not bool:
                raise ValueError("pending is no boolean")
            records.pending = own["pending"]
            records.mark = _path(f"/{own.get('mark', '')}")[1:]
            records.parents = [_path(path) for path in own["parents"]]
            records.attributes = {
                _path(path): (_number(uid), _number(gid), _number(mode))
                for path, (uid, gid, mode) in own["attributes"].items()
            }
            records.placed = {_path(path) for path in own["placed"]}
            records.places = [_path(path) for path in own["places"]]
            records.saving = [_path(path) for path in own["saving"]]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise refuse(
            f"the records in {place.defaults} are damaged ({error!r}); recreate the container "
            "from its image"
        ) from None
    return records


def _path(value: object) -> str:
    if type(value) is not str or value[:1] != "/" or "\0" in value:
        raise ValueError(f"{value!r} is no path")
    kernel.encode(value)  # a ValueError as well
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**32:
        raise ValueError(f"{value!r} is no id or mode")
    return value


def _read(path: str) -> dict[str, Any]:
    data = homes.recorded(path)
    if data is None:
        return {}
    found = parse_json(kernel.decode(data))
    if type(found) is not dict:
        raise ValueError(f"{path} holds no JSON object")
    return found


def write_state(place: Home, records: Records) -> None:
    """Replace upstream's file; it has reached the storage when this returns."""
    _write(place.state, records.state_json())


def write_own(place: Home, records: Records) -> None:
    """Replace this program's file; it has reached the storage when this returns."""
    _write(place.own, records.own_json())


def _write(path: str, content: dict[str, object]) -> None:
    # A line for each key: for whoever looks into it, and for grep.
    lines = ",\n".join(f"{to_json(key)}: {to_json(value)}" for key, value in content.items())
    text = f"{{\n{lines}\n}}\n"
    # Flushed, or a power cut could leave nothing that can be read: the end of this container.
    write.write_file(path, text.encode(), os.geteuid(), os.getegid(), 0o644, sync=True)


def command_text(command: str | tuple[str, ...]) -> str:
    """The content of /run_command: the string as it is, a list as JSON."""
    if isinstance(command, str):
        return command
    return to_json(list(command))


def read_launch(place: Home) -> Launch:
    """What the privileged stage recorded for the start. Raises Refused if it did not."""
    data = homes.recorded(place.run_command)
    if data is None:
        raise refuse(f"no {place.run_command}: kolla_set_configs has not succeeded here")
    launch = Launch(_command(kernel.decode(data)), None, (), False)
    text = homes.recorded(place.options)
    if text is None:
        return launch
    # Whoever the service runs as stands here: a record that is not as this program writes it
    # must not make it root.
    try:
        options = _read(place.options)
        launch.user = options["user"]
        launch.capabilities = tuple(options["capabilities"])
        launch.no_new_privileges = options["no_new_privileges"]
        words = (launch.user or "", *launch.capabilities)
        if any(type(word) is not str for word in words) or launch.options_text() != text.decode():
            raise ValueError("it is not as it was written")
    except (ValueError, KeyError, TypeError) as error:
        raise refuse(
            f"{place.options} is damaged ({error!r}); recreate the container from its image"
        ) from None
    return launch


def _command(text: str) -> str | tuple[str, ...]:
    if text.startswith("["):
        # A document whose command string reads like this is refused, so it is a list.
        try:
            words = parse_json(text)
        except ValueError:
            words = None
        if type(words) is list and all(type(word) is str for word in words):
            return tuple(words)
        if text[1:2] in ('"', "[", "]"):
            raise refuse("the recorded command is damaged; recreate the container from its image")
    return text
