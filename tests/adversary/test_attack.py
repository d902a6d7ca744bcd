"""What the service user does to a root who works, or to the next start, by the promises alone.

Each broke a sentence of docs/security.md, which its docstring names.
"""

import json
import resource
import time
from collections.abc import Callable
from typing import Any

import pytest
from documents import EMPTY, Document, document, entry
from outcomes import applied, apply, refused
from sandbox import CONFIG_FILES, Sandbox

LOGS = "/var/log/kolla"
COPIED = "/var/lib/kolla/share/ca-certificates"
ANCHORS = "/usr/local/share/ca-certificates"
TRACE = "/dev/shm/trace"
ALWAYS = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
ONCE = {"KOLLA_CONFIG_STRATEGY": "COPY_ONCE"}

# A command as root, and its user, as a COPY_ONCE start would have recorded them.
_PLANT = """
import os
for name, text in {
    "options": '{"user": "root", "capabilities": [], "no_new_privileges": false}',
    "run_command": "id -u",
    "configured": "",
}.items():
    if os.path.exists(f"/run/kolla/{name}"):
        os.rename(f"/run/kolla/{name}", f"/run/kolla/was_{name}")
    open(f"/run/kolla/{name}", "w").write(text)
"""


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    for name, uid in (("svc", 4321), ("nova", 42436), ("third", 4323)):
        sandbox.adduser(name, uid, groups=["kolla"])
    sandbox.source("x", "x")
    return sandbox


def shell(box: Sandbox, script: str, user: str = "root") -> str:
    said: str = box.run(["sh", "-c", script], user=user, check=True).stdout
    return said


def recursive(path: str) -> dict[str, Any]:
    return {"path": path, "owner": "svc", "recurse": True}


def read_only(box: Sandbox, mode: str) -> None:
    """`/` cannot be written, and the records' place is a volume of this mode, root's."""
    box.mkdir("/run/kolla")
    shell(box, f"mount -t tmpfs -o mode={mode} t /run/kolla; mount -o remount,bind,ro /")


def injected(box: Sandbox, calls: str, fault: str, *argv: str) -> list[str]:
    """The command line that meets a fault (strace(1)); its trace is at TRACE."""
    box.write(TRACE)
    return f"strace -f -o {TRACE} -e trace={calls} -e inject={fault}".split() + list(argv)


# --- code of the service's choice, as root -------------------------------------------------------


def nothing_as_root(box: Sandbox) -> None:
    done = box.start(strategy="COPY_ONCE")
    assert done.stdout != "0\n", f"the planted command ran as root: {done.stderr}"


def test_a_kill_while_the_place_of_the_records_is_taken(box: Sandbox) -> None:
    """ "Records decide only where nobody but root can have written them", "a kill at any moment".

    The place is made root's first, and what was planted is put away after: a start that ends in
    between leaves the plants in a place that the next one believes.
    """
    box.document({"command": "true", "user": "svc"})
    read_only(box, "0777")
    box.run(["python3", "-c", _PLANT], user="third", check=True)
    killed = injected(box, "unlinkat", "unlinkat:signal=KILL:when=1", "kolla_start")
    box.run(killed, env=ONCE)
    nothing_as_root(box)


def test_the_records_where_the_service_s_own_group_can_write(box: Sandbox) -> None:
    """ "Whoever shares its groups" is not trusted: by the document that is group 0, and what
    OpenShift asks of images (chgrp 0, g=u) lets it write.
    """
    box.document({"command": "true", "user": "svc:root"})
    read_only(box, "0775")
    assert box.run(["kolla_start"], env=ONCE).returncode == 0
    service = ["setpriv", "--reuid=4321", "--regid=0", "--clear-groups"]
    box.run([*service, "python3", "-c", _PLANT])
    nothing_as_root(box)


# --- another's file, by root's hand --------------------------------------------------------------

_MAKE = {
    "socket": "import socket; socket.socket(socket.AF_UNIX).bind('/run/db/it')",
    "fifo": "import os; os.mkfifo('/run/db/it', 0o600)",
    "terminal": "import os, pty, time; os.symlink(os.ttyname(pty.openpty()[1]), '/run/db/it');"
    "os.chmod(os.path.realpath('/run/db/it'), 0o600); time.sleep(60)",
}


