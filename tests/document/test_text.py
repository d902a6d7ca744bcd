"""Text that is no document: what a person then reads, and where it points."""

import os
from pathlib import Path

import pytest
from samples import CONFIG, refusal

from kolla_start.document.load import load
from kolla_start.errors import Refused

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
    "not a number": (b'{"command": "a", "_": NaN}', "1:23: NaN is no JSON; write"),
    "infinite": (b'{"command": "a", "_": -Infinity}', "1:23: -Infinity is no JSON; write"),
    "deep": (b'{"_":' + b"[" * 200_000, "1:1: is nested too deep; no document needs"),
    "long number": (
        b'{"command":"a","_":' + b"9" * 5000 + b"}",
        "1:1: holds a number of thousands of digits",
    ),
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
    "duplicate, long key": (
        b'{"command": "a", "_' + b"k" * 2000 + b'": 1, "_b": {"c": 1, "c": 2}}',
        "1:2041: _b.c: the key stands twice in this object; remove one",
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
    "deep": ("command: " + "[" * 20_000, "1:1: is nested too deep; no document needs"),
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
    assert load(str(path)).command == "a"
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
        load()
    assert refused.value.document == f"{CONFIG}/config.json"
    assert "does not exist; mount a directory that holds config.json" in str(refused.value)
