"""Twelve starts that the world is made to refuse: the image, what is mounted, the document.

Together they take every way that a start can go: each section, each strategy, what is given back,
certificates, mount points, a change of user, no root at all. Used by faults.py (system calls that
fail) and world.py (what a container lacks), for all subjects alike.
"""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from documents import entry
from sandbox import CONFIG_FILES, TREE, Change, Sandbox

# The service: in a place that any user can write, and that no overlay has.
MARK = "/dev/shm/service-was-started"
SERVICE = ["touch", MARK]

# Not what a document asks for: the mount, the programs' own records, what belongs to a test.
_NOT_ASKED = (CONFIG_FILES, "/etc/kolla", "/run/kolla", "/run_command", "/configured")


@dataclass(frozen=True, slots=True)
class Case:
    """A start: the image, what is mounted, and a document that was applied before, if any.

    user:     who starts it, if not root
    every:    a case that repeats itself is tried at each 97th call, say
    bare:     whether it stands for all of them while the interpreter starts, which is all the same
    in_place: what cannot be replaced, being a mount point: docs/security.md, "What is not promised"
    """

    plant: Callable[[Sandbox], None]
    document: dict[str, Any]
    earlier: dict[str, Any] | None = None
    strategy: str = "COPY_ALWAYS"
    user: str | None = None
    every: int = 1
    bare: bool = False
    in_place: tuple[str, ...] = ()


# --- images ------------------------------------------------------------------------------------


def _nova(box: Sandbox) -> None:
    box.adduser("nova")
    example = TREE / "examples" / "nova-compute"
    for path in example.iterdir():
        box.source(path.name, path.read_bytes())
    box.write("/etc/nova/nova.conf", "the image's\n", owner="root:nova", mode=0o640)
    box.write("/etc/nova/policy.yaml", "{}\n")
    box.write("/etc/nova/rootwrap.conf", "the image's\n")
    box.mkdir("/var/log/kolla/nova")
    box.write("/var/log/kolla/nova/nova.log", "x")
    box.write("/var/lib/nova/instances/1/disk", "x")
    box.write("/var/lib/nova/state", "x")


def _directory(box: Sandbox) -> None:
    box.adduser("nova")
    box.source("conf.d/a", "a")
    box.source("conf.d/sub/b", "b" * 100_000)
    box.write("/etc/conf.d/image", "image", owner="nova", mode=0o600)
    box.write("/etc/conf.d/sub", "a file where a directory goes")
    box.write("/etc/conf.d/deep/er/file", "image")
    box.symlink("image", "/etc/conf.d/link")
    box.mkdir("/etc/conf.d/a", mode=0o711)
    box.write("/etc/conf.d/a/inside", "image")


def _root(box: Sandbox) -> None:
    box.source("src/etc/rooted/file", "mounted", mode=0o640)
    box.source("src/etc/rooted/new/er", "mounted")
    box.source("src/usr/local/bin/tool", "#!/bin/sh\n", mode=0o755)
    box.symlink("file", f"{CONFIG_FILES}/src/etc/rooted/link")
    box.write("/etc/rooted/file", "image", mode=0o604)
    box.symlink("elsewhere", "/etc/rooted/link")
    box.chmod("/etc/rooted", 0o711)


def _many(box: Sandbox) -> None:
    for number in range(520):
        box.source(f"many/{number % 4}/{number}", f"content of {number}")
    box.write("/etc/many/3/image", "image")


def _preserved(box: Sandbox) -> None:
    box.adduser("nova", 4321)
    for name, owner, mode in (("a", "nova", 0o640), ("sub/b", "daemon", 0o604)):
        box.write(f"{CONFIG_FILES}/kept/{name}", f"content of {name}", owner=owner, mode=mode)
    box.write("/etc/kept/a", "image", mode=0o600)
    box.write("/etc/kept/sub/image", "image")
    acl = ["setfacl", "-m", "u:daemon:r,g:4321:rw", f"{CONFIG_FILES}/kept/a", "/etc/kept/sub/image"]
    box.run(acl, check=True)
    box.run(["setfacl", "-d", "-m", "u:daemon:rx", f"{CONFIG_FILES}/kept/sub"], check=True)
    box.run(["setcap", "cap_chown=ep", f"{CONFIG_FILES}/kept/sub/b"], check=True)


