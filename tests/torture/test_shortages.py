"""Nothing lost in crowds and shortages: many at once, full disks, read-only roots, few descriptors.

docs/security.md says which promise each test holds.
"""

import os
import subprocess
import time

import pytest
from documents import document, entry
from moments import moments, stopped_at
from outcomes import settled
from sandbox import CONFIG_FILES, Sandbox

COPY_ALWAYS = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}


def test_two_containers_that_make_the_same_directory(sandbox: Sandbox) -> None:
    """A shared volume that is empty yet: what one has made, the other must not take away."""
    shared = {"path": "/srv/volume/logs", "owner": "daemon", "perm": "0775"}
    made = {"path": "/srv/volume/logs/one.log", "owner": "daemon", "perm": "0640"}
    sandbox.document(document(directories=[shared], files=[made]))
    sandbox.mkdir("/srv/volume")
    # The other container's start comes between the look and the mkdir of this one.
    other = "mkdir -p /srv/volume/logs/other; echo data > /srv/volume/logs/other/data"
    tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=mkdirat"]
    tracer += ["-e", "inject=mkdirat:delay_enter=1500000:when=1+"]
    first = sandbox.popen([*tracer, "kolla_set_configs"], env=COPY_ALWAYS)
    time.sleep(1.0)
    sandbox.run(["sh", "-c", other], check=True)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 0, said
    assert sandbox.read("/srv/volume/logs/other/data") == "data\n"
    assert sandbox.exists("/srv/volume/logs/one.log")


def test_what_another_container_puts_into_a_directory_that_goes() -> None:
    """Made for a destination that left the document: whoever uses it by then keeps it."""

    def plant(box: Sandbox) -> None:
        box.source("a", "a")
        box.document(document(entry("a", "/srv/volume/made/a")))
        assert box.set_configs().returncode == 0
        box.document(document())

    with Sandbox() as box:
        plant(box)
        (moment,) = [each for each in moments(box, ['"a"']) if each.call == "unlinkat"]
    with Sandbox() as box:
        plant(box)
        done = stopped_at(box, moment, lambda: box.write("/srv/volume/made/other", "data"))
        assert done is not None and done.returncode == 0, done
        assert box.read("/srv/volume/made/other") == "data"
        assert not box.exists("/srv/volume/made/a")
        settled(box)


def test_ten_at_once(sandbox: Sandbox) -> None:
    for number in range(30):
        sandbox.source(f"d/{number}", str(number) * 1000)
    sandbox.write("/etc/d/image", "image")
    sandbox.document(document(entry("d", "/etc/d")))
    runs = [sandbox.popen(["kolla_set_configs"], env=COPY_ALWAYS) for _ in range(10)]
    said = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * 10, said
    assert sum("missing" in text for text in said) == 1  # one did the work
    assert sandbox.read("/etc/kolla/defaults/etc/d/image") == "image"
    settled(sandbox)


def test_waiting_for_another_run_is_said(sandbox: Sandbox) -> None:
    sandbox.document(document())
    assert sandbox.set_configs().returncode == 0
    # Holds the lock until its input ends.
    hold = ["flock", "/etc/kolla/defaults/lock", "sh", "-c", "echo held; cat"]
    with sandbox.popen(hold, stdin=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout
        assert holder.stdout.readline() == "held\n"
        with sandbox.popen(["kolla_set_configs"], env=COPY_ALWAYS) as waiting:
            assert waiting.stderr
            said = ""
            while "waiting for its end" not in said:
                said = waiting.stderr.readline()
                assert said, "it did not wait"
            assert waiting.poll() is None
            holder.stdin.close()
            assert waiting.wait(timeout=60) == 0


@pytest.mark.parametrize("kilobytes", [4, 40, 400])
def test_a_full_disk(sandbox: Sandbox, kilobytes: int) -> None:
    """The destination's filesystem is full: refused whole, and the old file stays."""
    sandbox.mkdir("/etc/small")
    sandbox.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", "/etc/small"], check=True)
    sandbox.write("/etc/small/conf", "image")
    sandbox.write("/etc/small/filler", "x" * 30_000)
    sandbox.source("conf", "y" * kilobytes * 1024)
    sandbox.source("other", "other")
    sandbox.document(document(entry("other", "/etc/other"), entry("conf", "/etc/small/conf")))
    done = sandbox.set_configs()
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(sandbox.host("/etc/small"))) == ["conf", "filler"]
    if kilobytes == 4:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 1 and "no space left for /etc/small/conf" in done.stderr
    assert sandbox.read("/etc/small/conf") == "image"
    assert not sandbox.exists("/etc/other")