@pytest.mark.parametrize("kind", sorted(_MAKE))
def test_what_the_caller_of_sudo_cannot_even_open(box: Sandbox, kind: str) -> None:
    """A link of the image stands never for "a file that whoever called sudo opened": and O_PATH
    opens what its caller may neither read nor write.
    """
    box.write("/etc/shadow", box.read("/etc/shadow") + "svc:*:19000:0:99999:7:::\n", mode=0o640)
    rule = "svc ALL=(root) NOPASSWD: SETENV: /usr/local/bin/kolla_set_configs\n"
    box.write("/etc/sudoers.d/kolla", rule, mode=0o440)
    box.symlink("/dev/stdout", "/var/log/httpd/access_log")
    box.document(document(permissions=[recursive("/var/log/httpd")]))
    box.mkdir("/run/db")
    root = box.popen(["python3", "-c", _MAKE[kind]])
    while not box.exists("/run/db/it"):
        time.sleep(0.01)
    sudo = ["sudo", "-n", "-E", "/usr/local/bin/kolla_set_configs"]
    script = f"import os; os.dup2(os.open('/run/db/it', os.O_PATH), 1); os.execvp('sudo', {sudo})"
    done = box.run(["python3", "-c", script], user="svc", env=ALWAYS)
    owner = shell(box, "stat -Lc %U /run/db/it")
    root.kill()
    root.communicate()
    assert (done.returncode, owner) == (0, "root\n"), done.stderr


@pytest.mark.parametrize("keys", [{"preserve_properties": True}, {"owner": "root"}], ids=str)
def test_a_neighbour_s_private_directory_as_one_of_the_source(box: Sandbox, keys: Any) -> None:
    """A neighbour's tree "moved to a destination" is not destroyed: what has the name of a
    directory in the source does not go, it is emptied, unasked.
    """
    box.source("tree/sub/f", "f")
    box.mkdir(f"{LOGS}/nova", 0o2775, "nova:kolla")
    box.mkdir(f"{LOGS}/nova/private", 0o755, "nova")
    for name in ("keep", "f"):
        box.write(f"{LOGS}/nova/private/{name}", "precious", "nova", 0o600)
    copies = document(entry("tree", f"{LOGS}/conf", **keys))
    applied(box, copies)
    shell(box, f"cd {LOGS}; mv conf gone; mv nova/private nova/sub; mv nova conf", "svc")
    box.set_configs()
    left = shell(box, f"cat {LOGS}/conf/sub/*; stat -c %U {LOGS}/conf/sub")
    assert left == "preciouspreciousnova\n"


@pytest.mark.parametrize("reads", [True, False], ids=["read", "written"])
def test_a_link_of_root_s_in_a_directory_that_was_renamed(box: Sandbox, reads: bool) -> None:
    """A link is followed only if "root alone could have made it": here root made two of them, and
    the service chose which. rename(2) asks nothing of a directory that keeps its parent.
    """
    box.mkdir("/var/lib/svc", owner="svc")
    box.symlink("/opt/good", "/var/lib/svc/a/conf")
    box.symlink("/opt/secret", "/var/lib/svc/b/conf")
    box.write("/opt/good/f", "good")
    box.write("/opt/secret/f", "SECRET", mode=0o600)
    through = "/var/lib/svc/a/conf/f"
    one = entry(through, "/opt/out", "svc") if reads else entry("x", through, "svc")
    box.document(document(one))
    box.set_configs()
    shell(box, "cd /var/lib/svc; mv a c; mv b a", "svc")
    box.set_configs()
    assert "SECRET" not in box.run(["cat", "/opt/out"], user="svc").stdout
    assert box.read("/opt/secret/f") == "SECRET"


def test_a_mount_point_that_is_another_s_until_it_is_written(box: Sandbox) -> None:
    """A kill in that moment leaves a part of the content "private to root": here to its old owner.

    And a file "has its owner and mode before its content can be read by others".
    """
    box.write("/etc/app/x", "old", "svc")
    box.write("/opt/x", "old", "svc")
    shell(box, "mount --bind /opt/x /etc/app/x")
    box.source("secret", "SECRET")
    box.document(document(entry("secret", "/etc/app/x", "root", "0600")))
    killed = injected(box, "fchown", "fchown:signal=KILL", "-P", "/etc/app/x", "kolla_set_configs")
    assert box.run(killed, env=ALWAYS).returncode == -9
    assert "SECRET" not in box.run(["cat", "/etc/app/x"], user="svc").stdout


