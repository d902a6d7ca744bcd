"""Values that real documents have though nobody should write them, and /dev/null.

Where the answer differs from the replaced program's, it is a row of docs/differences.md.
"""

import json
import re
import stat

import pytest
from documents import Entry, document, entry
from httpd import APACHE, NOVA
from outcomes import quiet
from sandbox import CONFIG_FILES, Sandbox


def test_booleans_as_strings(httpd: Sandbox) -> None:
    """The documents of MariaDB on OpenShift."""
    httpd.source("tree/a", "a")
    httpd.write("/etc/tree/b", "the image's")
    copy = entry("tree", "/etc/tree", "nova", merge="true", optional="yes")
    missing = entry("missing", "/etc/x", "nova", optional="True")
    rule = {"path": "/etc/httpd", "owner": "nova", "recurse": "true"}
    httpd.document(document(copy, missing, permissions=[rule]))
    done = httpd.set_configs()
    assert done.returncode == 0
    assert httpd.read("/etc/tree/b") == "the image's"
    assert httpd.owner("/etc/httpd/conf/httpd.conf") == (NOVA, NOVA)
    said = "is a string, taken for true; write true, without quotes"
    for key in ("config_files[0].merge", "config_files[1].optional", "permissions[0].recurse"):
        placed = rf"WARNING {CONFIG_FILES}/config\.json:\d+:\d+: {re.escape(key)}: {said}"
        assert re.search(placed, done.stderr)
    assert httpd.set_configs("--check").returncode == 0


ABSENT = ("/etc/nothing", "/etc/nothing/*", "/etc/dangling")


@pytest.mark.parametrize("path", ABSENT)
def test_a_number_as_perm_of_what_is_not_there(httpd: Sandbox, path: str) -> None:
    httpd.symlink("/nowhere", "/etc/dangling")
    rule = {"path": path, "owner": "nova", "optional": True, "perm": 420}
    httpd.document(document(permissions=[rule]))
    done = httpd.set_configs()
    assert done.returncode == 0
    assert 'permissions[0].perm: is a number: YAML reads an unquoted 0644 as 420; write "0644"' in (
        done.stderr
    )


@pytest.mark.parametrize("path", ["/etc/httpd", "/etc/httpd/c*", "/etc/made", "/etc/m*"])
def test_a_number_as_perm_of_what_is_or_will_be_there(httpd: Sandbox, path: str) -> None:
    httpd.source("made", "made")
    copy = entry("made", "/etc/made", "nova")
    rule = {"path": path, "owner": "nova", "perm": 420}
    httpd.document(json.dumps(document(copy, permissions=[rule])))
    httpd.mark()
    done = httpd.set_configs()
    assert (done.returncode, httpd.changes()) == (1, {})
    assert f"{CONFIG_FILES}/config.json:1:" in done.stderr
    assert 'permissions[0].perm: is a number: YAML reads an unquoted 0644 as 420; write "0644"' in (
        done.stderr
    )
    assert httpd.set_configs("--check").returncode == 2


def test_dev_null_is_an_empty_file(httpd: Sandbox) -> None:
    httpd.write("/etc/httpd/conf.d/ssl.conf", "the image's")
    httpd.symlink("/dev/null", f"{CONFIG_FILES}/tree/masked.conf")
    entries = [
        entry("/dev/null", "/etc/httpd/conf.d/ssl.conf", "apache"),
        entry("tree", "/etc/tree", "nova", "0640"),
    ]
    httpd.document(document(*entries))
    done = httpd.set_configs()
    assert done.returncode == 0, done.stderr
    for path, uid in (("/etc/httpd/conf.d/ssl.conf", APACHE), ("/etc/tree/masked.conf", NOVA)):
        status = httpd.stat(path)
        assert (stat.S_ISREG(status.st_mode), status.st_size, status.st_uid) == (True, 0, uid)
    quiet(httpd)
    httpd.write("/etc/httpd/conf.d/ssl.conf", "edited", owner="apache")
    assert httpd.set_configs("--check").returncode == 1
    httpd.document(document())
    assert httpd.set_configs().returncode == 0
    assert httpd.read("/etc/httpd/conf.d/ssl.conf") == "the image's"


# As they stand in a JSON or YAML document, and what to write is said of each.
_AS_BOOLEAN = "write true or false, without quotes"
BAD_VALUES: list[tuple[str, str, str, str]] = [
    *(
        (name, key, value, said)
        for name in ("json", "yaml")
        for key in ("merge", "optional")
        for value, said in (
            ('"false"', "write false, without quotes"),
            ('"no"', "write false, without quotes"),
            ('"maybe"', _AS_BOOLEAN),
            ("1", "write true or false"),
            ("0", "write true or false"),
        )
    ),
    ("json", "perm", "644", 'write "0644"'),
    ("json", "perm", "420", 'YAML reads an unquoted 0644 as 420; write "0644"'),
    ("json", "perm", "0o644", 'write a mode as a string: "0644"'),
    ("yaml", "perm", "644", 'write "0644"'),
    ("yaml", "perm", "0644", 'YAML reads an unquoted 0644 as 420; write "0644"'),
]


@pytest.mark.parametrize(("form", "key", "value", "said"), BAD_VALUES)
def test_values_that_are_refused(
    httpd: Sandbox, form: str, key: str, value: str, said: str
) -> None:
    httpd.source("a", "a")
    keys = {"owner": '"nova"', "perm": '"0600"', key: value}
    body = f'"source": "{CONFIG_FILES}/a", "dest": "/etc/a"'
    for name, written in keys.items():
        body += f',\n "{name}": {written}'
    text = f'{{"command": "/bin/true", "config_files": [{{{body}}}]}}'
    httpd.document(text, f"config.{form}")
    line, column = next(
        (number, before.index(value) + 1)
        for number, before in enumerate(text.splitlines(), 1)
        if f'"{key}": {value}' in before
    )
    httpd.mark()
    for command in (("kolla_start",), ("kolla_set_configs",), ("kolla_set_configs", "--check")):
        done = httpd.run(command, env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"})
        assert (done.returncode, httpd.changes()) == (1 + ("--check" in command), {})
        assert f"{CONFIG_FILES}/config.{form}:{line}:{column}: " in done.stderr
        assert done.stderr.rstrip().endswith(said)


def test_python_s_octal_is_a_string_in_yaml(httpd: Sandbox) -> None:
    """YAML 1.1, which PyYAML reads, knows 0644 and not 0o644."""
    httpd.source("a", "a")
    httpd.document(
        "command: /bin/true\nconfig_files:\n"
        f"- {{source: {CONFIG_FILES}/a, dest: /etc/a, owner: nova, perm: 0o644}}\n",
        "config.yaml",
    )
    assert httpd.set_configs().returncode == 0
    assert httpd.mode("/etc/a") == 0o644


REFUSED: dict[str, Entry] = {
    "another device": entry("/dev/zero", "/etc/zero"),
    "into a directory": entry("/dev/null", "/etc/httpd/"),
    "preserved": entry("/dev/null", "/etc/null", preserve_properties=True),
    "preserved, in a tree": entry("tree", "/etc/tree", preserve_properties=True),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_dev_null_is_not(httpd: Sandbox, name: str) -> None:
    httpd.symlink("/dev/null", f"{CONFIG_FILES}/tree/masked.conf")
    httpd.document(json.dumps(document(REFUSED[name])))
    httpd.mark()
    done = httpd.set_configs()
    assert (done.returncode, httpd.changes()) == (1, {})
    assert f"{CONFIG_FILES}/config.json:1:" in done.stderr
    assert "config_files[0]." in done.stderr