def test_a_full_disk_for_the_records(sandbox: Sandbox) -> None:
    sandbox.mkdir("/etc/kolla")
    sandbox.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", "/etc/kolla"], check=True)
    sandbox.write("/etc/conf", "image " * 10_000)
    sandbox.source("conf", "mounted")
    sandbox.document(document(entry("conf", "/etc/conf")))
    done = sandbox.set_configs()
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no space left in /etc/kolla" in done.stderr
    assert sandbox.read("/etc/conf") == "image " * 10_000
    sandbox.run(["mount", "-o", "remount,size=1m", "/etc/kolla"], check=True)
    assert sandbox.set_configs().returncode == 0
    assert sandbox.read("/etc/kolla/defaults/etc/conf") == "image " * 10_000
    settled(sandbox)


def _read_only(box: Sandbox, *writable: str) -> None:
    for place in writable:
        box.mkdir(place)
        box.run(["mount", "-t", "tmpfs", "none", place], check=True)
    box.run(["mount", "-o", "remount,bind,ro", "/"], check=True)


def test_a_read_only_root(sandbox: Sandbox) -> None:
    sandbox.source("conf", "mounted")
    sandbox.document(document(entry("conf", "/etc/service/conf")))
    sandbox.mkdir("/etc/service")
    _read_only(sandbox, "/run", "/etc/service")
    done = sandbox.set_configs()
    assert done.returncode == 0, done.stderr
    assert sandbox.read("/etc/service/conf") == "mounted"
    assert sandbox.read("/run/kolla/run_command") == "true"
    assert sandbox.set_configs("--check").returncode == 0
    assert sandbox.start().returncode == 0


def test_a_read_only_root_where_the_document_needs_more(sandbox: Sandbox) -> None:
    sandbox.source("conf", "mounted")
    sandbox.document(document(entry("conf", "/etc/service/conf"), entry("conf", "/run/conf")))
    _read_only(sandbox, "/run")
    done = sandbox.set_configs()
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "/etc cannot be written" in done.stderr
    assert not sandbox.exists("/run/conf")


@pytest.mark.parametrize("read_only_parent", [False, True])
def test_a_destination_that_is_a_mount_point(sandbox: Sandbox, read_only_parent: bool) -> None:
    sandbox.source("conf", "mounted")
    sandbox.write("/srv/under", "before", mode=0o644)
    sandbox.write("/etc/service/conf", "image")
    sandbox.mkdir("/run/other")
    sandbox.run(["mount", "--bind", "/srv/under", "/etc/service/conf"], check=True)
    if read_only_parent:
        sandbox.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
        sandbox.run(["mount", "-o", "remount,bind,ro", "/"], check=True)
    if read_only_parent:
        sandbox.run(["mount", "-t", "tmpfs", "none", CONFIG_FILES], check=True)
        sandbox.source("conf", "mounted")
    sandbox.document(document(entry("conf", "/etc/service/conf", perm="0600")))
    done = sandbox.set_configs()
    assert done.returncode == 0, done.stderr
    assert sandbox.read("/etc/service/conf") == "mounted"
    assert sandbox.mode("/etc/service/conf") == 0o600
    assert sandbox.set_configs("--check").returncode == 0
    assert os.listdir(sandbox.host("/etc/service")) == ["conf"]


