"""What the service receives from kolla_start, end to end, in all three ways of starting.

Read from /proc/self by the started process itself. test_started.py holds the same of each step
alone; test_container.py of a real engine.
"""

import json
import os
from typing import Any

import pytest
from sandbox import PATH, PYTHON, Sandbox

USER, UID, GID, EXTRA = "svc", 4321, 4321, 4400
NET_BIND = 1 << 10

_TELL = r"""
import json, os
status = dict(line.rstrip().split(":", 1) for line in open("/proc/self/status"))
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
umask = os.umask(0)
environ = open("/proc/self/environ").read().split("\0")
print(json.dumps({
    "status": {key: value.split() for key, value in status.items()},
    "fds": [fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")],
    "umask": umask, "cwd": os.getcwd(), "pid": os.getpid(),
    "environ": sorted(entry for entry in environ if entry),
}))
"""


def _image(box: Sandbox, **sections: Any) -> None:
    box.addgroup("extra", EXTRA)
    box.adduser(USER, UID, groups=("extra",), home="/var/lib/svc")
    box.write("/srv/tell", _TELL)
    # -S and -I: what is seen is what kolla_start left, not what Python's site made of it.
    command = [PYTHON, "-IS", "/srv/tell"]
    box.document({"command": command, **sections})


def _sudoers(box: Sandbox) -> None:
    if not os.path.exists("/usr/bin/sudo"):
        pytest.skip("needs sudo")
    # PAM asks whether the account is there and in force.
    box.write("/etc/shadow", box.read("/etc/shadow") + f"{USER}:*:20000::::::\n", mode=0o640)
    rules = "".join(
        f"{USER} ALL=(root) NOPASSWD: {setenv}/usr/local/bin/{name}\n"
        for name, setenv in (
            ("kolla_set_configs", "SETENV: "),
            ("kolla_copy_cacerts", ""),
            ("kolla_install_projects", ""),
        )
    )
    box.write("/etc/sudoers", f'Defaults secure_path="{PATH}"\n{rules}', mode=0o440)


WAYS = ("root", "sudo", "unprivileged")


@pytest.mark.parametrize(
    ("way", "asked"),
    [
        *((way, asked) for way in WAYS for asked in ("nothing", "no_new_privileges")),
        ("root", "capabilities"),  # the others have none to keep: see below
    ],
)
def test_what_the_service_receives(sandbox: Sandbox, way: str, asked: str) -> None:
    sections: dict[str, Any] = {}
    mask = 0
    if asked == "capabilities":
        sections["capabilities"] = ["NET_BIND_SERVICE"]
        mask = NET_BIND
    elif asked == "no_new_privileges":
        sections["no_new_privileges"] = True
    if way == "root":
        sections["user"] = USER
    _image(sandbox, **sections)
    if way == "sudo":
        _sudoers(sandbox)
    elif way == "unprivileged":
        sandbox.chmod("/usr/bin/sudo", 0o755)
        for place in ("/etc/kolla", "/run/kolla"):
            sandbox.mkdir(place, owner=USER)
    given = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS", "GIVEN": "by the engine", "LC_CTYPE": "C"}
    done = sandbox.run(
        ["kolla_start"], env=given, user=None if way == "root" else USER, cwd="/srv", umask=0o027
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    status = told["status"]
    assert status["Uid"] == [str(UID)] * 4
    assert status["Gid"] == [str(GID)] * 4
    assert {int(group) for group in status["Groups"]} == {GID, EXTRA}
    kept = f"{mask:016x}"
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert status[capabilities] == [kept], capabilities
    assert status["NoNewPrivs"] == ["1" if asked == "no_new_privileges" else "0"]
    # Python itself, which tells all this, ignores SIGPIPE and SIGXFSZ.
    python_s_own = 1 << 12 | 1 << 24
    assert int(status["SigIgn"][0], 16) & ~python_s_own == 0
    assert int(status["SigBlk"][0], 16) == 0
    assert told["fds"] == [0, 1, 2]
    assert told["umask"] == 0o027
    assert told["cwd"] == "/srv"
    expected = {"PATH": PATH, "HOME": "/var/lib/svc", **given}
    if way == "root":
        expected |= {"USER": USER, "LOGNAME": USER}
    assert told["environ"] == sorted(f"{name}={value}" for name, value in expected.items())


@pytest.mark.parametrize("way", ["sudo", "unprivileged"])
def test_capabilities_that_are_not_there_are_refused(sandbox: Sandbox, way: str) -> None:
    _image(sandbox, capabilities=["NET_BIND_SERVICE"])
    if way == "sudo":
        _sudoers(sandbox)
    else:
        sandbox.chmod("/usr/bin/sudo", 0o755)
        for place in ("/etc/kolla", "/run/kolla"):
            sandbox.mkdir(place, owner=USER)
    done = sandbox.run(["kolla_start"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}, user=USER)
    assert done.returncode == 1 and done.stdout == ""
    assert "NET_BIND_SERVICE" in done.stderr
