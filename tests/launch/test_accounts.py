"""Accounts that a start brings itself, and why files cannot be given away."""

import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from launched import OPTIONS, TREE, as_root, room
from sandbox import PYTHON, Sandbox

PASSWD = b"""\
root:x:0:0:root:/root:/bin/bash
# a comment:x:1:1::/:

nova:x:42436:42436:Nova:/var/lib/nova:/bin/sh
nova:x:1:1:the second does not count:/:/bin/sh
short:x:5000:5001
broken:x:none:1:::
negative:x:-1:-1:::
large:x:4294967295:1:::
nobody:x:777:778::/elsewhere:/bin/sh
daemon:x:8:9::/:/bin/sh
+nis::::::
"""
GROUP = b"""\
root:x:0:
nova:x:42436:
kolla:x:42400:nova,other
more:x:42401:other,nova,
broken:x:none:nova
daemon:x:9:
"""


def asked(*questions: str, passwd: bytes | None = PASSWD, group: bytes | None = GROUP) -> list[str]:
    code = (
        f"print(repr(accounts.ids('daemon')), flush=True)\naccounts.bring({passwd!r}, {group!r})\n"
    )
    for question in questions:
        code += (
            f"try: print(repr({question}), flush=True)\n"
            "except accounts.UnknownOwner as why: print('unknown:', why, flush=True)\n"
        )
    done = room(code)
    assert done.returncode == 0, done.stderr
    first, *answers = done.stdout.splitlines()
    assert first == "(1, 1)"
    return answers


def test_names_that_are_brought_are_those_that_count() -> None:
    questions = {
        "accounts.ids('nova')": "(42436, 42436)",
        "accounts.ids('nova:kolla')": "(42436, 42400)",
        "accounts.ids('short:more')": "(5000, 42401)",
        "accounts.ids('nobody:kolla')": "(777, 42400)",
        "accounts.ids('daemon')": "(8, 9)",  # what was answered before counts for nothing
        "accounts.ids('2:kolla')": "(2, 42400)",
        "accounts.ids('5000')": "(5000, 5000)",
        "accounts.groups(42436)": "[42436, 42400, 42401]",
        "accounts.alone(42436, 42436)": "True",
        "accounts.alone(42436, 42400)": "False",
        "accounts.resolve('nova').groups": "[42436, 42400, 42401]",
        "accounts.resolve('nova').home": "'/var/lib/nova'",
        "accounts.resolve('nova:kolla').groups": "[42400, 42400, 42401]",
        "accounts.resolve('42436').name": "'nova'",
        "accounts.resolve('short').home": "'/'",
        "accounts.resolve('nobody').uid": "777",
    }
    assert asked(*questions) == list(questions.values())


@pytest.mark.parametrize(
    "name", ["broken", "negative", "large", "# a comment", "stranger", "+nis", "bin"]
)
def test_lines_that_are_no_entries(name: str) -> None:
    (answer,) = asked(f"accounts.ids({name!r})")
    assert answer.startswith("unknown:")


def test_nothing_of_it_survives() -> None:
    names = ("accounts.ids('nobody:nova')", "accounts.ids('nova')", "accounts.groups(42436)")
    answers = asked(*names, "accounts.bring(None, None)", *names)
    assert answers[:3] == ["(777, 42436)", "(42436, 42436)", "[42436, 42400, 42401]"]
    assert answers[4].startswith("unknown:") and answers[5].startswith("unknown:")
    assert answers[6] == "[]"


def test_one_of_the_two_alone() -> None:
    assert asked("accounts.ids('nova:daemon')", group=None) == ["(42436, 1)"]
    assert asked("accounts.ids('bin:kolla')", passwd=None) == ["(2, 42400)"]
    (groups,) = asked("accounts.resolve('nova:daemon').groups", group=None)
    assert groups == "[1]"


# --- giving files away -------------------------------------------------------------------------


