"""The document: what is accepted, what is refused, and what a person then reads."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kolla_start import document, explain, models
from kolla_start.acceptor import accept
from kolla_start.errors import Loc, Refused

CONFIG = "/var/lib/kolla/config_files"


def entry(**keys: Any) -> dict[str, Any]:
    made = {"source": f"{CONFIG}/a.conf", "dest": "/etc/a/a.conf", "owner": "root", "perm": "0600"}
    made.update(keys)
    return {key: value for key, value in made.items() if value != "absent"}


def refusal(path: Path) -> list[str]:
    """The lines that a person reads, without the path of the document."""
    with pytest.raises(Refused) as refused:
        document.load(str(path))
    assert refused.value.document == str(path)
    return [
        line.removeprefix(f"{path}:").strip()
        for line in explain.lines(str(path), refused.value.faults)
    ]


def load(tmp_path: Path, content: Any) -> document.Config:
    path = tmp_path / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return document.load(str(path))


# --- text that is no document -------------------------------------------------------------------

BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty; write at least"),
    "blank": (b" \n\t\n", "is empty; write at least"),
    "byte order mark": (b'\xef\xbb\xbf{"command": "a"}', "begins with a byte order mark; save"),
    "not UTF-8": (b'{\n "command": "caf\xe9"}', "2:17: byte 0xe9 is not UTF-8; save"),
    "not JSON": (b"command: a", "1:1: no JSON: a value must stand here"),
    "word": (b'{"command": a}', "1:13: no JSON: a value must stand here"),
    "cut off": (b'{"command": "a"', "1:16: no JSON: a comma or a closing bracket"),
    "string cut off": (b'{\n\t"command": "a', "2:13: no JSON: this string does not end; close"),
    # The same under every Python: up to 3.12 json itself points at what follows the comma.
    "comma too many": (b'{"command": "a",}', "1:16: no JSON: a comma before a closing bracket"),
    "comma too many in a list": (b'{"command": ["a"\n,\n]}', "2:1: no JSON: a comma before a clos"),
    "mode in octal": (b'{"perm": 0644}', "1:10: no JSON: 0644 is no number; write a mode as a"),
    "mode in Python's octal": (
        b'{"files": [{"perm":\n0o644}]}',
        '2:1: no JSON: 0o644 is no number; write a mode as a string: "0644"',
    ),
    "no colon": (b'{"command" "a"}', "1:12: no JSON: a colon must stand here"),
    "something after it": (b'{"command": "a"}\n}', "2:1: no JSON: the document ended before"),
    "line end in a string": (b'{"command": "a\nb"}', "1:15: no JSON: a line end or tab inside"),
    "bad escape": (rb'{"command": "\d"}', r"no JSON: a backslash that begins no escape"),
    "not a number": (b'{"command": "a", "_": NaN}', "1:1: NaN is no JSON; write"),
    "infinite": (b'{"command": "a", "_": -Infinity}', "1:1: -Infinity is no JSON; write"),
    "deep": (b'{"_":' + b"[" * 200_000, "is nested too deep; no document needs"),
    "long number": (b'{"command":"a","_":' + b"9" * 5000 + b"}", "number of thousands of digits"),
    "list": (b'["command"]', "1:1: the document is a list; write an object"),
    "null": (b" null", "1:2: the document is null; write an object"),
    "string": (b'"command"', "1:1: the document is a string; write an object"),
    "no command": (b"{}", "1:1: command: is missing; add it"),
    "duplicate": (
        b'{"command": "a",\n "command": "b"}',
        "2:2: command: the key stands twice in this object; remove one",
    ),
    "duplicate inside": (
        b'{"command": "a", "directories": [\n{"path": "/a", "owner": "b",\n"path": "/a", '
        b'"perm": "0600"}]}',
        "3:1: directories[0].path: the key stands twice in this object; remove one",
    ),
    "duplicate comment": (b'{"command": "a", "_": 1, "_": 2}', "1:26: _: the key stands twice"),
    # YAML finds no places in this, JSON is content with it.
    "duplicate, long key": (
        b'{"command": "a", "_' + b"k" * 2000 + b'": 1, "_b": {"c": 1, "c": 2}}',
        "the key 'c' stands twice in an object; remove one",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_text(tmp_path: Path, name: str) -> None:
    data, message = BROKEN[name]
    path = tmp_path / "config.json"
    path.write_bytes(data)
    (line,) = refusal(path)
    assert message in line


BROKEN_YAML: dict[str, tuple[str, str]] = {
    "empty": ("# nothing\n", "is empty; write at least"),
    "two documents": ("command: a\n---\ncommand: b\n", "2:1: no YAML: a second document begins"),
    "duplicate": ("command: a\ncommand: b\n", "2:1: command: the key stands twice"),
    "syntax": ("command: a\n b: c\n", "2:3: no YAML: mapping values are not allowed here; mend it"),
    "tab": ("command: a\nfiles:\n\t- a\n", "3:1: no YAML: "),
    "control character": ("command: a\n# \x07\n", "2:3: the character "),
    "integer mode": (
        "command: a\nfiles: [{path: /a, owner: b, perm: 0644}]",
        '2:36: files[0].perm: is a number: YAML reads an unquoted 0644 as 420; write "0644"',
    ),
    "date": ("command: 2020-01-01", '1:10: command: is a date; put it in quotes: "2020-01-01"'),
    "no date": ("command: 2020-13-01", "month must be in 1..12; mend it"),
    "python": ("command: !!python/name:os.system a", "1:10: no YAML: could not determine a const"),
    "tag that does not fit": ("command: a\n_: !!int ''", "; mend it"),
    "recursive": ("command: &a [*a]", "1:10: command[0]: is a list; write a string"),
    "recursive key": ("command: a\n_: &a {*a : 1}", "no YAML: "),
    "deep": ("command: " + "[" * 20_000, "is nested too deep; no document needs"),
    "key that is no string": ("command: a\n1: b", "[1]: is no string, as a key must be"),
}


@pytest.mark.parametrize("name", BROKEN_YAML)
def test_broken_yaml(tmp_path: Path, name: str) -> None:
    text, message = BROKEN_YAML[name]
    path = tmp_path / "config.yaml"
    path.write_text(text)
    (line,) = refusal(path)
    assert message in line


def test_alias_bombs_do_not_go_off(tmp_path: Path) -> None:
    lists = ["_0: &a0 [x, x]"] + [
        f"_{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 9)}]" for number in range(1, 30)
    ]
    merges = ["_m0: &m0 {x: 1}"] + [
        f"_m{number}: &m{number} {{<<: [{', '.join([f'*m{number - 1}'] * 9)}], k{number}: 1}}"
        for number in range(1, 30)
    ]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(["command: a", *lists, *merges]))
    assert document.load(str(path)).command == "a"
    path.write_text(
        "\n".join(["command: *m29", *lists, "files: *a29", *merges]).replace("*m", "*a")
    )
    assert len(refusal(path)) >= 1


def test_what_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert refusal(path) == ["does not exist; name a file that can be read"]
    path.mkdir()
    assert refusal(path) == ["is not a regular file; name a file that can be read"]
    path.rmdir()
    os.mkfifo(path)  # nobody writes to it: a start must not wait
    assert refusal(path) == ["is not a regular file; name a file that can be read"]
    path.unlink()
    path.symlink_to(path)
    assert "Too many levels of symbolic links" in refusal(path)[0]


def test_no_document_at_all() -> None:
    if os.path.exists(CONFIG):
        pytest.skip(f"{CONFIG} is there")
    with pytest.raises(Refused) as refused:
        document.load()
    assert refused.value.document == f"{CONFIG}/config.json"
    assert "does not exist; mount a directory that holds config.json" in str(refused.value)


# --- what a document must not say ---------------------------------------------------------------

_DIRECTORY = {"path": "/a", "owner": "b", "perm": "0700"}
_FILE = {"path": "/a/b", "owner": "b", "perm": "0700"}
_PERMISSION = {"path": "/a", "owner": "b"}

# What is put into a good document, where, and what a person then reads.
WRONG: list[tuple[str, Any, str]] = [
    ("command", None, "command: is null; write a string or a list"),
    ("command", 5, 'command: is a number; put it in quotes: "5"'),
    ("command", {"a": "b"}, "command: is an object; write a string or a list"),
    ("command", [], "command: names no program; let the list begin with one"),
    ("command", ["", "a"], "command: names no program; let the list begin with one"),
    ("command", ["a", 1], 'command[1]: is a number; put it in quotes: "1"'),
    ("command", ["a", "b\0"], "command[1]: holds a NUL character"),
    ("command", "a\0", "command: holds a NUL character"),
    ("command", "a \ud800", "command: holds half a surrogate pair"),
    ("command", '["a", "b"]', "command: is a list inside a string; remove the quotes"),
    ("config_files", None, "config_files: is null; write a list, or leave the key out"),
    ("config_files", {}, "config_files: is an object; write a list"),
    ("directories", None, "directories: is null; write a list, or leave the key out"),
    ("files", "a", "files: is a string; write a list"),
    ("permissions", None, "permissions: is null; write a list, or leave the key out"),
    ("user", 42436, 'user: is a number; put it in quotes: "42436"'),
    ("user", None, "user: is null; write a string, or leave the key out"),
    ("user", "nova:", "user: 'nova:' names no group after the colon"),
    ("user", "a b", "user: 'a b' is no user; write it as user, or user:group"),
    ("capabilities", "CHOWN", "capabilities: is a string; write a list"),
    ("capabilities", ["chown"], "capabilities[0]: 'chown' is no capability; write \"CHOWN\""),
    ("capabilities", ["FLY"], "capabilities[0]: 'FLY' is no capability; write a name of"),
    ("no_new_privileges", "true", "no_new_privileges: is a string; write true or false, without"),
    ("no_new_privileges", 1, "no_new_privileges: is a number; write true or false"),
]
_E = "config_files[0]"
WRONG_ENTRY: list[tuple[dict[str, Any], str]] = [
    ({"source": "absent"}, "source: is missing; add it"),
    ({"source": None}, "source: is null; write a string"),
    ({"source": "a.conf"}, "source: 'a.conf' is not absolute; begin it with /"),
    ({"source": ""}, "source: is empty; write an absolute path"),
    ({"source": "/" + "a" * 5000}, "source: is longer than 4095 bytes"),
    ({"source": ["/a"]}, "source: is a list; write a string"),
    ({"dest": "absent"}, "dest: is missing; add it"),
    ({"dest": "etc/a"}, "dest: 'etc/a' is not absolute; begin it with /"),
    ({"dest": "/etc/../a"}, "dest: '/etc/../a' has a . or .. in it; write the path without"),
    ({"dest": "/etc/a\0"}, "dest: holds a NUL character"),
    ({"dest": "/"}, "dest: would replace /; name the path below it, or set merge to true"),
    ({"dest": "//"}, "dest: would replace /;"),
    ({"dest": "/etc"}, "dest: would replace /etc; name a path inside it, or set merge to true"),
    ({"dest": "//etc"}, "dest: would replace /etc;"),
    ({"dest": "/var/lib"}, "dest: would replace /var/lib;"),
    ({"dest": "/usr/", "source": "/a/bin"}, "dest: would replace /usr/bin;"),
    ({"dest": "/etc/", "source": "/a/"}, "dest: would replace /etc;"),
    ({"dest": CONFIG}, f"dest: would write into {CONFIG}, the mounted configuration"),
    ({"dest": f"{CONFIG}/x", "merge": True}, f"dest: would write into {CONFIG}, the mounted"),
    ({"dest": "/var/lib/kolla"}, "dest: would replace /var/lib/kolla;"),
    ({"dest": "/etc/kolla"}, "dest: would replace /etc/kolla, which holds /etc/kolla/defaults;"),
    ({"dest": "/etc/kolla/defaults/x"}, "dest: would write into /etc/kolla/defaults, where the"),
    ({"dest": "/run_command", "merge": True}, "dest: would write into /run_command, where"),
    ({"dest": "/configured"}, "dest: would write into /configured, where the records"),
    ({"dest": "/run/kolla/x"}, "dest: would write into /run/kolla, where the records"),
    ({"dest": "/a//b", "source": "/a/b"}, "dest: is the source itself, /a/b; name another"),
    ({"dest": "/a/", "source": "/a/b"}, "dest: is the source itself, /a/b; name another"),
    ({"dest": "/a", "source": "/a/b"}, "dest: would replace /a, which holds the source"),
    ({"dest": "/a/b/c", "source": "/a/b"}, "dest: /a/b/c lies inside the source"),
    ({"owner": "absent"}, "owner: is missing or null; add it, or set preserve_properties"),
    ({"perm": None}, "perm: is missing or null; add it, or set preserve_properties"),
    ({"owner": 0}, 'owner: is a number; put it in quotes: "0"'),
    ({"owner": ""}, "owner: '' is no owner; write it as user, or user:group"),
    ({"owner": ":a"}, "owner: ':a' is no owner;"),
    ({"owner": "9" * 5000}, "is no id; the largest is"),
    ({"owner": "4294967295"}, "owner: 4294967295 is no id; the largest is 4294967294"),
    ({"perm": 600}, 'perm: is a number; write "0600"'),
    (
        {"perm": 0o600},
        'perm: is a number: YAML reads an unquoted 0600 as 384; write "0600"',
    ),
    ({"perm": 644}, 'perm: is a number; write "0644"'),
    (
        {"perm": 420},
        'perm: is a number: YAML reads an unquoted 0644 as 420; write "0644"',
    ),
    (
        {"perm": 511},
        'perm: is a number; write "0511", or "0777" if it was an unquoted 0777 in YAML',
    ),
    ({"perm": 7}, "perm: is a number; write 3 or 4 octal digits"),
    ({"perm": -1}, "perm: is a number; write 3 or 4 octal digits"),
    ({"perm": "rw"}, "perm: 'rw' is not a mode; write 3 or 4 octal digits, as in \"0640\""),
    ({"perm": "0680"}, "perm: '0680' is not a mode;"),
    ({"perm": "00600"}, "perm: '00600' is not a mode;"),
    ({"perm": "0600\n"}, "perm: '0600\\n' is not a mode;"),
    ({"perm": "\u0660600"}, "is not a mode;"),
    (
        {"optional": "false"},
        'optional: is the string "false", which Kolla takes for true; write fal',
    ),
    (
        {"merge": "No"},
        'merge: is the string "No", which Kolla takes for true; write false, without',
    ),
    ({"preserve_properties": "maybe"}, "preserve_properties: is a string; write true or false, wi"),
    ({"optional": "TRUE"}, "optional: is a string; write true or false, without quotes"),
    ({"merge": 1}, "merge: is a number; write true or false"),
    ({"optional": 0}, "optional: is a number; write true or false"),
    (
        {"source": "/dev/null", "dest": "/etc/a/"},
        "dest: /dev/null is an empty file, no directory's",
    ),
    (
        {"source": "//dev/null", "preserve_properties": True},
        "preserve_properties: /dev/null has none that a file could have; say owner and perm",
    ),
    ({"preserve_properties": []}, "preserve_properties: is a list; write true or false"),
    ({"prem": "0600"}, "prem: unknown key; did you mean perm?"),
    ({"preserve_propertys": True}, "preserve_propertys: unknown key; did you mean preserve_"),
    ({"xyzzy": 1}, "xyzzy: unknown key; the known ones are source, "),
]
WRONG_OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("directories", {"perm": None}, "perm: is null; write a string"),
    ("directories", {"path": "/a/*"}, "path: '/a/*' is a pattern; name each path"),
    ("directories", {"owner": "absent"}, "owner: is missing; add it"),
    ("files", {"path": "/a/"}, "path: '/a/' ends in /, a directory; name a file"),
    ("files", {"perm": 640}, 'perm: is a number; write "0640"'),
    ("permissions", {"owner": None}, "owner: is null; write a string"),
    ("permissions", {"path": "a"}, "path: 'a' is not absolute; begin it with /"),
    ("permissions", {"perm": ""}, "perm: '' is not a mode;"),
    ("permissions", {"recurse": "on"}, "recurse: is a string; write true or false, without"),
    ("permissions", {"recurse": "false"}, 'recurse: is the string "false", which Kolla takes for'),
    ("permissions", {"recurse": 1}, "recurse: is a number; write true or false"),
    ("permissions", {"perm": 1.5}, "perm: is a number; write 3 or 4 octal digits in quotes"),
    ("files", {"perm": True}, "perm: is a boolean; write 3 or 4 octal digits in quotes"),
    ("permissions", {"exclude": "a"}, "exclude: is a string; write a list"),
    ("permissions", {"exclude": ["("]}, "exclude[0]: '(' is no regular expression: missing )"),
    ("permissions", {"exclude": [None]}, "exclude[0]: is null; write a string"),
]
CASES: list[tuple[dict[str, Any], str]] = [
    *(({"command": "a", key: value}, message) for key, value, message in WRONG),
    *(
        ({"command": "a", "config_files": [entry(**keys)]}, f"{_E}.{message}"
         if not message.startswith("is no") else message)
        for keys, message in WRONG_ENTRY
    ),
    *(
        (
            {
                "command": "a",
                name: [
                    {
                        key: value
                        for key, value in {
                            "path": "/a", "owner": "b", "perm": "0700", **keys
                        }.items()
                        if value != "absent"
                    }
                ],
            },
            f"{name}[0].{message}",
        )
        for name, keys, message in WRONG_OTHERS
    ),
    ({"command": "a", "config_files": ["a"]}, "config_files[0]: is a string; write an object"),
    ({"command": "a", "files": [None]}, "files[0]: is null; write an object"),
    ({"command": "a", "x\ud800": 1}, "has a key with half a surrogate pair"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), CASES, ids=[message for _, message in CASES])
def test_wrong(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content, indent=2))
    (line,) = refusal(path)
    place, _, said = line.partition(": ")
    number, column = (int(part) for part in place.split(":"))
    assert message in said
    # The place is that of the value, of an unknown key, or of the object that lacks a key.
    written = path.read_text().splitlines()[number - 1][column - 1 :]
    where = said.partition(": ")[0]
    key = where.rpartition(".")[2] if not where.endswith("]") else ""
    value: Any = content
    for part in where.replace("[", ".").replace("]", "").split("."):
        inner = value[int(part)] if isinstance(value, list) and part.isdigit() else None
        value = inner if isinstance(value, list) else value.get(part, value)
    if "unknown key" in said:
        assert written.startswith(f'"{key}"')
    elif "half a surrogate pair" not in said:
        assert written.startswith(json.dumps(value)[0])


def test_everything_at_once_in_the_order_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(
        '{\n\t"config_files": [\n'
        '\t\t{"source": "/a", "dest": "b", "owner": "root", "perm": 600},\n'
        '\t\t{"source": "/a", "dest": "/etc", "owner": "root", "prem": "0600", "dest": "/etc"}\n'
        "\t]\n}\n"
    )
    assert refusal(path) == [
        "1:1: command: is missing; add it",
        "3:28: config_files[0].dest: 'b' is not absolute; begin it with /",
        '3:58: config_files[0].perm: is a number; write "0600"',
        "4:3: config_files[1].perm: is missing or null; add it, or set preserve_properties to true",
        "4:53: config_files[1].prem: unknown key; did you mean perm?",
        "4:69: config_files[1].dest: the key stands twice in this object; remove one",
        "4:77: config_files[1].dest: would replace /etc; name a path inside it, or set merge to "
        "true",
    ]


# --- what a document may say --------------------------------------------------------------------

GOOD: dict[str, dict[str, Any]] = {
    "a command": {"command": "memcached -v"},
    "a list": {"command": ["sh", "-c", "exec 'two words'", ""]},
    "a string that only looks like a list": {"command": "[ -f /a ]"},
    "comments": {"$schema": "x", "_": 1, "command": "a", "files": [{**_FILE, "_why": None}]},
    "nulls that the replaced program let pass": {
        "command": "a",
        "config_files": [
            entry(owner=None, perm=None, preserve_properties=True, optional=None, merge=None)
        ],
        "permissions": [{**_PERMISSION, "perm": None, "recurse": None, "exclude": None}],
    },
    "an optional that means nothing": {
        "command": "a",
        "permissions": [{**_PERMISSION, "optional": "whatever"}],
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
        "directories": [_DIRECTORY],
        "files": [_FILE],
        "permissions": [{**_PERMISSION, "perm": "0o2755", "recurse": True}],
        "user": "1000:nova",
        "capabilities": ["CAP_CHOWN", "BPF"],
        "no_new_privileges": True,
    },
}


@pytest.mark.parametrize("name", GOOD)
def test_good(tmp_path: Path, name: str) -> None:
    content = GOOD[name]
    assert load(tmp_path, content).remarks == ()
    assert explain.examine("a.json", json.dumps(content), strict=True) == []
    Draft202012Validator(models.schema()).validate(content)


def test_records(tmp_path: Path) -> None:
    config = load(
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
    config = document.load(str(path))
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
        {f"{_E}.{key}": _AS_TRUE for key in ("optional", "merge", "preserve_properties")},
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
    remarks = [str(remark) for remark in load(tmp_path, content).remarks]
    # Whether a number is a fault is for the plan to say.
    assert remarks == [f"{key}: {what}" for key, what in said.items() if not key.endswith("perm")]
    path = tmp_path / "config.json"
    text = path.read_text()
    done = kolla_config("validate", str(path))
    assert done.returncode == 1
    lines = []
    for key, what in said.items():
        before = f'"{key.rpartition(".")[2]}": '
        column = text.rindex(before) + len(before) + 1
        lines.append(f"{path}:1:{column}: {key}: {what}")
    assert done.stderr.splitlines() == lines
    Draft202012Validator(models.schema()).validate(content)


def test_unknown_keys_elsewhere_do_not_stop_a_start(tmp_path: Path) -> None:
    content = {"command": "a", "comand": 1, "files": [{**_FILE, "onwer": "x"}]}
    assert [str(remark) for remark in load(tmp_path, content).remarks] == [
        "comand: no such key, ignored",
        "files[0].onwer: no such key, ignored",
    ]
    faults = explain.examine("a.json", json.dumps(content), strict=True)
    assert [str(fault) for fault in faults] == [
        "comand: unknown key; did you mean command?",
        "files[0].onwer: unknown key; did you mean owner?",
    ]


# --- the acceptor, the models and the schema say the same ---------------------------------------

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 9999),
    st.floats(allow_nan=False),
    st.sampled_from(
        [
            "", " ", "a", "root", "root:", "a:b", ":", "0600", "0o644", "888", "/", "/etc", "/etc/",
            "/a/../b", "relative", "/a//b/", "/a*", "true", "(", "a$", "CHOWN", "CAP_BPF", "chown",
            "\0", "\ud800", "[]", '["a"]', "[a", "/run_command", CONFIG, "4294967295",
            f"{CONFIG}/a.conf", "/etc/a", "True", "yes", "false", "/dev/null", 420,
        ]
    ),
    st.text(max_size=4),
    st.lists(st.sampled_from(["a", "", "CHOWN", "(", 1, None]), max_size=3),
    st.just({}),
)  # fmt: skip
names = st.one_of(
    st.sampled_from(
        [
            "command", "config_files", "directories", "files", "permissions", "user",
            "capabilities", "no_new_privileges", "source", "dest", "owner", "perm", "optional",
            "merge", "preserve_properties", "path", "recurse", "exclude", "_", "$x", "prem",
            "\ud800", "_\ud800", "",
        ]
    ),
    st.integers(0, 1),  # YAML knows keys that are no strings
)  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """A good document with a few changes, most often one."""
    content = copy.deepcopy(draw(st.sampled_from(list(GOOD.values()))))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        places: list[Any] = [content]
        for section in content.values():
            if isinstance(section, list):
                places += [item for item in section if isinstance(item, dict)]
        place = draw(st.sampled_from(places))
        kind = draw(st.sampled_from(["set", "set", "set", "remove"]))
        key = draw(st.one_of(st.sampled_from(list(place) or ["a"]), names))
        if kind == "remove":
            place.pop(key, None)
        else:
            place[key] = draw(values)
    return content


SCHEMA = Draft202012Validator(models.schema())


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(documents(), documents(), documents(), values))
@example({"command": "a", "x\ud800": 1})
@example({"command": "a", 1: 1})
def test_acceptor_models_and_schema_agree(content: Any) -> None:
    unknown: list[Loc] = []
    accepted = accept(content, unknown)
    found = list(explain._judged(content, None, False))
    assert accepted == (not found), found
    if accepted:
        assert unknown == [loc for loc, _ in models.unknown(content)]
        assert [error.message for error in SCHEMA.iter_errors(content)] == []


@settings(max_examples=300, deadline=None)
@given(st.one_of(documents(), st.recursive(values, st.lists)))
def test_our_json_is_json(content: Any) -> None:
    text = json.dumps(content)
    try:
        wanted = json.loads(text, parse_constant=document._no_constant)
    except ValueError:
        wanted = ValueError
    try:
        found = document.parse_json(text)
    except ValueError:
        found = ValueError
    # The one thing that json.dumps can write and we refuse is the keys "1" and 1 in one object.
    assert found == wanted or found is ValueError


# --- what a start imports -----------------------------------------------------------------------

FORBIDDEN = """
    re json glob fnmatch collections enum functools signal typing pathlib dataclasses argparse
    logging shutil subprocess ctypes yaml pydantic jsonschema psutil kolla_start.models
    kolla_start.explain
