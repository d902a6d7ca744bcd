"""Owners that cannot be given, and owners that the document itself brings.

"Root can" is asked and not assumed: a capability that the container lacks, or an id that the user
namespace does not map (user_namespaces(7)), is a refusal before the first write.
"""

from collections.abc import Sequence
from subprocess import CompletedProcess
from typing import Any

import pytest
from documents import document, entry
from outcomes import applied, gives_back, refused, tree
from sandbox import CONFIG_FILES, PYTHON, Sandbox

COPY_ALWAYS = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}


def furnish(box: Sandbox) -> None:
    box.adduser("svc", 4321)
    box.source("s", "from the operator")
    box.source("d/inner", "from the operator")
    box.write("/etc/first", "the image's")
    box.mkdir("/var/lib/svc", owner="svc")


def whole(box: Sandbox, argv: Sequence[str], content: dict[str, Any], *words: str) -> None:
    """Refused with nothing changed, at the second try as at the first."""
    box.document(content)
    box.mark()
    for _ in range(2):
        done = box.run(argv, env=COPY_ALWAYS)
        assert "Traceback" not in done.stderr, done.stderr[-2000:]
        assert done.returncode == 1, (done.returncode, done.stderr)
        assert box.changes() == {}, done.stderr
        for word in words:
            assert word in done.stderr, done.stderr


FIRST = entry("s", "/etc/first")
NEEDS: dict[str, dict[str, Any]] = {
    "a file": document(FIRST, entry("s", "/etc/second", owner="svc")),
    "a group": document(FIRST, entry("s", "/etc/second", owner="root:svc")),
    "a tree": document(FIRST, entry("d", "/etc/second", owner="svc")),
    "directories": document(
        FIRST, directories=[{"path": "/srv/new", "owner": "svc", "perm": "0755"}]
    ),
    "files": document(FIRST, files=[{"path": "/srv/new", "owner": "svc", "perm": "0644"}]),
}


def without(*capabilities: str) -> list[str]:
    lost = ",".join(f"-{name}" for name in capabilities)
    return ["setpriv", f"--bounding-set={lost}", f"--inh-caps={lost}"]


# --- capabilities -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["kolla_set_configs", "kolla_start"])
@pytest.mark.parametrize("what", NEEDS)
def test_without_the_capability_to_give_files_away(
    sandbox: Sandbox, what: str, command: str
) -> None:
    """`--cap-drop CHOWN`: said with the word that brings it back, and nothing half configured."""
    furnish(sandbox)
    whole(sandbox, [*without("chown"), command], NEEDS[what], "CHOWN")


def test_without_the_capability_what_stays_root_s_is_carried_out(sandbox: Sandbox) -> None:
    furnish(sandbox)
    sandbox.document(document(FIRST, entry("d", "/etc/new", merge=True)))
    done = sandbox.run([*without("chown"), "kolla_set_configs"], env=COPY_ALWAYS)
    assert done.returncode == 0, done.stderr
    assert sandbox.read("/etc/first") == "from the operator"


def test_without_the_capability_what_is_right_already_is_no_obstacle(sandbox: Sandbox) -> None:
    """A restart with fewer capabilities: nothing has to be given to anybody."""
    furnish(sandbox)
    applied(sandbox, NEEDS["a tree"])
    sandbox.mark()
    done = sandbox.run([*without("chown"), "kolla_set_configs"], env=COPY_ALWAYS)
    assert done.returncode == 0, done.stderr
    assert sandbox.changes() == {}


def test_without_chown_a_preserved_owner(sandbox: Sandbox) -> None:
    furnish(sandbox)
    sandbox.chown("/var/lib/kolla/config_files/d/inner", "svc")
    content = document(FIRST, entry("d", "/etc/second", preserve_properties=True))
    whole(sandbox, [*without("chown"), "kolla_set_configs"], content, "CHOWN")


def test_without_chown_permissions_are_a_warning(sandbox: Sandbox) -> None:
    """There nothing of ours is half done: as upstream, the start goes on and says so."""
    furnish(sandbox)
    sandbox.write("/var/log/kolla/svc/svc.log", "x")
    content = document(FIRST, permissions=[{"path": "/var/log/kolla/svc/svc.log", "owner": "svc"}])
    sandbox.document(content)
    done = sandbox.run([*without("chown"), "kolla_set_configs"], env=COPY_ALWAYS)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert sandbox.read("/etc/first") == "the image's", "half configured"
    else:
        assert "/var/log/kolla/svc/svc.log" in done.stderr and "WARNING" in done.stderr


