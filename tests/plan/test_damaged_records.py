"""Records that are damaged: a message and exit 1 (or mended), never a traceback and never exit 2.

They are root's own and in root's directory, so they are believed; but a disk, an editor or an
older version can have left anything in them. A damaged record never starts the service as somebody
else, and never has root write where it was not asked to.
"""

import json
import os
from collections.abc import Iterator
from subprocess import TimeoutExpired
from typing import Any

import pytest
from documents import Document, document, entry
from sandbox import Sandbox

KEPT = "/srv/kept"
DEFAULTS = "/etc/kolla/defaults"
PLACES = {
    "state": f"{DEFAULTS}/state",
    "kolla_start": f"{DEFAULTS}/kolla_start",
    "options": "/etc/kolla/options",
    "run_command": "/run_command",
    "configured": "/configured",
    "lock": f"{DEFAULTS}/lock",
    "defaults": DEFAULTS,
    "kolla": "/etc/kolla",
}
CANARY = "/srv/canary"
COMMAND = ["sh", "-c", "echo service of $(id -u)"]


def content() -> Document:
    return {
        **document(
            entry("s", "/etc/app/image", perm="0640"),
            entry("s", "/etc/app/new/file"),
            entry("d", "/etc/merged", merge=True, owner="svc", perm="0750"),
            entry("d", "/etc/replaced", perm="0755"),
        ),
        "user": "svc",
        "command": COMMAND,
    }


def furnish(box: Sandbox, strategy: str) -> None:
    box.adduser("svc", 4321)
    box.write("/etc/app/image", "the image's")
    box.write("/etc/merged/own", "the image's")
    box.write("/etc/replaced", "the image's")
    box.write(CANARY, "nobody's business")
    box.source("s", "from the operator")
    box.source("d/inner", "from the operator")
    box.document(content())
    done = box.start(strategy=strategy)
    assert done.stdout == "service of 4321\n", done.stderr
    box.run(["sh", "-ec", f"mkdir {KEPT}; cp -a --parents /etc/kolla /run_command {KEPT}; "
             f"test ! -e /configured || cp -a /configured {KEPT}"], check=True)  # fmt: skip


def restore(box: Sandbox) -> None:
    box.run(["sh", "-ec", f"rm -rf /etc/kolla /run_command /configured; cp -a {KEPT}/. /; "],
            check=True)  # fmt: skip


def losses(
    box: Sandbox, strategy: str, what: str, *more: int, missing: bool = False
) -> Iterator[str]:
    """Each command on the damaged records: what none of them may do.

    `more`: exit codes that are right as well. Where the options are `missing`, nothing says who
    the service was.
    """
    commands = {
        "check": (["kolla_set_configs", "--check"], (0, 1, 2)),
        "start": (["kolla_start"], (0, 1)),
    }
    for name, (argv, codes) in commands.items():
        try:
            done = box.run(argv, env={"KOLLA_CONFIG_STRATEGY": strategy}, timeout=10)
        except TimeoutExpired:
            yield f"{what}: {name}: does not end"
            continue
        said = done.stdout + done.stderr
        if "Traceback" in said or done.returncode not in (*codes, *more):
            last = said.strip().splitlines()[-1:] or [""]
            yield f"{what}: {name}: {done.returncode}: {last[0][-200:]}"
        elif argv == ["kolla_start"]:
            if done.returncode and "ERROR" not in said:
                yield f"{what}: {name}: no message: {said[-200:]}"
            if not missing and done.stdout not in ("", "service of 4321\n"):
                yield f"{what}: {name}: {done.stdout!r}"
    kept = box.exists(CANARY) and box.read(CANARY) == "nobody's business"
    if not kept or box.stat(CANARY).st_uid:
        yield f"{what}: the canary was changed"


RAW = {
    "empty": b"",
    "binary": bytes(range(256)) * 9,
    "zeros": bytes(3000),
    "not UTF-8": b'{"a": "\xff\xfe"}',
    "half": b'{\n"version": 1,\n"pend',
    "text": b"hello\n",
    "null": b"null",
    "number": b"17",
    "long number": b"1" * 5000,
    "list": b"[]",
    "object": b"{}",
    "string": b'"x"',
    "nan": b'{"user": NaN, "version": Infinity}',
    "deep lists": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "duplicate": b'{"user": "svc", "user": "0"}',
    "long": b'{"a": "' + b"x" * 5_000_000 + b'"}',
    "lone surrogate": b'{"/etc/\\ud800": {"source": "/etc/\\ud800", "dest": null}}',
    "null character": b'{"user": "a\\u0000b", "/etc/a\\u0000b": {"dest": null}}',
}