def test_beside_a_mount_point_nothing_can_be_written(sandbox: Sandbox) -> None:
    """The file that is mounted answers for itself, not for its directory."""
    for name in "ab":
        sandbox.source(name, "mounted")
    sandbox.write("/srv/under", "before")
    sandbox.write("/etc/service/a", "image")
    sandbox.write("/etc/service/b", "image")
    sandbox.run(["mount", "--bind", "/srv/under", "/etc/service/a"], check=True)
    sandbox.document(document(entry("a", "/etc/service/a"), entry("b", "/etc/service/b")))
    _read_only(sandbox, "/run")
    done = sandbox.set_configs()
    assert done.returncode == 1, done.stderr
    assert "config_files[1]: /etc/service cannot be written" in done.stderr
    assert sandbox.read("/srv/under") == "before"


def test_file_capabilities_where_none_can_be_set(sandbox: Sandbox) -> None:
    """A container without SETFCAP: left out, said once, and no reason to start anew for ever."""
    sandbox.source("tool", "x", mode=0o755)
    sandbox.run(["setcap", "cap_chown=ep", f"{CONFIG_FILES}/tool"], check=True)
    content = document(entry("tool", "/srv/tool", preserve_properties=True))
    sandbox.document(content)
    without = ["setpriv", "--bounding-set=-setfcap", "--inh-caps=-setfcap"]
    first = sandbox.run([*without, "kolla_set_configs"], env=COPY_ALWAYS)
    assert first.returncode == 0, first.stderr
    assert "/srv/tool: its capabilities are left out; start with --cap-add SETFCAP" in first.stderr
    sandbox.mark()
    for argv in (["kolla_set_configs", "--check"], ["kolla_set_configs"]):
        again = sandbox.run([*without, *argv], env=COPY_ALWAYS)
        assert again.returncode == 0, again.stderr
    assert sandbox.changes() == {}
    assert sandbox.set_configs().returncode == 0
    assert "cap_chown=ep" in sandbox.run(["getcap", "/srv/tool"]).stdout


def test_ten_thousand_entries(sandbox: Sandbox) -> None:
    for number in range(100):
        sandbox.source(str(number), str(number))
    entries = [
        entry(str(number % 100), f"/etc/many/{number // 100}/{number}") for number in range(10_000)
    ]
    sandbox.document(document(*entries))
    began = time.monotonic()
    done = sandbox.set_configs()
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stderr.splitlines()) < 200
    assert sandbox.read("/etc/many/99/9999") == "99"
    assert sandbox.set_configs("--check").returncode == 0
    assert time.monotonic() - began < 60


def test_few_descriptors(sandbox: Sandbox) -> None:
    """RLIMIT_NOFILE 64, a deep and wide tree to save, to copy, to walk and to remove."""
    deep = "/".join(f"level{number}" for number in range(60))
    for top in (f"{CONFIG_FILES}/tree", "/etc/tree", "/var/lib/walked"):
        sandbox.write(f"{top}/{deep}/file", top)
        for number in range(80):
            sandbox.write(f"{top}/wide{number}/file", top)
    sandbox.document(
        document(
            entry("tree", "/etc/tree", perm="0640"),
            permissions=[
                {"path": "/var/lib/walked", "owner": "daemon", "perm": "0640", "recurse": True}
            ],
        )
    )
    few = ["bash", "-c", 'ulimit -n 64; exec "$@"', "few"]
    for _ in range(2):
        done = sandbox.run([*few, "kolla_set_configs"], env=COPY_ALWAYS)
        assert done.returncode == 0, done.stderr[-2000:]
    assert sandbox.read(f"/etc/kolla/defaults/etc/tree/{deep}/file") == "/etc/tree"
    assert sandbox.mode(f"/var/lib/walked/{deep}") == 0o750
    sandbox.document(document())
    done = sandbox.run([*few, "kolla_set_configs"], env=COPY_ALWAYS)
    assert done.returncode == 0, done.stderr[-2000:]
    assert sandbox.read(f"/etc/tree/{deep}/file") == "/etc/tree"
    settled(sandbox)
