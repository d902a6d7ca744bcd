"""What a start that was killed has left half written: it goes, and is nothing that is copied."""

import os

import pytest
from documents import document, entry
from outcomes import applied
from sandbox import CONFIG_FILES, Sandbox


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    sandbox.write("/app/conf/a", "image a")
    sandbox.write("/app/conf/sub/c", "image c")
    sandbox.source("one", "1")
    sandbox.source("flat/k", "k")
    return sandbox


@pytest.mark.parametrize("number", range(1, 8))
def test_killed_while_a_directory_that_was_made_is_written_to(box: Sandbox, number: int) -> None:
    """What is half written there goes, and with it the directory once nothing else is in it."""
    box.mark()
    applied(box, document(entry("one", "/new/linked/a")))
    box.document(document(entry("flat/*", "/new/linked/", merge=True), entry("one", "/new/vol/")))
    kill = f"inject=fchown,fchownat:signal=KILL:when={number}"
    killed = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", kill, "kolla_set_configs"]
    box.run(killed, env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"})
    applied(box, document())
    assert not box.exists("/new")


@pytest.mark.parametrize("number", range(1, 6))
def test_what_a_killed_start_left_half_written_is_no_source(box: Sandbox, number: int) -> None:
    """A link that leads nowhere, in a directory that the next document copies."""
    box.symlink("nowhere", f"{CONFIG_FILES}/links/l")
    box.document(document(entry("links/*", "/app/conf/", merge=True, preserve_properties=True)))
    kill = f"inject=rename,renameat,renameat2:signal=KILL:when={number}"
    killed = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", kill, "kolla_set_configs"]
    box.run(killed, env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"})
    applied(box, document(entry("/app/conf", "/app/copy")))
    assert sorted(os.listdir(box.host("/app/copy"))) == ["a", "sub"]
