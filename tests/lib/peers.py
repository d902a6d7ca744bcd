"""The peers' versions: install what peers.txt pins, or try the newest and say what changed.

    peers.py install     kolla and kolla-ansible unpacked into .venv/peers, the rest by pip
    peers.py newest      the newest of both beside the pinned ones: scripts and documents that
                         differ, then the differential suite with them

Run by the Python of .venv, by `make` (setup.sh, `make peers`); needs nothing but pip there.
"""

import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PINS = TESTS / "peers.txt"
INSTALLED = TESTS.parent / ".venv/peers"
DATA = ("kolla", "kolla-ansible")

# Their wheels say which Pythons they run on; as data they are good for any.
_ANY_PYTHON = ("--python-version", "3.14", "--only-binary", ":all:", "--no-deps")


def pinned() -> list[tuple[str, str]]:
    """(name, version) of each line, in the file's order."""
    found = re.findall(r"^([\w.-]+)==([\w.]+)\s*$", PINS.read_text(), re.MULTILINE)
    assert found, f"{PINS} pins nothing"
    return found


def _pip(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], check=True)


def unpack(requirement: str, into: Path) -> Path:
    """The wheel of a package as a directory NAME-VERSION; no code of it is run."""
    with tempfile.TemporaryDirectory() as place:
        _pip("download", *_ANY_PYTHON, "-d", place, requirement)
        (wheel,) = Path(place).glob("*.whl")
        name, version, *_ = wheel.name.split("-")
        target = into / f"{name.replace('_', '-')}-{version}"
        shutil.rmtree(target, ignore_errors=True)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    return target


def install() -> None:
    shutil.rmtree(INSTALLED, ignore_errors=True)
    INSTALLED.mkdir(parents=True)
    for name, version in pinned():
        if name in DATA:
            unpack(f"{name}=={version}", INSTALLED)
    _pip("install", *(f"{name}=={version}" for name, version in pinned() if name not in DATA))


# --- the newest ---------------------------------------------------------------------------------

# Of a wheel, what a container or its deployment gets to see.
_SCRIPTS = ("set_configs.py", "start.sh", "copy_cacerts.sh", "install_projects.sh", "sudoers")


def _of_interest(tree: Path) -> dict[str, str]:
    """Scripts of the privileged stage, and templates of documents, by a name that stays."""
    found = {
        f"docker/base/{name}": path.read_text()
        for name in _SCRIPTS
        for path in tree.glob(f"**/docker/base/{name}")
    }
    for path in tree.glob("**/ansible/roles/**/*.json.j2"):
        found["/".join(path.parts[path.parts.index("roles") :])] = path.read_text()
    return found


def _differences(old: dict[str, str], new: dict[str, str]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if name not in new:
            yield f"gone: {name}"
        elif name not in old:
            yield f"new: {name}"
        elif old[name] != new[name]:
            yield f"changed: {name}"
            before, after = old[name].splitlines(), new[name].splitlines()
            yield from list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]


def newest() -> int:
    """Exit code 0 where nothing changed, or the suite is content with what changed."""
    with tempfile.TemporaryDirectory() as place:
        changed = False
        for name in DATA:
            tree = unpack(name, Path(place))
            last = [version for known, version in pinned() if known == name][-1]
            print(f"{tree.name}, pinned: {last}")
            if tree.name == f"{name}-{last}":
                continue
            changed = True
            print(*_differences(_of_interest(INSTALLED / f"{name}-{last}"), _of_interest(tree)),
                  sep="\n")  # fmt: skip
        if not changed:
            print("the newest are the pinned ones")
            return 0
        for path in INSTALLED.iterdir():  # beside the newest: an upgrade is compared, too
            if not (Path(place) / path.name).exists():
                (Path(place) / path.name).symlink_to(path)
        suites = [
            str(path)
            for name in ("differential", "extend_start")
            for path in TESTS.rglob(f"test_{name}.py")
        ]
        return subprocess.run(
            [sys.executable, "-m", "pytest", *suites],
            env={**os.environ, "KOLLA_START_PEERS": place},
            check=False,
        ).returncode


if __name__ == "__main__":
    if sys.argv[1:] == ["install"]:
        install()
    elif sys.argv[1:] == ["newest"]:
        sys.exit(newest())
    else:
        sys.exit(f"usage: {sys.argv[0]} install|newest")