_ANCHORS = "/usr/local/share/ca-certificates"
_UPDATE = f"""#!/bin/sh
set -e
cat {_ANCHORS}/kolla-customca-a.crt >/var/lib/bundle.new
mv /var/lib/bundle.new /var/lib/bundle
"""


def _certificates(box: Sandbox) -> None:
    box.adduser("nova", 4321)
    box.mkdir(_ANCHORS)
    box.write(f"{_ANCHORS}/kolla-customca-gone.crt", "gone")
    box.write("/usr/sbin/update-ca-certificates", _UPDATE, mode=0o755)
    box.write(f"{CONFIG_FILES}/ca-certificates/a.crt", "certificate\n")
    box.write(f"{CONFIG_FILES}/ca-certificates/b.crt", "another\n")
    box.source("conf", "mounted")
    box.write("/etc/conf", "image", owner="nova")
    box.write("/usr/local/bin/kolla_extend_start", "export EXTENDED=1\n")


def _logs(box: Sandbox) -> None:
    box.adduser("nova", 4321, groups=["kolla"])
    box.write("/var/log/kolla/nova/nova.log", "x", owner="daemon", mode=0o600)
    box.write("/var/log/kolla/nova/old/nova.log.1", "x", owner="root")
    box.write("/var/lib/nova/instances/1/disk", "x", owner="daemon")
    box.write("/var/lib/nova/keys/id", "x", mode=0o644)
    box.symlink("../nova.outside", "/var/lib/nova/link")
    box.write("/var/lib/nova.outside", "x")


def _mounted(box: Sandbox) -> None:
    box.source("conf", "mounted " * 2000)
    box.source("other", "other")
    box.write("/etc/under", "before", mode=0o640)
    box.write("/etc/service/conf", "image")
    box.write("/etc/service/other", "image")
    box.run(["mount", "--bind", "/etc/under", "/etc/service/conf"], check=True)


def _without_root(box: Sandbox) -> None:
    box.adduser("nova", 4321)
    box.remove("/usr/bin/sudo")  # else this is Kolla's way
    box.mkdir("/run/kolla", mode=0o700, owner="nova")
    box.source("conf", "mounted")
    box.source("conf.d/a", "a")
    box.mkdir("/etc/nova", owner="nova")
    box.write("/etc/nova/conf", "image", owner="nova", mode=0o600)
    box.write("/etc/nova/conf.d/image", "image", owner="nova")
    box.chown("/etc/nova/conf.d", "nova")
    box.mkdir("/var/lib/nova", owner="nova")
    box.write("/var/lib/nova/state", "x", owner="nova", mode=0o600)


# --- documents ---------------------------------------------------------------------------------


def _example() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((TREE / "examples/nova-compute/config.json").read_text())
    return {**found, "command": " ".join(SERVICE)}


