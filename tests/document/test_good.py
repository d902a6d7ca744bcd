"""What a document may say, what becomes of it, and what is remarked on."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from samples import CONFIG, FILE, GOOD, entry, kolla_config, loaded

from kolla_start.document import models, places
from kolla_start.document.load import examine, load


@pytest.mark.parametrize("name", GOOD)
def test_good(tmp_path: Path, name: str) -> None:
    content = GOOD[name]
    assert loaded(tmp_path, content).remarks == ()
    assert examine("a.json", json.dumps(content), strict=True) == []
    Draft202012Validator(models.schema()).validate(content)


def test_records(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        {
            **GOOD["everything"],
            "config_files": [
                {"source": "//a//b", "dest": "/etc//a//", "preserve_properties": True},
                entry(perm="0o640", optional=True, merge=True),
            ],
            "directories": [{"path": "//a//", "owner": "b:", "perm": "700"}],
        },
    )
    first, second = config.config_files
    assert (first.index, first.source, first.dest) == (0, "/a/b", "/etc/a/")
    assert (first.owner, first.perm, first.preserve_properties) == (None, None, True)
    assert (second.index, second.owner, second.perm) == (1, "root", 0o640)
    assert (second.optional, second.merge, second.preserve_properties) == (True, True, False)
    (made,) = config.directories
    assert (made.index, made.path, made.owner, made.perm) == (0, "/a", "b:", 0o700)
    (rule,) = config.permissions
    assert (rule.perm, rule.recurse, rule.exclude) == (0o2755, True, ())
    assert (config.command, config.user) == (("a",), "1000:nova")
    assert (config.capabilities, config.no_new_privileges) == (("CAP_CHOWN", "BPF"), True)


def test_yaml_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "\ufeffcommand: memcached -v\n"
        "_defaults: &root {owner: root, perm: '0600'}\n"
        "config_files:\n"
        f"- {{<<: *root, source: {CONFIG}/a, dest: /etc/a, perm: '0640'}}\n"
    )
    config = load(str(path))
    assert config.command == "memcached -v"
    assert (config.config_files[0].owner, config.config_files[0].perm) == ("root", 0o640)


_AS_TRUE = "is a string, taken for true; write true, without quotes"

# Sections, and the keys in them that a start takes as they are: what `validate` says of each.
TOLERATED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "MariaDB's recurse": (
        {"permissions": [{"path": "/a", "owner": "b", "recurse": "true"}]},
        {"permissions[0].recurse": _AS_TRUE},
    ),
    "an empty command": (
        {"command": " "},
        {"command": "is empty, so nothing is run; say what to run"},
    ),
    "every boolean of an entry": (
        {"config_files": [
            {"source": "/a", "dest": "/b", "optional": "True", "merge": "yes",
             "preserve_properties": "true"}
        ]},
        {
            f"config_files[0].{key}": _AS_TRUE
            for key in ("optional", "merge", "preserve_properties")
        },
    ),
    "a number as perm, if the path is not there": (
        {"permissions": [{"path": "/a", "owner": "b", "optional": True, "perm": 420}]},
        {"permissions[0].perm": "is a number: YAML reads an unquoted 0644 "
         'as 420; write "0644"'},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLERATED)
def test_a_start_takes_it_and_validate_names_it(tmp_path: Path, name: str) -> None:
    more, said = TOLERATED[name]
    content = {"command": "a", **more}
    config = loaded(tmp_path, content)
    path, text = config.path, config.text
    done = kolla_config("validate", path)
    assert done.returncode == 1
    lines = []
    for key, what in said.items():
        before = f'"{key.rpartition(".")[2]}": '
        column = text.rindex(before) + len(before) + 1
        lines.append(f"{path}:1:{column}: {key}: {what}")
    assert done.stderr.splitlines() == lines
    # Whether a number is a fault is for the plan to say.
    remarked = [line for line in lines if "a number" not in line]
    assert places.lines(path, text, list(config.remarks)) == remarked
    Draft202012Validator(models.schema()).validate(content)


def test_unknown_keys_elsewhere_do_not_stop_a_start(tmp_path: Path) -> None:
    content = {"command": "a", "comand": 1, "files": [{**FILE, "onwer": "x"}]}
    config = loaded(tmp_path, content)
    assert places.lines("config.json", config.text, list(config.remarks)) == [
        "config.json:1:18: comand: no such key, ignored",
        "config.json:1:88: files[0].onwer: no such key, ignored",
    ]
    faults = examine("a.json", json.dumps(content), strict=True)
    assert [str(fault) for fault in faults] == [
        "comand: unknown key; did you mean command?",
        "files[0].onwer: unknown key; did you mean owner?",
    ]
