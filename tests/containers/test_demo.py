"""`make demo`, both ways: each of its steps is as said, and it leaves nothing running."""

import subprocess

import images
import pytest
from images import NoEngine
from sandbox import PYTHON, TREE, unusable


def demo(*argv: str) -> str:
    done = subprocess.run(
        [PYTHON, "examples/demo.py", *argv],
        cwd=TREE,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT AS SAID" not in done.stdout
    assert done.stdout.count("ok: ") == 13
    assert done.stdout.rstrip().endswith("== all as said")
    return done.stdout


def test_embedded() -> None:
    if reason := unusable():
        pytest.skip(reason)
    demo("--embedded")


def test_with_an_engine() -> None:
    try:
        engine = images.find_engine()
    except NoEngine as reason:
        pytest.skip(f"no container engine: {reason}")
    assert f"with {engine.argv[0]}" in demo()
    names = engine.run("ps", "-a", "--format", "{{.Names}}").stdout
    assert "kolla_start-demo" not in names
