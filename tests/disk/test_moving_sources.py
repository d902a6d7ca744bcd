"""Sources that change while a start runs: one look, one generation, or a fault that says so.

Each moment of a start that concerns the source is tried: the start is stopped there, the source
changes, the start goes on.
"""

import json
import os
import time
from subprocess import CompletedProcess
from typing import Any

import pytest
from documents import document, entry
from moments import at_each_moment, end, exchange
from outcomes import applied, mode, no_bug
from sandbox import CONFIG_FILES, PYTHON, Sandbox

SECRET = "the operator's secret"


# --- one file is replaced -----------------------------------------------------------------------


@pytest.mark.parametrize("section", ["preserve", "perm"])
def test_a_source_replaced_at_any_moment_has_mode_and_content_of_one_look(section: str) -> None:
    """The old one's 0644 on the new one's secret would be open to all."""
    keys: dict[str, Any] = {"preserve_properties": True} if section == "preserve" else {}
    right = [("public", "0644"), (SECRET, "0600" if keys else "0644")]

    def plant(box: Sandbox) -> None:
        box.source("tree/s", "public", mode=0o644)
        box.source("tree/t", "beside it", mode=0o600)
        box.document(document(entry("tree", "/etc/tree", **keys)))

    def ask(box: Sandbox, done: CompletedProcess[str]) -> str | None:
        if done.returncode:
            return done.stderr[-500:]
        found = (box.read("/etc/tree/s"), mode(box, "/etc/tree/s"))
        if found not in right:
            return f"{found}"
        again = box.set_configs()
        found = (box.read("/etc/tree/s"), mode(box, "/etc/tree/s"))
        return f"the next start: {found}: {again.stderr}" if found != right[1] else None

    at_each_moment(
        plant, ["tree/s", "/tree>"], 24,
        lambda box: exchange(box, f"{CONFIG_FILES}/tree/s", SECRET, 0o600), ask,
    )  # fmt: skip


def test_a_source_given_to_another_owner_at_any_moment() -> None:
    source = f"{CONFIG_FILES}/s"

    def plant(box: Sandbox) -> None:
        box.adduser("nova", 4242)
        box.source("s", "for nova", mode=0o640)
        box.chown(source, "nova")
        box.document(document(entry("s", "/etc/s", preserve_properties=True)))

    def ask(box: Sandbox, done: CompletedProcess[str]) -> str | None:
        if done.returncode:
            return done.stderr[-500:]
        found = (box.read("/etc/s"), box.stat("/etc/s").st_uid)
        return None if found in [("for nova", 4242), (SECRET, 0)] else f"{found}"

    words = [source, 'files>, "s"']
    at_each_moment(plant, words, 40, lambda box: exchange(box, source, SECRET, 0o640), ask)


@pytest.mark.parametrize("becomes", ["directory", "nothing", "link", "fifo"])
def test_a_source_that_becomes_something_else(becomes: str) -> None:
    """Planned anew or refused; never half a state, never a bug, never a wait for a FIFO."""
    source = f"{CONFIG_FILES}/tree/s"

    def plant(box: Sandbox) -> None:
        box.source("tree/s", "old")
        box.source("tree/t", "beside it")
        box.document(document(entry("tree", "/etc/tree")))

    def action(box: Sandbox) -> None:
        box.remove(source)
        if becomes == "directory":
            box.source("tree/s/inside", "new")
        elif becomes == "link":
            box.symlink("t", source)
        elif becomes == "fifo":
            os.mkfifo(box.host(source))

    def ask(box: Sandbox, done: CompletedProcess[str]) -> str | None:
        again = box.set_configs()
        if becomes == "fifo":
            return None if again.returncode == 1 else "a FIFO is copied"
        there = sorted(os.listdir(box.host("/etc/tree")))
        if again.returncode or there != sorted(os.listdir(box.host(f"{CONFIG_FILES}/tree"))):
            return f"the next start: {there}: {again.stderr[-500:]}"
        return None

    at_each_moment(plant, ["tree/s", "/tree>"], 24, action, ask)


# --- a ConfigMap --------------------------------------------------------------------------------


def generation(box: Sandbox, volume: str, number: int, files: dict[str, str]) -> None:
    """As the kubelet's atomic writer does it (pkg/volume/util/atomic_writer.go of Kubernetes)."""
    new = f"..2026_01_01_00_00_0{number}.1"
    for name, text in files.items():
        box.write(f"{volume}/{new}/{name}", text)
    host = box.host(volume, follow=True)
    old = os.readlink(f"{host}/..data") if os.path.lexists(f"{host}/..data") else None
    os.symlink(new, f"{host}/..data_tmp")
    os.rename(f"{host}/..data_tmp", f"{host}/..data")
    for name in files:
        if not os.path.lexists(f"{host}/{name}"):
            os.symlink(f"..data/{name}", f"{host}/{name}")
    if old:
        box.remove(f"{volume}/{old}")


NAMES = ("a", "b", "c")
VOLUME = f"{CONFIG_FILES}/volume"


