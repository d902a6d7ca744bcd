"""What a document must not say, and what a person then reads."""

import json
from pathlib import Path
from typing import Any

import pytest
from samples import CONFIG, entry, refusal

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
    ({"command": "a", "x\ud800": 1}, "x\ud800: holds half a surrogate pair"),
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
    if "unknown key" in said or where == "x\ud800":
        assert written.startswith(json.dumps(key))
    else:
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