def _document(*entries: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {"command": " ".join(SERVICE), "config_files": list(entries), **sections}


_conf_d = _document(
    entry("conf.d", "/etc/conf.d", "nova", "0640"),
    directories=[{"path": "/var/lib/made", "owner": "nova", "perm": "0750"}],
    files=[{"path": "/var/lib/made/file", "owner": "nova", "perm": "0640"}],
)
_restored = _document(entry("conf.d/a", "/etc/conf.d/deep", "nova", "0600"), user="0")
_log_files = _document(
    directories=[
        {"path": "/var/log/kolla", "owner": "daemon:kolla", "perm": "2775"},
        {"path": "/var/log/kolla/nova", "owner": "nova:kolla", "perm": "2775"},
        {"path": "/var/lib/made/here", "owner": "nova", "perm": "0750"},
    ],
    files=[
        {"path": "/var/log/kolla/nova/api.log", "owner": "nova:kolla", "perm": "0644"},
        {"path": "/var/lib/made/here/file", "owner": "nova", "perm": "0600"},
    ],
    permissions=[{"path": "/var/log/kolla/nova/*.log", "owner": "nova:kolla", "perm": "0644"}],
)
_recursive = _document(
    permissions=[
        {"path": "/var/log/kolla/nova", "owner": "nova:kolla", "perm": "0660", "recurse": True},
        {
            "path": "/var/lib/nova",
            "owner": "nova",
            "recurse": True,
            "exclude": ["^/var/lib/nova/instances/", "\\.tmp$"],
        },
    ],
)
CASES = {
    "nova-compute": Case(_nova, _example(), bare=True),
    "directory": Case(_directory, _conf_d),
    "merge into /": Case(
        _root, _document(entry("src/*", "/", merge=True, preserve_properties=True))
    ),
    "restore": Case(_directory, {**_restored, "command": SERVICE}, earlier=_conf_d),
    "many files": Case(_many, _document(entry("many", "/etc/many")), every=97),
    "COPY_ONCE": Case(_nova, _example(), strategy="COPY_ONCE"),
    "preserved": Case(_preserved, _document(entry("kept", "/etc/kept", preserve_properties=True))),
    "certificates": Case(
        _certificates,
        {
            "command": ["sh", "-c", f'[ "$EXTENDED" ] || exit 2; : >{MARK}'],
            "config_files": [entry("conf", "/etc/conf", "nova", "0600")],
            "user": "nova",
        },
        every=4,  # some hundred links of the system's, one like the other
    ),
    "directories and files": Case(_logs, _log_files),
    "permissions": Case(_logs, _recursive),
    "mount point": Case(
        _mounted,
        _document(
            entry("conf", "/etc/service/conf", "daemon", "0600"),
            entry("other", "/etc/service/other", "daemon", "0600"),
        ),
        in_place=("/etc/under",),
    ),
    "without root": Case(
        _without_root,
        _document(
            entry("conf", "/etc/nova/conf", "nova", "0600"),
            entry("conf.d", "/etc/nova/conf.d", "nova", "0640"),
            permissions=[{"path": "/var/lib/nova", "owner": "nova", "perm": "0640"}],
        ),
        user="nova",
        bare=True,
    ),
}


# --- a start and what came of it ---------------------------------------------------------------


def prepare(box: Sandbox, case: Case) -> None:
    """The image, an earlier document's start, then the document; changes count from the image."""
    case.plant(box)
    box.mark()
    if case.earlier is not None:
        box.document(case.earlier)
        done = configure(box, case)
        assert done.returncode == 0, done.stderr
    box.document(case.document)


def start(
    box: Sandbox,
    case: Case,
    *before: str,
    timeout: float = 60,
    before_exec: Callable[[], None] | None = None,
) -> tuple[int, str]:
    """The case's start, behind the words of another command; exit code and log.

    Raises subprocess.TimeoutExpired.
    """
    done = box.run(
        [*before, "kolla_start"],
        env={"KOLLA_CONFIG_STRATEGY": case.strategy},
        user=case.user,
        timeout=timeout,
        before_exec=before_exec,
    )
    return done.returncode, done.stderr


def configure(box: Sandbox, case: Case, *argv: str) -> subprocess.CompletedProcess[str]:
    """kolla_set_configs ARGV..., undisturbed, by whoever starts the case; always COPY_ALWAYS."""
    return box.set_configs(*argv, user=case.user)


def asked(box: Sandbox) -> dict[str, Change]:
    """What has changed since the image, of what a document can ask for."""
    return {
        path: change for path, change in box.changes().items() if not path.startswith(_NOT_ASKED)
    }