@pytest.mark.parametrize("strategy", ["COPY_ALWAYS", "COPY_ONCE"])
@pytest.mark.parametrize("record", ["state", "kolla_start", "options", "run_command", "configured"])
def test_other_content(sandbox: Sandbox, record: str, strategy: str) -> None:
    furnish(sandbox, strategy)
    lost: list[str] = []
    for name, raw in RAW.items():
        restore(sandbox)
        sandbox.write(PLACES[record], raw, mode=0o644)
        # Any text is a command; that there is none of that name is not for the record to know.
        lost += losses(sandbox, strategy, name, *((126, 127) if record == "run_command" else ()))
    assert not lost, "\n".join(lost)


@pytest.mark.parametrize("strategy", ["COPY_ALWAYS", "COPY_ONCE"])
@pytest.mark.parametrize("record", PLACES)
def test_another_kind_in_its_place(sandbox: Sandbox, record: str, strategy: str) -> None:
    furnish(sandbox, strategy)
    place = PLACES[record]
    kinds = {
        "directory": f"rm -rf {place}; mkdir -p {place}/full",
        "link to a file": f"rm -rf {place}; ln -s {CANARY} {place}",
        "link to nothing": f"rm -rf {place}; ln -s /srv/nothing {place}",
        "link to itself": f"rm -rf {place}; ln -s {place} {place}",
        "fifo": f"rm -rf {place}; mkfifo {place}",
        "device": f"rm -rf {place}; mknod {place} c 1 5",
        "nothing": f"rm -rf {place}",
        "file": f"rm -rf {place}; echo x >{place}",
    }
    lost: list[str] = []
    for name, script in kinds.items():
        restore(sandbox)
        sandbox.run(["sh", "-ec", script], check=True)
        more = (126, 127) if record == "run_command" else ()
        missing = name == "nothing" or record == "kolla"
        lost += losses(sandbox, strategy, name, *more, missing=missing)
    sandbox.run(["rm", "-rf", place])
    assert not lost, "\n".join(lost)


VALUES: list[Any] = [
    None, True, -1, 1.5, 10**30, "", "relative/path", CANARY, "/etc/kolla", "a\0b",
    [], [1], {}, {"x": 1},
]  # fmt: skip


def variants(node: Any) -> Iterator[tuple[str, Any]]:
    """The document with one node of it replaced, or one key of it taken away or renamed."""
    for value in VALUES:
        if type(value) is not type(node) or value != node:
            yield f"{value!r:.40}", value
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"without {key}", {k: v for k, v in node.items() if k != key}
            for what, other in variants(value):
                yield f"{key}: {what}", {**node, key: other}
    elif isinstance(node, list):
        for index, value in enumerate(node):
            for what, other in variants(value):
                yield f"[{index}]: {what}", [*node[:index], other, *node[index + 1 :]]


@pytest.mark.parametrize("record", ["state", "kolla_start", "options"])
def test_values_of_the_wrong_type(sandbox: Sandbox, record: str) -> None:
    strategy = "COPY_ONCE" if record == "options" else "COPY_ALWAYS"
    furnish(sandbox, strategy)
    right = json.loads(sandbox.read(PLACES[record]))
    if record == "state":  # one entry is like the others
        right = dict(list(right.items())[:1])
    lost: list[str] = []
    for what, wrong in variants(right):
        restore(sandbox)
        sandbox.write(PLACES[record], json.dumps(wrong))
        sandbox.write(CANARY, "nobody's business")
        lost += losses(sandbox, strategy, what)
    assert not lost, f"{len(lost)}:\n" + "\n".join(lost[:40])