def test_a_device_that_is_mounted_as_a_mask(box: Sandbox) -> None:
    """ "No file outside the paths of the document changes owner, mode": /dev/null is one."""
    box.mkdir("/var/log/svc", owner="svc")
    box.write("/var/log/svc/x.log", owner="svc")
    shell(box, "mount --bind /dev/null /var/log/svc/x.log")
    apply(box, document(permissions=[{**recursive("/var/log/svc"), "perm": "0600"}]))
    assert shell(box, "stat -c %U:%a /dev/null") == "root:666\n"


# --- records and certificates --------------------------------------------------------------------


def trusting(box: Sandbox, content: Document) -> None:
    box.write("/usr/sbin/update-ca-certificates", "#!/bin/sh\n", mode=0o755)
    box.source("ca-certificates/a.crt", "A")
    box.document(content)


@pytest.mark.parametrize("plant", [f"echo '\"{COPIED}\"' >", "mkfifo", "truncate -s 2G"])
def test_a_state_in_a_place_that_is_not_the_records(box: Sandbox, plant: str) -> None:
    """ "What root remembers is not planted": /run/kolla is the service's, root's are in /etc."""
    trusting(box, {**EMPTY, "user": "svc"})
    box.mkdir("/run/kolla", owner="svc")
    assert box.start().returncode == 0
    shell(box, f"mkdir /run/kolla/defaults; cd /run/kolla/defaults; {plant} state", "svc")
    done = box.run(["kolla_start"], env=ALWAYS, before_exec=little_memory)
    assert done.returncode == 0, done.stderr
    assert box.exists(f"{ANCHORS}/kolla-customca-a.crt"), "the operator's is not trusted any more"


def test_a_planted_record_of_certificates(box: Sandbox) -> None:
    """The same: what else is planted is put away, this one is believed, and no start succeeds."""
    box.document(EMPTY)
    read_only(box, "0777")
    shell(box, "touch /run/kolla/cacerts-pending", "third")
    assert (done := box.start()).returncode == 0, done.stderr


def little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))


@pytest.mark.parametrize("plant", ["truncate -s 2G huge", "touch $(printf %0250d 1)"])
def test_what_the_service_adds_to_the_copied_certificates(box: Sandbox, plant: str) -> None:
    """ "None of the service's", so it is left out: after it was read whole, by a name too long."""
    trusting(box, document(entry("ca-certificates", COPIED, "svc", "0600"), user="svc"))
    assert box.start(strategy="COPY_ONCE").returncode == 0
    shell(box, f"cd {COPIED}; {plant}", "svc")
    done = box.run(["kolla_start"], env=ONCE, before_exec=little_memory)
    assert done.returncode == 0, done.stderr


def test_a_link_of_the_image_among_the_system_s_certificates(box: Sandbox) -> None:
    """ "No file outside the paths of the document changes": what leads nowhere yet is gone."""
    trusting(box, EMPTY)
    box.symlink("/var/lib/svc/tls/ca.pem", "/etc/ssl/certs/site.pem")
    assert box.start().returncode == 0
    assert box.exists("/etc/ssl/certs/site.pem")


# --- a document that is refused, or should have been ---------------------------------------------


def long_name(box: Sandbox) -> Document:
    return document(entry("x", "/etc/app/" + "n" * 300))


def read_only_file(box: Sandbox) -> Document:
    box.write("/etc/app/b", "old")
    box.write("/opt/b", "old")
    shell(box, "mount --bind /opt/b /etc/app/b; mount -o remount,bind,ro /etc/app/b")
    return document(entry("x", "/etc/app/a"), entry("x", "/etc/app/b"))


def huge_original(box: Sandbox) -> Document:
    """A service's sparse file takes no room where it is, and all that there is where it is kept."""
    box.mkdir("/etc/kolla")
    shell(box, "mount -t tmpfs -o size=16m,mode=0755 t /etc/kolla")
    box.mkdir("/var/lib/svc", owner="svc")
    shell(box, "truncate -s 64M /var/lib/svc/x", "svc")
    return document(entry("x", "/opt/first"), entry("x", "/var/lib/svc/x", "svc"))


@pytest.mark.parametrize("case", [long_name, read_only_file, huge_original])
def test_what_cannot_be_done_is_known_beforehand(
    box: Sandbox, case: Callable[[Sandbox], Document]
) -> None:
    """ "A refused document touches nothing: the plan stands before the first write." """
    box.document(case(box))
    (refused if box.set_configs("--check").returncode == 2 else applied)(box)


def test_a_name_too_long_is_forgotten_with_its_document(box: Sandbox) -> None:
    """History does not matter: after it no document is carried out any more, not even none."""
    box.document(long_name(box))
    box.set_configs()
    applied(box, EMPTY)


