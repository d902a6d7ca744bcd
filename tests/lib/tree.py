"""A sandbox's files as the tests see and make them, from outside.

Every path is one inside, and its links lead where they lead inside: nothing here may follow an
absolute link out into the machine. What is made gets its owner and mode whatever the umask.
"""

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from machine import CONFIG_FILES


class Paths:
    """Looking only. `root` is the new root as seen from outside."""

    root: Path

    def host(self, path: str, *, follow: bool = False) -> str:
        """The path as this process reaches it. Links on the way lead where they lead inside.

        Joining `root` and a path by hand would follow an absolute link out into the machine.
        """
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                del done[-1:]
                continue
            here = "/".join((str(self.root), *done, part))
            if (todo or follow) and os.path.islink(here):
                links += 1
                if links > 40:
                    raise OSError(40, os.strerror(40), path)
                target = os.readlink(here)
                if target.startswith("/"):
                    done = []
                todo += [p for p in reversed(target.split("/")) if p not in ("", ".")]
            else:
                done.append(part)
        return "/".join((str(self.root), *done))

    def read_bytes(self, path: str) -> bytes:
        return Path(self.host(path, follow=True)).read_bytes()

    def read(self, path: str) -> str:
        return self.read_bytes(path).decode("utf-8", "surrogateescape")

    def stat(self, path: str) -> os.stat_result:
        """Of the path itself: a link is not followed."""
        return os.lstat(self.host(path))

    def mode(self, path: str) -> int:
        return stat.S_IMODE(self.stat(path).st_mode)

    def owner(self, path: str) -> tuple[int, int]:
        """uid and gid of the path itself."""
        status = self.stat(path)
        return status.st_uid, status.st_gid

    def exists(self, path: str) -> bool:
        """Also true for a link that leads nowhere."""
        return os.path.lexists(self.host(path))

    def readlink(self, path: str) -> str:
        return os.readlink(self.host(path))

    def ids(self, user: str | int) -> tuple[int, int, list[int], str]:
        """uid, gid, supplementary groups, home: of the databases inside."""
        for line in self._lines("/etc/passwd"):
            if user in (line[0], int(line[2])):
                gid = int(line[3])
                more = [
                    int(group[2])
                    for group in self._lines("/etc/group")
                    if line[0] in group[3].split(",")
                ]
                return int(line[2]), gid, [gid, *more], line[5]
        if isinstance(user, int):
            return user, user, [user], "/"
        raise LookupError(f"no user {user} in the sandbox")

    def _owner(self, owner: str | tuple[int, int]) -> tuple[int, int]:
        if not isinstance(owner, str):
            return owner
        name, _, group = owner.partition(":")
        if name == "root" and group in ("", "root"):
            return 0, 0
        uid, gid, _, _ = self.ids(int(name) if name.isdigit() else name)
        if group:
            found = [g for g in self._lines("/etc/group") if group in (g[0], g[2])]
            gid = int(found[0][2]) if found else int(group)
        return uid, gid

    def _lines(self, path: str) -> list[list[str]]:
        return [line.split(":") for line in self.read(path).splitlines() if line]


class Tree(Paths):
    """Making, changing and taking away."""

    def mkdir(self, path: str, mode: int = 0o755, owner: str | tuple[int, int] = "root") -> None:
        """A directory with its missing parents (0755 root), whatever the umask."""
        so_far = ""
        parts = [part for part in path.split("/") if part]
        for index, part in enumerate(parts):
            so_far += "/" + part
            here = self.host(so_far, follow=True)
            last = index == len(parts) - 1
            if not os.path.isdir(here):
                os.mkdir(here)
                os.chmod(here, 0o755)
            if last:
                os.chown(here, *self._owner(owner))
                os.chmod(here, mode)

    def write(
        self,
        path: str,
        data: bytes | str = "",
        owner: str | tuple[int, int] = "root",
        mode: int = 0o644,
    ) -> None:
        """A file with its missing parents (0755 root)."""
        parent = os.path.dirname(path)
        if not os.path.isdir(self.host(parent, follow=True)):
            self.mkdir(parent)
        here = self.host(path, follow=True)
        raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        with open(here, "wb") as stream:
            stream.write(raw)
        os.chown(here, *self._owner(owner))
        os.chmod(here, mode)

    def symlink(self, target: str, path: str, owner: str | tuple[int, int] = "root") -> None:
        """A link at `path`, with its missing parents."""
        parent = os.path.dirname(path)
        if not os.path.isdir(self.host(parent, follow=True)):
            self.mkdir(parent)
        here = self.host(path)
        os.symlink(target, here)
        os.chown(here, *self._owner(owner), follow_symlinks=False)

    def remove(self, path: str) -> None:
        """The path and all below it; nothing if it does not exist."""
        here = self.host(path)
        if os.path.isdir(here) and not os.path.islink(here):
            shutil.rmtree(here)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(here)

    def chown(self, path: str, owner: str | tuple[int, int]) -> None:
        os.chown(self.host(path), *self._owner(owner), follow_symlinks=False)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self.host(path), mode)

    def document(self, content: object, name: str = "config.json") -> None:
        """The mounted document: text and bytes as they are, anything else as JSON."""
        raw = content if isinstance(content, str | bytes) else json.dumps(content, indent=4)
        self.write(f"{CONFIG_FILES}/{name}", raw)

    def source(self, name: str, data: bytes | str = "", mode: int = 0o644) -> str:
        """A file beside the document; returns its path."""
        path = f"{CONFIG_FILES}/{name}"
        self.write(path, data, mode=mode)
        return path

    def adduser(
        self,
        name: str,
        uid: int | None = None,
        gid: int | None = None,
        home: str | None = None,
        groups: Sequence[str] = (),
    ) -> int:
        """A user with a group of its own name, as a package would make it; returns the uid."""
        users = self._lines("/etc/passwd")
        known = [line for line in users if line[0] == name]
        if known:
            number = int(known[0][2])
        else:
            taken = {int(line[2]) for line in users}
            number = (
                uid if uid is not None else next(n for n in range(42401, 60000) if n not in taken)
            )
            group = gid if gid is not None else number
            entry = [name, "x", str(number), str(group), "", home or f"/var/lib/{name}", "/bin/sh"]
            self._save("/etc/passwd", [*users, entry])
            if name not in {line[0] for line in self._lines("/etc/group")}:
                self.addgroup(name, group)
        members = self._lines("/etc/group")
        for line in members:
            if line[0] in groups:
                line[3] = ",".join([*filter(None, line[3].split(",")), name])
        if groups:
            self._save("/etc/group", members)
        return number

    def addgroup(self, name: str, gid: int) -> None:
        self._save("/etc/group", [*self._lines("/etc/group"), [name, "x", str(gid), ""]])

    def _save(self, path: str, lines: list[list[str]]) -> None:
        self.write(path, "".join(":".join(line) + "\n" for line in lines))