@pytest.mark.parametrize("lost", ["dac_override", "fowner"])
def test_without_the_capability_to_write_into_a_user_s_directory(
    sandbox: Sandbox, lost: str
) -> None:
    furnish(sandbox)
    sandbox.write("/var/lib/svc/conf", "the image's", "svc", 0o600)
    content = document(FIRST, entry("s", "/var/lib/svc/conf", owner="svc", perm="0600"))
    caps = ("dac_override", "dac_read_search") if lost == "dac_override" else (lost,)
    sandbox.document(content)
    done = sandbox.run([*without(*caps), "kolla_set_configs"], env=COPY_ALWAYS)
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    if done.returncode:
        assert done.returncode == 1
        assert sandbox.read("/etc/first") == "the image's", f"half configured: {done.stderr}"
        assert sandbox.read("/var/lib/svc/conf") == "the image's"
    else:
        assert sandbox.read("/var/lib/svc/conf") == "from the operator"
        assert sandbox.stat("/var/lib/svc/conf").st_uid == 4321


# --- user namespaces ----------------------------------------------------------------------------

# unshare(1) of older util-linux maps no ranges. The parent, root outside, writes the maps.
_MAPPED = """
import ctypes, os, sys
uids, gids, *argv = sys.argv[1:]
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.execvp(argv[0], argv)
os.read(ready[0], 1)
for name, text in (("uid_map", uids), ("gid_map", gids)):
    with open(f"/proc/{child}/{name}", "w") as file:
        file.write(text.replace(",", "\\n"))
os.write(go[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def mapped(uids: str = "0 0 1000", gids: str = "0 0 1000") -> list[str]:
    """In a user namespace that maps only these ids, each to itself."""
    return [PYTHON, "-IS", "-c", _MAPPED, uids, gids]


def run_mapped(box: Sandbox, content: dict[str, Any]) -> CompletedProcess[str]:
    box.document(content)
    return box.run([*mapped(), "kolla_set_configs"], env=COPY_ALWAYS)


@pytest.mark.parametrize("command", ["kolla_set_configs", "kolla_start"])
@pytest.mark.parametrize(
    ("what", "short"),
    [(what, short) for what in NEEDS for short in ("both", "uids", "gids")
     if (what, short) != ("a group", "uids")],
)  # fmt: skip
def test_an_id_that_the_namespace_does_not_map(
    sandbox: Sandbox, what: str, short: str, command: str
) -> None:
    furnish(sandbox)
    uids = "0 0 1000" if short != "gids" else "0 0 100000"
    gids = "0 0 1000" if short != "uids" else "0 0 100000"
    whole(sandbox, [*mapped(uids, gids), command], NEEDS[what], "4321")


def test_a_user_of_the_service_that_is_not_mapped(sandbox: Sandbox) -> None:
    furnish(sandbox)
    whole(sandbox, [*mapped(), "kolla_start"], document(FIRST, user="svc"), "4321")


def test_an_id_that_is_mapped_is_carried_out(sandbox: Sandbox) -> None:
    furnish(sandbox)
    sandbox.adduser("low", 500)
    content = document(FIRST, entry("d", "/etc/second", owner="low", perm="0600"))
    done = run_mapped(sandbox, content)
    assert done.returncode == 0, done.stderr
    assert sandbox.stat("/etc/second/inner").st_uid == 500
    again = sandbox.run([*mapped(), "kolla_set_configs", "--check"], env=COPY_ALWAYS)
    assert again.returncode == 0, again.stderr


def test_an_unmapped_source_owner_is_not_preserved_by_half(sandbox: Sandbox) -> None:
    """Such a file looks as if it were nobody's (65534): that is not who owns it."""
    furnish(sandbox)
    sandbox.chown("/var/lib/kolla/config_files/d/inner", "svc")
    content = document(FIRST, entry("d", "/etc/second", preserve_properties=True))
    done = run_mapped(sandbox, content)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.returncode == 1
        assert sandbox.read("/etc/first") == "the image's", f"half configured: {done.stderr}"