# --- a start that was fine, and is refused -------------------------------------------------------


@pytest.mark.parametrize(
    "entries",
    [
        [entry("/srv/a/b/none", "/opt/none", optional=True)],
        [entry("/srv/a/b/*.none", "/opt/", optional=True)],
        [entry("/srv/a/b/y", "/opt/x"), entry("x", "/opt/x")],
    ],
    ids=["optional", "pattern", "overridden"],
)
def test_the_second_start_looks_where_the_first_found_nothing(box: Sandbox, entries: Any) -> None:
    """ "What the first start does every other one can do", or the first is refused: the ways to
    what is found, and wanted in the end, are judged, not those to what is looked for.
    """
    box.mkdir("/srv/a/b", owner="third")
    box.write("/srv/a/b/y", "y")
    given = [{"path": "/srv/a", "owner": "svc", "perm": "0755"}]
    box.document(document(*entries, directories=given))
    if box.set_configs().returncode == 0:
        again = box.set_configs()
        assert again.returncode == 0, again.stderr


@pytest.mark.parametrize("pair", [("db/*", "/etc/"), ("root/*", "/")], ids=str)
def test_users_that_a_pattern_brings(box: Sandbox, pair: tuple[str, str]) -> None:
    """ "The users are those of the files that the document puts in place" (differences)."""
    source, dest = pair
    below = "db" if dest == "/etc/" else "root/etc"
    box.source(f"{below}/passwd", box.read("/etc/passwd") + "new:x:7777:7777::/:/bin/sh\n")
    box.source(f"{below}/group", box.read("/etc/group") + "new:x:7777:\n")
    applied(box, document(entry(source, dest, merge=True), entry("x", "/opt/x", "new")))


def test_a_neighbour_s_directory_where_something_left_the_document(box: Sandbox) -> None:
    """What left the document "stays with a warning: a neighbour stops no start that way"."""
    box.write(f"{LOGS}/conf/image", "image")
    box.source("tree/f", "f")
    applied(box, document(entry("tree", f"{LOGS}/conf")))
    box.mkdir(f"{LOGS}/nova", 0o2775, "nova:kolla")
    shell(box, f"cd {LOGS}; mv conf gone; mv nova conf", "svc")
    assert "WARNING" in apply(box, EMPTY)


def test_a_mount_point_whose_name_the_service_changed(box: Sandbox) -> None:
    """Exit code 2 "is always a loss", and a carriage return ends no line of mountinfo, proc(5)."""
    box.mkdir("/var/lib/svc", owner="svc")
    box.mkdir("/var/lib/svc/a", owner="svc")
    box.mkdir("/var/lib/svc/a/volume")
    shell(box, "mount -t tmpfs t /var/lib/svc/a/volume")
    shell(box, r'mv /var/lib/svc/a "/var/lib/svc/$(printf "1\r2\r3")"', "svc")
    box.mkdir("/opt/old")
    box.document(document(entry("x", "/opt/old")))
    done = box.set_configs()
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_one_cleans_up_where_another_writes(box: Sandbox) -> None:
    """Two containers "take nothing from each other": after a power cut both come back at once."""
    box.mkdir("/etc/kolla")
    box.mkdir(f"{LOGS}/nova", 0o2775, "nova:kolla")
    for name in ("api", "compute"):
        log = {"path": f"{LOGS}/nova/{name}.log", "owner": "nova", "perm": "0644"}
        box.mkdir(f"/srv/{name}/kolla")
        box.write(f"/srv/{name}/config/config.json", json.dumps(document(files=[log])))

    def container(name: str, argv: list[str]) -> list[str]:
        binds = f"cd /srv/{name}; mount --bind kolla /etc/kolla; mount --bind config {CONFIG_FILES}"
        return ["unshare", "-m", "sh", "-c", f'{binds}; cd /; exec "$@"', "sh", *argv]

    killed = injected(box, "renameat", "renameat:signal=KILL:when=2", "kolla_set_configs")
    assert box.run(container("compute", killed), env=ALWAYS).returncode == -9
    slow = injected(box, "renameat", "renameat:delay_enter=2000000", "kolla_set_configs")
    api = box.popen(container("api", slow), env=ALWAYS)
    while '"api.log"' not in box.read(TRACE) and api.poll() is None:
        time.sleep(0.05)
    assert box.run(container("compute", ["kolla_set_configs"]), env=ALWAYS).returncode == 0
    said = api.communicate(timeout=60)[1]
    assert api.returncode == 0, said
