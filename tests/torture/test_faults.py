"""Nothing lost by faults, kills and power cuts: a sample of what torture.py does in full.

docs/security.md says which promise each test holds.
"""

import os
import random

import cases
import faults
import pytest
from documents import document, entry
from outcomes import settled
from sandbox import CONFIG_FILES, Sandbox

COPY_ALWAYS = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}


def test_a_sample_of_faults() -> None:
    normal = {name: faults.reference(name) for name in cases.CASES}
    everything = faults.faults(normal, (*faults.ERRORS, faults.KILL))
    chosen = random.Random(4).sample(everything, 50)
    endings = dict(faults.attempts(chosen, normal))
    lost = {fault: ending.why for fault, ending in endings.items() if ending.how == faults.LOST}
    assert not lost
    assert {ending.how for ending in endings.values()} >= {faults.DONE, faults.REFUSED}


IO_ERRORS = [
    ("newfstatat", f"{CONFIG_FILES}/a"),
    ("newfstatat", f"{CONFIG_FILES}/config.yaml"),
    ("newfstatat", f"{CONFIG_FILES}/merged/link"),
    ("getdents64", f"{CONFIG_FILES}/many"),
    ("newfstatat", "/usr/local/bin/kolla_extend_start"),
    ("newfstatat", "/etc/kolla/defaults/etc/restored"),
    ("readlinkat", f"{CONFIG_FILES}/linked"),
]


@pytest.mark.parametrize(("call", "path"), IO_ERRORS)
def test_what_cannot_be_looked_at_is_not_taken_for_absent(call: str, path: str) -> None:
    with Sandbox() as box:
        _look_at_much(box)
        trace = ["strace", "-f", "-qq", "-y", "-o", "/srv/trace", "-e", f"trace={call}"]
        assert box.run([*trace, "kolla_start"], env=COPY_ALWAYS).returncode == 0
        parent, _, name = path.rpartition("/")
        looks = (f'<{parent}>, "{name}"', f'"{path}"', f"<{path}>, 0x")
        lines = box.read("/srv/trace").splitlines()
        number = 1 + next(
            number for number, line in enumerate(lines) if any(look in line for look in looks)
        )
    with Sandbox() as box:
        _look_at_much(box)
        trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
        trace += ["-e", f"inject={call}:error=EIO:when={number}"]
        done = box.run([*trace, "kolla_start"], env=COPY_ALWAYS)
        assert done.returncode == 1
        assert "Input/output error" in done.stderr and "Traceback" not in done.stderr
        assert not box.exists("/srv/started")


@pytest.mark.parametrize(
    "module", ["re/__init__.py", "re/_compiler.py", "enum.py", "functools.py", "fnmatch.py"]
)
def test_a_module_that_cannot_be_looked_at(module: str) -> None:
    """The import system takes it for one that is not there; that is no bug of ours."""
    match = {"path": "/var/log/*.log", "owner": "root", "perm": "0644", "exclude": ["a+"]}
    content = {"command": "touch /srv/started", "permissions": [match]}
    with Sandbox() as box:
        box.document(content)
        trace = ["strace", "-qq", "-o", "/srv/trace", "-e", "trace=newfstatat"]
        assert box.run([*trace, "kolla_start"], env=COPY_ALWAYS).returncode == 0
        lines = box.read("/srv/trace").splitlines()
        number = 1 + next(n for n, line in enumerate(lines) if f"/{module}" in line)
    with Sandbox() as box:
        box.document(content)
        trace = ["strace", "-qq", "-o", "/dev/null", "-e", "trace=newfstatat"]
        trace += ["-e", f"inject=newfstatat:error=EIO:when={number}"]
        done = box.run([*trace, "kolla_start"], env=COPY_ALWAYS)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert "image's Python cannot be read or is damaged" in done.stderr
        assert not box.exists("/srv/started")


@pytest.mark.parametrize("error", ["EACCES", "EPERM", "EIO"])
def test_an_acl_that_cannot_be_read_is_not_taken_for_none(sandbox: Sandbox, error: str) -> None:
    """The image's would be lost, and its mask be taken for the group's bits."""
    sandbox.write("/etc/kept", "image", mode=0o640)
    sandbox.run(["setfacl", "-m", "u:daemon:rw", "/etc/kept"], check=True)
    sandbox.source("a", "a")
    sandbox.document(document(entry("a", "/etc/kept")))
    sandbox.mark()
    inject = ["-e", "trace=fgetxattr", "-e", f"inject=fgetxattr:error={error}:when=1"]
    done = sandbox.run(["strace", "-o", "/dev/null", *inject, "kolla_set_configs"], env=COPY_ALWAYS)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert sandbox.read("/etc/kept") == "image"