@pytest.mark.parametrize("damage", ["gone", "directory", "file", "link"])
def test_an_original_that_is_not_what_was_saved(sandbox: Sandbox, damage: str) -> None:
    furnish(sandbox, "COPY_ALWAYS")
    kept = f"{DEFAULTS}/etc/app/image"
    assert sandbox.read(kept) == "the image's"
    script = {
        "gone": f"rm {kept}",
        "directory": f"rm {kept}; mkdir {kept}",
        "file": f"rm -r {DEFAULTS}/etc; echo x >{DEFAULTS}/etc",
        "link": f"rm {kept}; ln -s {CANARY} {kept}",
    }[damage]
    sandbox.run(["sh", "-ec", script], check=True)
    sandbox.document({"command": COMMAND, "user": "svc"})
    lost = list(losses(sandbox, "COPY_ALWAYS", damage))
    assert not lost, "\n".join(lost)


# --- depth --------------------------------------------------------------------------------------

_DEEP = """
import os, sys
os.makedirs(sys.argv[1], exist_ok=True)
os.chdir(sys.argv[1])
for _ in range(int(sys.argv[2])):
    os.mkdir("d")
    os.chdir("d")
open("f", "w").close()
"""


def deep(box: Sandbox, place: str, levels: int) -> None:
    box.run(["/usr/bin/python3", "-IS", "-c", _DEEP, place, str(levels)], check=True)


def gone(box: Sandbox, *places: str) -> None:
    """rm(1) can, and the sandbox is closed faster without."""
    box.run(["rm", "-rf", *places])


@pytest.mark.parametrize("levels", [900, 2500])
@pytest.mark.parametrize("where", ["source", "dest", "dest merged", "permissions", "gone"])
def test_a_very_deep_tree(sandbox: Sandbox, where: str, levels: int) -> None:
    """So deep that no path of it fits into a system call, and no recursion ends."""
    sandbox.adduser("svc", 4321)
    sandbox.source("s", "from the operator")
    sandbox.source("d/inner", "from the operator")
    source = "/var/lib/kolla/config_files/deep"
    if where == "source":
        deep(sandbox, source, levels)
        asked = document(entry("deep", "/etc/deep", perm="0755"))
    elif where == "permissions":
        deep(sandbox, "/var/log/deep", levels)
        asked = document(permissions=[{"path": "/var/log/deep", "owner": "svc", "recurse": True}])
    else:
        asked = document(entry("d", "/etc/deep", perm="0755", merge=where == "dest merged"))
        if where == "gone":
            sandbox.document(asked)
            assert sandbox.set_configs().returncode == 0
            asked = document()
        deep(sandbox, "/etc/deep", levels)
    sandbox.document(asked)
    codes = []
    for argv in (["--check"], [], []):
        done = sandbox.set_configs(*argv, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr[-1500:]
        assert argv or done.returncode in (0, 1), done.stderr[-1500:]
        assert argv or not done.returncode or "ERROR" in done.stderr
        codes.append(done.returncode)
    assert codes[1] == codes[2]
    gone(sandbox, "/etc/deep", source, "/var/log/deep", "/etc/kolla")


@pytest.mark.parametrize("name", ["config.json", "config.yaml"])
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"command": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"command": "true", "x": ' + '{"a":' * 50_000 + "1" + "}" * 50_000 + "}",
        '{"command": "true", "_comment": ' + "[" * 900 + "]" * 900 + "}",
    ],
    ids=["lists", "command", "objects", "comment"],
)
def test_a_very_deep_document(sandbox: Sandbox, name: str, text: str) -> None:
    sandbox.document(text, name)
    sandbox.mark()
    for argv, code in ((["--check"], 2), ([], 1)):
        done = sandbox.set_configs(*argv, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr[-1500:]
        if "_comment" not in text:
            assert done.returncode == code, done.stderr[-1500:]
            assert name in done.stderr and sandbox.changes() == {}


def test_the_records_are_left_as_they_are_by_a_refusal(sandbox: Sandbox) -> None:
    """Whoever repairs them finds what there was."""
    furnish(sandbox, "COPY_ALWAYS")
    sandbox.write(PLACES["state"], b"\x00half of it")
    sandbox.mark()
    done = sandbox.set_configs()
    if done.returncode:
        assert done.returncode == 1 and "/etc/kolla" in done.stderr
        assert sandbox.changes() == {}
    assert os.path.exists(sandbox.host(f"{DEFAULTS}/etc/app/image"))