""".split()


def test_a_good_json_document_needs_few_imports(tmp_path: Path) -> None:
    content = {**GOOD["everything"], "permissions": [_PERMISSION]}
    (tmp_path / "config.json").write_text(json.dumps(content))
    root = Path(document.__file__).parent.parent
    program = (
        f"import sys; sys.path.append({str(root)!r})\n"
        "from kolla_start import document\n"
        f"document.load({str(tmp_path / 'config.json')!r})\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()).isdisjoint(FORBIDDEN), done.stdout


# --- kolla_config -------------------------------------------------------------------------------


def kolla_config(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kolla_start.config", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_validate(tmp_path: Path) -> None:
    good, bad, missing = (str(tmp_path / name) for name in ("good.json", "bad.yaml", "no.json"))
    Path(good).write_text('{"command": "a"}')
    Path(bad).write_text("command: a\nuesr: b\n")
    done = kolla_config("validate", good, bad, missing)
    assert done.returncode == 1
    assert done.stdout == f"{good}: valid\n"
    assert done.stderr.splitlines() == [
        f"{bad}:2:1: uesr: unknown key; did you mean user?",
        f"{missing}: does not exist; name a file that can be read",
    ]
    assert kolla_config("validate", good).returncode == 0


def test_schema() -> None:
    done = kolla_config("schema")
    assert done.returncode == 0
    assert json.loads(done.stdout) == models.schema()


@pytest.mark.parametrize("key", ["a\0b", "\x1b[2J", "x" * 5000, "\ud800"])
def test_strange_unknown_keys_are_judged_alike(key: str) -> None:
    text = json.dumps({"command": "x", key: 1})
    accepted = accept(document.parse_json(text), [])
    assert accepted == (not explain.examine("config.json", text, False))
    assert accepted == (key != "\ud800")