# --- users that the document brings -------------------------------------------------------------


def brought(box: Sandbox) -> None:
    """A passwd and a group of the operator's, with a user that the image does not know."""
    furnish(box)
    users, groups = box.read("/etc/passwd"), box.read("/etc/group")
    box.source("passwd", f"{users}fresh:x:5151:5252::/var/lib/fresh:/bin/sh\n")
    box.source("group", f"{groups}fresh:x:5252:\nmore:x:5353:fresh\n")
    for name in ("passwd", "group"):
        box.source(f"etc/{name}", box.read(f"{CONFIG_FILES}/{name}"))


PASSWD = [entry("passwd", "/etc/passwd"), entry("group", "/etc/group")]
AFTER: dict[str, dict[str, Any]] = {
    "a file": document(*PASSWD, entry("s", "/etc/second", owner="fresh", perm="0600")),
    "a tree": document(*PASSWD, entry("d", "/etc/second", owner="fresh:more")),
    "in /etc": document(
        entry("passwd", "/etc/"),
        entry("group", "/etc/"),
        entry("s", "/etc/second", owner="fresh", perm="0600"),
    ),
    "with all of /etc": document(
        entry("etc", "/etc", merge=True), entry("s", "/etc/second", owner="fresh", perm="0600")
    ),
    "its number": document(*PASSWD, entry("s", "/etc/second", owner="5151:5252")),
    "permissions": document(
        *PASSWD, entry("s", "/etc/second"), permissions=[{"path": "/etc/second", "owner": "fresh"}]
    ),
}


@pytest.mark.parametrize("what", AFTER)
def test_a_user_that_the_document_brings(sandbox: Sandbox, what: str) -> None:
    """Upstream looks each owner up when its entry's turn comes: after /etc/passwd was replaced."""
    brought(sandbox)
    tops = ("/etc/passwd", "/etc/group", "/etc/second")
    image = tree(sandbox, *tops)
    applied(sandbox, AFTER[what])
    status = sandbox.stat("/etc/second")
    assert (status.st_uid, status.st_gid) == (5151, 5353 if "tree" in what else 5252)
    gives_back(sandbox, image, *tops)


def test_the_service_runs_as_a_user_that_the_document_brings(sandbox: Sandbox) -> None:
    brought(sandbox)
    command = ["sh", "-c", "echo $(id -u) $(id -g) $(id -G)"]
    sandbox.document({**document(*PASSWD, user="fresh"), "command": command})
    for _ in range(2):
        done = sandbox.start()
        assert done.returncode == 0, done.stderr
        assert done.stdout == "5151 5252 5252 5353\n"


def test_a_user_that_the_document_takes_away(sandbox: Sandbox) -> None:
    """The new passwd no longer knows it: refused, before the passwd is replaced."""
    furnish(sandbox)
    lines = sandbox.read("/etc/passwd").splitlines()
    sandbox.source("passwd", "\n".join(line for line in lines if "svc" not in line) + "\n")
    content = document(
        entry("passwd", "/etc/passwd"), entry("s", "/etc/second", owner="svc", perm="0600")
    )
    refused(sandbox, content, "svc")


def test_a_brought_user_that_still_does_not_exist(sandbox: Sandbox) -> None:
    brought(sandbox)
    refused(sandbox, document(*PASSWD, entry("s", "/etc/second", owner="nobodyhere")), "nobodyhere")


@pytest.mark.parametrize("text", ["", "rubbish\n", "fresh:x:many:5252::/:/bin/sh\n", "\0\xff\n"])
def test_a_brought_passwd_that_is_none(sandbox: Sandbox, text: str) -> None:
    """Not ours to judge, but the owner it should have brought does not exist."""
    brought(sandbox)
    sandbox.source("passwd", text)
    refused(sandbox, document(*PASSWD, entry("s", "/etc/second", owner="fresh")), "fresh")


def test_the_owner_of_a_preserved_entry_says_nothing(sandbox: Sandbox) -> None:
    """As upstream: whoever it names, also nobody."""
    furnish(sandbox)
    copy = {**entry("s", "/etc/second", preserve_properties=True), "owner": "nobody-here"}
    applied(sandbox, document({**copy, "perm": "0600"}))
    assert sandbox.owner("/etc/second") == (0, 0)