def may_give(
    box: Sandbox,
    *calls: tuple[object, ...],
    prefix: tuple[str, ...] = (),
    before: Callable[[], None] | None = None,
) -> list[str]:
    code = (
        f"import json, sys; sys.path.append({str(TREE)!r})\n"
        "from kolla_start import accounts\n"
        "print(json.dumps([accounts.may_give(*call) or '' for call in json.loads(sys.argv[1])]))"
    )
    argv = [*prefix, PYTHON, OPTIONS, "-c", code, json.dumps(calls)]
    answers = json.loads(box.run(argv, check=True, before_exec=before).stdout)
    assert isinstance(answers, list)
    return answers


CALLS = ((0, 0), (42436, 42436), (0, 42436))


@as_root
@pytest.mark.parametrize(
    ("lacking", "refused"),
    [
        ("", ["", "", ""]),
        ("chown", ["", "CHOWN", "CHOWN"]),
        ("fowner", ["", "FOWNER", ""]),
        ("fsetid", ["", "", ""]),
        ("chown,-fowner", ["", "CHOWN", "CHOWN"]),
    ],
)
def test_capabilities_that_root_lacks(sandbox: Sandbox, lacking: str, refused: list[str]) -> None:
    prefix = ("setpriv", f"--bounding-set=-{lacking}", "--inh-caps=-all") if lacking else ()
    answers = may_give(sandbox, *CALLS, prefix=prefix)
    for answer, name in zip(answers, refused, strict=True):
        assert bool(answer) == bool(name)
        assert answer.endswith(f"--cap-add {name}" if name else "")


def in_a_namespace_of_few() -> None:
    """A user namespace as an engine makes it: with the ids that /etc/subuid has for somebody."""
    unshared, done = os.pipe()
    own = os.getpid()
    mapper = os.fork()  # stays outside, where it may write the maps
    if mapper == 0:
        os.read(unshared, 1)
        for name, count in (("uid", 1000), ("gid", 500)):
            Path(f"/proc/{own}/{name}_map").write_text(f"0 0 {count}\n")
        os._exit(0)
    assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER
    os.write(done, b"x")
    assert os.waitpid(mapper, 0)[1] == 0


@as_root
def test_ids_that_the_namespace_does_not_have(sandbox: Sandbox) -> None:
    calls = ((0, 0), (999, 499), (1000, 0), (0, 500), (4294967294, 0))
    answers = may_give(sandbox, *calls, before=in_a_namespace_of_few)
    assert answers[:2] == ["", ""]
    for answer, what in zip(answers[2:], ("uid 1000", "gid 500", "uid 4294967294"), strict=True):
        assert answer.startswith(
            f"{what} does not exist in this container's user namespace; map it"
        )


@as_root
def test_who_is_not_root_owns_what_it_makes(sandbox: Sandbox) -> None:
    sandbox.adduser("svc", 4321)
    prefix = ("setpriv", "--reuid=4321", "--regid=4321", "--groups=7777")
    answers = may_give(sandbox, (4321, 4321), (4321, 7777), (0, 0), (4321, 0), prefix=prefix)
    assert answers[:2] == ["", ""]
    assert answers[2].endswith("start the container as root, or name 'svc' as the owner")
    assert answers[3] == "uid 4321 is not in group 0; name one of its own groups"


@as_root
def test_only_what_is_asked_for_is_read(sandbox: Sandbox) -> None:
    """A start that gives nothing away looks at none of it."""

    def opened(*calls: tuple[object, ...]) -> list[str]:
        prefix = ("strace", "-qq", "-o", "/trace", "-e", "trace=openat")
        may_give(sandbox, *calls, prefix=prefix)
        lines = sandbox.read("/trace").splitlines()
        return [line.split('"')[1] for line in lines if '"/proc/self/' in line]

    assert opened((0, 0)) == []
    maps = ["/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/status"]
    assert opened((1, 1), (2, 2)) == maps