@pytest.mark.parametrize("how", ["directory", "pattern", "files", "merge", "preserved", "optional"])
def test_one_generation_of_a_configmap_whenever_the_kubelet_swaps_it(how: str) -> None:
    keys: dict[str, Any] = {
        "merge": {"merge": True},
        "preserved": {"preserve_properties": True},
        "optional": {"optional": True},
    }.get(how, {})
    if how == "pattern":
        entries = [entry("volume/*", "/etc/volume/")]
    elif how in ("files", "optional"):
        entries = [entry(f"volume/{name}", f"/etc/volume/{name}", **keys) for name in NAMES]
    else:
        entries = [entry("volume", "/etc/volume", **keys)]

    def plant(box: Sandbox) -> None:
        generation(box, VOLUME, 1, {name: f"{name} of 1" for name in NAMES})
        box.document(document(*entries))

    def swap(box: Sandbox) -> None:
        generation(box, VOLUME, 2, {name: f"{name} of 2" for name in NAMES})

    def ask(box: Sandbox, done: CompletedProcess[str]) -> str | None:
        if done.returncode:
            return done.stderr[-500:]
        found = copied(box)
        if len(set(found)) != 1:
            return f"generations {found}"
        again = box.set_configs()
        found = copied(box)
        return None if set(found) == {"2"} else f"the next start: {found}: {again.stderr[-500:]}"

    at_each_moment(plant, ["volume"], 24, swap, ask)


def copied(box: Sandbox) -> list[str]:
    """The generation of each copied file."""
    there = [f"/etc/volume/{name}" for name in NAMES]
    return [box.read(path).split()[-1] if box.exists(path) else "missing" for path in there]


def test_the_document_and_what_it_names_are_of_one_generation() -> None:
    """The whole mount is one ConfigMap, as an operator of Kubernetes makes it."""

    def files(number: int) -> dict[str, str]:
        entries = [entry(name, f"/etc/volume/{name}") for name in NAMES]
        text = json.dumps({**document(*entries), "command": f"echo {number}"})
        return {"config.json": text, **{name: f"{name} of {number}" for name in NAMES}}

    def ask(box: Sandbox, done: CompletedProcess[str]) -> str | None:
        if done.returncode:
            return done.stderr[-500:]
        seen = [box.read("/run_command").split()[-1], *copied(box)]
        return None if len(set(seen)) == 1 else f"generations {seen}"

    at_each_moment(
        lambda box: generation(box, CONFIG_FILES, 1, files(1)), [CONFIG_FILES, "config_files"], 30,
        lambda box: generation(box, CONFIG_FILES, 2, files(2)), ask,
    )  # fmt: skip


def test_a_volume_that_is_mounted_elsewhere(sandbox: Sandbox) -> None:
    """Its mode lets everybody write, its mount nobody: its links are the kubelet's."""
    sandbox.mkdir("/opt/volume")
    sandbox.run(["mount", "-t", "tmpfs", "-o", "mode=0777", "none", "/opt/volume"], check=True)
    generation(sandbox, "/opt/volume", 1, {"a": "a of 1"})
    sandbox.document(document(entry("/opt/volume/a", "/etc/volume/a")))
    assert sandbox.set_configs().returncode == 1
    sandbox.run(["mount", "-o", "remount,ro", "/opt/volume"], check=True)
    applied(sandbox)
    assert copied(sandbox)[0] == "1"


# --- what never comes to rest -------------------------------------------------------------------

_WRITER = r"""
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
os.write(1, b"ready\n")
number = 0
while True:
    number += 1
    os.pwrite(fd, b"%020d" % number, 0)
    os.pwrite(fd, b"%020d" % number, os.fstat(fd).st_size - 20)
"""
_REPLACER = r"""
import os, sys
os.write(1, b"ready\n")
number = 0
while True:
    number += 1
    with open(sys.argv[1] + ".new", "wb") as file:
        file.write(b"%020d" % number)
    os.rename(sys.argv[1] + ".new", sys.argv[1])
"""


@pytest.mark.parametrize("earlier", [False, True])
def test_a_source_that_never_comes_to_rest_is_a_fault(sandbox: Sandbox, earlier: bool) -> None:
    """So large that no copy of it ends before it has changed again."""
    sandbox.source("first", "first")
    sandbox.write("/etc/large", "the image's")
    size = 64 << 20
    sandbox.source("large", b"x" * size)
    content = document(entry("first", "/etc/first"), entry("large", "/etc/large"))
    if earlier:
        sandbox.document(document(entry("first", "/etc/first")))
        assert sandbox.set_configs().returncode == 0
    sandbox.document(content)
    writer = sandbox.popen([PYTHON, "-IS", "-c", _WRITER, f"{CONFIG_FILES}/large"])
    try:
        assert writer.stdout and writer.stdout.readline() == "ready\n"
        done = sandbox.set_configs()
    finally:
        end(writer)
    no_bug(done)
    assert done.returncode == 1, done.stderr
    assert f"{CONFIG_FILES}/large" in done.stderr
    assert sandbox.read("/etc/large") == "the image's"
    again = sandbox.set_configs()
    assert again.returncode == 0, again.stderr
    assert sandbox.stat("/etc/large").st_size == size


def test_a_source_whose_every_look_is_another_ends(sandbox: Sandbox) -> None:
    """Replaced without a pause: some whole version or a fault, and soon."""
    sandbox.source("s", "0" * 20)
    sandbox.document(document(entry("s", "/etc/s")))
    writer = sandbox.popen([PYTHON, "-IS", "-c", _REPLACER, f"{CONFIG_FILES}/s"])
    try:
        assert writer.stdout and writer.stdout.readline() == "ready\n"
        for _ in range(20):
            began = time.monotonic()
            done = sandbox.set_configs()
            assert time.monotonic() - began < 30
            no_bug(done)
            assert not sandbox.exists("/etc/s") or len(sandbox.read("/etc/s")) == 20
            assert done.returncode == 1 or sandbox.exists("/etc/s")
    finally:
        end(writer)
