"""The starts whose power is cut: those that faults.py breaks, and what only a disk can lose."""

from collections.abc import Callable
from dataclasses import dataclass

import cases
from cases import MARK
from documents import entry
from sandbox import CONFIG_FILES, Sandbox


@dataclass(frozen=True, slots=True)
class Case(cases.Case):
    """`boot`: what the engine mounts at each boot, before the start.

    `apart`: the volume has a disk of its own, of which nobody else flushes a file.
    """

    boot: Callable[[Sandbox], object] = lambda _box: None
    apart: bool = False


def _known(name: str) -> Case:
    case = cases.CASES[name]
    return Case(case.plant, case.document, case.earlier, case.strategy)


def _app(box: Sandbox) -> None:
    box.adduser("nova")
    box.source("new/a", "mounted " * 2000)
    box.source("new/sub/b", "mounted")
    box.source("conf", "mounted " * 2000)
    box.write("/etc/app/a", "image " * 3000, owner="nova", mode=0o640)
    box.write("/etc/app/own/er", "image", mode=0o600)
    box.symlink("own/er", "/etc/app/link")
    box.write("/etc/app.conf", "image " * 3000, owner="root:nova", mode=0o640)


def _volume(box: Sandbox) -> None:
    box.adduser("nova")
    box.source("conf", "mounted " * 2000)
    box.source("tree/one", "mounted")
    box.source("tree/sub/two", "mounted " * 2000)
    box.write("/srv/volume/conf", "volume " * 2000, mode=0o640)
    box.write("/srv/volume/tree/one", "volume", owner="nova")
    box.write("/srv/volume/tree/three", "volume " * 2000)
    box.write("/srv/volume/data/deep/file", "service's")


def _logs(box: Sandbox) -> None:
    box.adduser("nova")
    box.source("conf", "mounted " * 2000)
    for number in range(4):
        box.write(f"/srv/volume/logs/nova/{number}/nova.log", "line\n")


def _same(box: Sandbox) -> None:
    """Only owners and modes are not those of the image."""
    box.adduser("nova")
    box.source("conf", "the same")
    box.mkdir(f"{CONFIG_FILES}/tree", mode=0o711, owner="nova")
    box.write("/srv/volume/conf", "the same", mode=0o640)
    box.write("/srv/volume/deep/tree/one", "volume")


def _mounted(box: Sandbox) -> None:
    box.adduser("nova")
    box.source("conf", "mounted " * 2000)
    box.write("/srv/volume/conf", "volume " * 2000, mode=0o644)
    box.write("/etc/app/conf", "image")


def _mount(box: Sandbox) -> None:
    box.run(["mount", "--bind", "/srv/volume/conf", "/etc/app/conf"], check=True)


def _log(box: Sandbox) -> None:
    box.adduser("nova")
    for number in range(8):
        box.write(f"/var/log/kolla/nova/{number}/nova.log", "line\n" * number)


def _preserved(box: Sandbox) -> None:
    _app(box)
    box.chmod(f"{CONFIG_FILES}/new/a", 0o604)
    box.chown(f"{CONFIG_FILES}/new/a", "nova")


_REPLACED = [entry("new", "/etc/app", "nova", "0640"), entry("conf", "/etc/app.conf")]
_IN_VOLUME = {
    "command": f"touch {MARK}",
    "config_files": [
        entry("conf", "/srv/volume/conf", "nova", "0600"),
        entry("tree", "/srv/volume/tree", "nova", "0640"),
    ],
    "directories": [{"path": "/srv/volume/data", "owner": "nova", "perm": "0750"}],
    "permissions": [{"path": "/srv/volume/data", "owner": "nova", "recurse": True}],
}
_LOGS = {
    "command": f"touch {MARK}",
    "config_files": [entry("conf", "/etc/app.conf", "nova", "0600")],
    "directories": [{"path": "/srv/volume/logs/made", "owner": "nova", "perm": "2775"}],
    "permissions": [{"path": "/srv/volume/logs/nova", "owner": "nova", "recurse": True}],
}
CASES = {
    "files replaced": _known("nova-compute"),
    "directory replaced": Case(
        _app, {"command": f"touch {MARK}", "config_files": _REPLACED},
    ),
    "directory and file exchanged": _known("directory"),
    "given back": Case(
        _app,
        {"command": f"touch {MARK}"},
        earlier={"command": "true", "config_files": _REPLACED},
    ),
    "given back in part": _known("restore"),
    "merged": Case(
        _app,
        {"command": f"touch {MARK}", "config_files": [entry("new", "/etc/app", merge=True)]},
    ),
    "merged into /": _known("merge into /"),
    "preserved": Case(
        _preserved,
        {
            "command": f"touch {MARK}",
            "config_files": [entry("new", "/etc/app", preserve_properties=True)],
        },
    ),
    "once": _known("COPY_ONCE"),
    "once, in a volume": Case(_volume, _IN_VOLUME, strategy="COPY_ONCE"),
    "in a volume": Case(_volume, _IN_VOLUME),
    "on another disk": Case(_volume, _IN_VOLUME, apart=True),
    "once, on another disk": Case(_volume, _IN_VOLUME, strategy="COPY_ONCE", apart=True),
    "given back on another disk": Case(
        _volume, {"command": f"touch {MARK}"}, earlier=_IN_VOLUME, apart=True
    ),
    # Nothing else is written there, and so nothing else flushed: owners and modes are on their own.
    "once, logs on another disk": Case(_logs, _LOGS, strategy="COPY_ONCE", apart=True),
    "file's owner given back on another disk": Case(
        _same,
        {"command": f"touch {MARK}"},
        earlier={
            "command": "true",
            "config_files": [entry("conf", "/srv/volume/conf", "nova", "0600")],
        },
        apart=True,
    ),
    "directory's owner given back on another disk": Case(
        _same,
        {"command": f"touch {MARK}"},
        earlier={
            "command": "true",
            "config_files": [
                entry("tree", "/srv/volume/deep/tree", merge=True, preserve_properties=True)
            ],
        },
        apart=True,
    ),
    "over a mount": Case(
        _mounted,
        {
            "command": f"touch {MARK}",
            "config_files": [entry("conf", "/etc/app/conf", "nova", "0600")],
        },
        boot=_mount,
    ),
    "once, over a mount": Case(
        _mounted,
        {
            "command": f"touch {MARK}",
            "config_files": [entry("conf", "/etc/app/conf", "nova", "0600")],
        },
        strategy="COPY_ONCE",
        boot=_mount,
    ),
    "permissions": Case(
        _log,
        {
            "command": f"touch {MARK}",
            "permissions": [
                {"path": "/var/log/kolla/nova", "owner": "nova", "perm": "0640", "recurse": True}
            ],
        },
    ),
}  # fmt: skip