def _look_at_much(sandbox: Sandbox) -> None:
    sandbox.write("/usr/local/bin/kolla_extend_start", "touch /srv/extended\n")
    sandbox.write("/etc/restored/around", "image")
    sandbox.source("a", "a")
    sandbox.source("many/b", "b")
    sandbox.source("merged/c", "c")
    sandbox.symlink("c", f"{CONFIG_FILES}/merged/link")
    sandbox.document(document(entry("a", "/etc/restored")))
    assert sandbox.set_configs().returncode == 0
    merged = {
        "source": f"{CONFIG_FILES}/merged",
        "dest": "/etc/merged",
        "merge": True,
        "preserve_properties": True,
    }
    sandbox.symlink("a", f"{CONFIG_FILES}/linked")
    optional = (
        entry("a", "/etc/a", optional=True),
        entry("linked", "/etc/linked", optional=True),
        entry("a", "/etc/restored/inside"),
        entry("many/*", "/etc/many/", optional=True),
        merged,
    )
    sandbox.document({**document(*optional), "command": "touch /srv/started"})


@pytest.mark.parametrize("path", ["/etc/a", "/run_command", "/etc/kolla/options"])
def test_zeros_in_place_of_data_are_mended(sandbox: Sandbox, path: str) -> None:
    sandbox.source("a", "content " * 1000)
    sandbox.document(document(entry("a", "/etc/a"), user="0"))
    assert sandbox.set_configs().returncode == 0
    right = sandbox.read_bytes(path)
    status = sandbox.stat(path)
    with open(sandbox.host(path), "r+b") as file:
        file.write(bytes(len(right)))
    os.utime(sandbox.host(path), ns=(status.st_atime_ns, status.st_mtime_ns))
    assert sandbox.set_configs("--check").returncode == 1
    assert sandbox.set_configs().returncode == 0
    assert sandbox.read_bytes(path) == right
    settled(sandbox)


def _flushes(trace: str) -> list[str]:
    """The order of what reaches the storage (fsync) and what takes a place (rename), by path."""
    order = []
    for line in trace.splitlines():
        for call in ("fsync", "rename"):
            if f" {call}" in line or line.startswith(call):
                order.append(f"{call} {line}")
    return order


def test_originals_and_records_are_flushed_before_anything_is_replaced(sandbox: Sandbox) -> None:
    sandbox.write("/etc/a", "image")
    sandbox.source("a", "mounted")
    sandbox.document(document(entry("a", "/etc/a")))
    done = sandbox.run(
        ["strace", "-qq", "-y", "-s", "200", "-o", "/srv/trace",
         "-e", "trace=fsync,rename,renameat,renameat2", "kolla_set_configs"],
        env=COPY_ALWAYS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    order = _flushes(sandbox.read("/srv/trace"))
    replaced = [n for n, line in enumerate(order) if line.startswith("rename") and '"a"' in line]
    kept, taken = replaced  # the original where it is kept, then the destination
    before = "\n".join(order[:taken])
    assert "/etc/kolla/defaults/etc/.kolla_start." in "\n".join(order[:kept])
    assert before.count('"state"') == 1
    # Each of them, and the name of each: nothing waits for a later flush.
    for place in ("/etc/kolla/defaults/etc>", "/etc/kolla/defaults>"):
        assert f"{place})" in before


def test_copy_once_is_flushed_before_it_is_said_to_have_succeeded(sandbox: Sandbox) -> None:
    sandbox.source("a", "mounted")
    sandbox.mkdir("/srv/volume")
    sandbox.run(["mount", "-t", "tmpfs", "none", "/srv/volume"], check=True)
    made = {"path": "/srv/volume/made", "owner": "root", "perm": "0755"}
    sandbox.document(document(entry("a", "/etc/a"), directories=[made]))
    done = sandbox.run(
        ["strace", "-qq", "-y", "-o", "/srv/trace", "-e", "trace=syncfs,openat",
         "kolla_set_configs"],
        env={"KOLLA_CONFIG_STRATEGY": "COPY_ONCE"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trace = sandbox.read("/srv/trace").splitlines()
    marked = next(n for n, line in enumerate(trace) if '"configured", O_WRONLY' in line)
    flushed = [line.partition("<")[2].partition(">")[0] for line in trace[:marked]
               if line.startswith("syncfs")]  # fmt: skip
    assert len(flushed) == 2 and "/srv/volume" in flushed
    assert sandbox.mode("/configured") == 0o600
