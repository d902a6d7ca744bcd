"""Documents that are good, and how the tests of the document room read one that is not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kolla_start.document import places
from kolla_start.document.load import Config, load
from kolla_start.errors import Refused

CONFIG = "/var/lib/kolla/config_files"

DIRECTORY = {"path": "/a", "owner": "b", "perm": "0700"}
FILE = {"path": "/a/b", "owner": "b", "perm": "0700"}
PERMISSION = {"path": "/a", "owner": "b"}


def entry(**keys: Any) -> dict[str, Any]:
    made = {"source": f"{CONFIG}/a.conf", "dest": "/etc/a/a.conf", "owner": "root", "perm": "0600"}
    made.update(keys)
    return {key: value for key, value in made.items() if value != "absent"}


def refusal(path: Path) -> list[str]:
    """The lines that a person reads, without the path of the document."""
    return [line.removeprefix(f"{path}:").strip() for line in whole_refusal(path)]


def whole_refusal(path: Path) -> list[str]:
    with pytest.raises(Refused) as refused:
        load(str(path))
    error = refused.value
    assert error.document == str(path)
    return places.lines(str(path), error.text, error.faults)


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def loaded(tmp_path: Path, content: Any) -> Config:
    return load(str(written(tmp_path, content)))


def kolla_config(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kolla_start.config", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


GOOD: dict[str, dict[str, Any]] = {
    "a command": {"command": "memcached -v"},
    "a list": {"command": ["sh", "-c", "exec 'two words'", ""]},
    "a string that only looks like a list": {"command": "[ -f /a ]"},
    "comments": {"$schema": "x", "_": 1, "command": "a", "files": [{**FILE, "_why": None}]},
    "nulls that the replaced program let pass": {
        "command": "a",
        "config_files": [
            entry(owner=None, perm=None, preserve_properties=True, optional=None, merge=None)
        ],
        "permissions": [{**PERMISSION, "perm": None, "recurse": None, "exclude": None}],
    },
    "an optional that means nothing": {
        "command": "a",
        "permissions": [{**PERMISSION, "optional": "whatever"}],
    },
    "the same dest twice": {
        "command": "a",
        "config_files": [entry(optional=True), entry(source="/b", optional=True)],
    },
    "a dest inside an earlier one": {
        "command": "a",
        "config_files": [
            entry(source=f"{CONFIG}/ceph", dest="/etc/ceph"),
            entry(source=f"{CONFIG}/ceph.conf", dest="/etc/ceph/ceph.conf"),
        ],
    },
    "everything below /": {
        "command": "a",
        "config_files": [
            {"source": f"{CONFIG}/src/*", "dest": "/", "merge": True, "preserve_properties": True}
        ],
    },
    "a new directory of /": {"command": "a", "config_files": [entry(dest="/checks")]},
    "into /etc": {"command": "a", "config_files": [entry(dest="/etc/")]},
    "merged into /etc": {"command": "a", "config_files": [entry(dest="/etc", merge=True)]},
    "certificates": {
        "command": "a",
        "config_files": [
            entry(source=f"{CONFIG}/ca-certificates", dest="/var/lib/kolla/share/ca-certificates")
        ],
    },
    "patterns": {
        "command": "a",
        "config_files": [entry(source=f"{CONFIG}/*.rules", dest="/etc/prometheus/")],
        "permissions": [{"path": "/var/log/kolla/a.*", "owner": "a:b", "exclude": ["a$", "^/b"]}],
    },
    "everything": {
        "command": ["a"],
        "config_files": [entry()],
        "directories": [DIRECTORY],
        "files": [FILE],
        "permissions": [{**PERMISSION, "perm": "0o2755", "recurse": True}],
        "user": "1000:nova",
        "capabilities": ["CAP_CHOWN", "BPF"],
        "no_new_privileges": True,
    },
}
