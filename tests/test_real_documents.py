"""What documents of real deployments have, and a start takes as the replaced program did.

One test for each thing, from the document's point of view; where the answer differs, it is a row of
docs/differences.md.
"""

import json
import os
import stat

import pytest
from sandbox import CONFIG_FILES, Sandbox

NOVA, APACHE, KOLLA = 42436, 48, 42400


@pytest.fixture
def httpd(sandbox: Sandbox) -> Sandbox:
    """An image with Red Hat's httpd: /etc/httpd/run leads to /run/httpd, logs to /var/log/httpd."""
    sandbox.adduser("apache", APACHE)
    sandbox.adduser("nova", NOVA)
    sandbox.mkdir("/run/httpd", mode=0o710, owner="root:apache")
    sandbox.mkdir("/run/httpd/htcacheclean", mode=0o700)
    sandbox.mkdir("/var/log/httpd", mode=0o700)
    sandbox.write("/etc/httpd/conf/httpd.conf", "the image's")
    sandbox.symlink("../../run/httpd", "/etc/httpd/run")
    sandbox.symlink("../../var/log/httpd", "/etc/httpd/logs")
    sandbox.symlink("/nowhere", "/etc/httpd/state")
    sandbox.mark()
    return sandbox


def document(**sections: object) -> dict[str, object]:
    return {"command": "/bin/true", **sections}


def owner(box: Sandbox, path: str) -> tuple[int, int]:
    status = box.stat(path)
    return status.st_uid, status.st_gid


def quiet(box: Sandbox) -> None:
    """The next start finds nothing to do, and says nothing of trouble."""
    assert box.set_configs("--check").returncode == 0
    box.mark()
    done = box.set_configs()
    assert (done.returncode, box.changes()) == (0, {}), done.stderr
    assert "WARNING" not in done.stderr


# --- links of the image -------------------------------------------------------------------------


def test_an_image_s_link_that_the_entry_names_is_followed(httpd: Sandbox) -> None:
    rule = {"path": "/etc/httpd/run/", "owner": "nova:apache", "recurse": True}
    httpd.document(document(permissions=[rule]))
    assert httpd.set_configs().returncode == 0
    assert owner(httpd, "/run/httpd") == (NOVA, APACHE)
    assert owner(httpd, "/etc/httpd/run") == (0, 0)  # so that it is the image's next time
    assert owner(httpd, "/run/httpd/htcacheclean") == (0, 0)  # that one object, not what is in it
    assert httpd.mode("/run/httpd") == 0o710
    quiet(httpd)
    # And again, where the directory was made anew.
    httpd.chown("/run/httpd", "root")
    assert httpd.set_configs().returncode == 0
    assert owner(httpd, "/run/httpd") == (NOVA, APACHE)


def test_links_of_the_image_below_an_entry_are_followed_once(httpd: Sandbox) -> None:
    rule = {"path": "/etc/httpd", "owner": "nova:apache", "recurse": True, "perm": "0750"}
    httpd.document(document(permissions=[rule]))
    done = httpd.set_configs()
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    for path in ("/etc/httpd", "/etc/httpd/conf/httpd.conf", "/run/httpd", "/var/log/httpd"):
        assert owner(httpd, path) == (NOVA, APACHE)
        assert httpd.mode(path) == 0o750
    assert owner(httpd, "/run/httpd/htcacheclean") == (0, 0)
    assert {owner(httpd, f"/etc/httpd/{name}") for name in ("run", "logs", "state")} == {
        (NOVA, APACHE)
    }
    quiet(httpd)
    # /etc/httpd is the service's now: what a link in it leads to is nobody's business any more.
    httpd.remove("/etc/httpd/run")
    httpd.write("/srv/secret", "root's", mode=0o600)
    httpd.symlink("/srv/secret", "/etc/httpd/run", owner=(NOVA, APACHE))
    quiet(httpd)
    assert owner(httpd, "/srv/secret") == (0, 0)


def test_what_the_document_names_itself_is_not_reached_by_a_link(httpd: Sandbox) -> None:
    rules = [
        {"path": "/run/httpd", "owner": "root:apache", "perm": "0770"},
        {"path": "/etc/httpd", "owner": "nova:apache", "recurse": True},
    ]
    httpd.document(document(permissions=rules))
    assert httpd.set_configs().returncode == 0
    assert owner(httpd, "/run/httpd") == (0, APACHE)
    quiet(httpd)


def test_a_link_to_the_records_gives_nobody_the_records(httpd: Sandbox) -> None:
    httpd.symlink("/etc/kolla/defaults", "/etc/httpd/defaults")
    rule = {"path": "/etc/httpd", "owner": "nova:apache", "recurse": True}
    httpd.document(document(permissions=[rule]))
    for _ in range(2):
        assert httpd.set_configs().returncode == 0
        assert owner(httpd, "/etc/kolla/defaults") == (0, 0)


def test_a_log_that_is_a_link_to_standard_error(httpd: Sandbox) -> None:
    """As many images have it; the service may then open it, though it is root's pipe."""
    httpd.symlink("/dev/stderr", "/etc/httpd/error_log")
    rule = {"path": "/etc/httpd", "owner": "nova:apache", "recurse": True}
    httpd.document(document(permissions=[rule]))
    before, after = os.pipe()
    process = httpd.popen(
        ["kolla_set_configs"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}, stderr=after
    )
    assert process.wait(60) == 0
    assert os.fstat(after).st_uid == NOVA
    os.close(before)
    os.close(after)


def test_a_file_that_the_caller_opened_is_not_behind_such_a_link(httpd: Sandbox) -> None:
    """`sudo kolla_set_configs 2</etc/passwd` is the service's to type."""
    httpd.symlink("/dev/stderr", "/etc/httpd/error_log")
    httpd.symlink("/dev/null", "/etc/httpd/null")
    httpd.document(
        document(permissions=[{"path": "/etc/httpd/*", "owner": "nova", "perm": "0640"}])
    )
    with open(httpd.host("/etc/passwd")) as theirs:
        process = httpd.popen(
            ["kolla_set_configs"], env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}, stderr=theirs
        )
        assert process.wait(60) == 0
    assert owner(httpd, "/etc/passwd") == (0, 0)
    assert (owner(httpd, "/dev/null"), httpd.mode("/dev/null")) == ((0, 0), 0o666)
    assert owner(httpd, "/run/httpd")[0] == NOVA


def test_a_link_of_the_service_s_does_not_become_the_image_s(httpd: Sandbox) -> None:
    """Not by a document that gives its directory to root: a later one would follow it."""
    httpd.write("/srv/secret", "root's", mode=0o600)
    httpd.mkdir("/var/lib/app", owner="nova")
    httpd.symlink("/srv/secret", "/var/lib/app/link", owner="nova")
    rule = {"path": "/var/lib/app", "owner": "root", "perm": "0644", "recurse": True}
    for owned_by in ("root", "root", "nova"):
        httpd.document(document(permissions=[{**rule, "owner": owned_by}]))
        assert httpd.set_configs().returncode == 0
        assert owner(httpd, "/var/lib/app/link") == (NOVA, NOVA)
        quiet(httpd)
        assert (owner(httpd, "/srv/secret"), httpd.mode("/srv/secret")) == ((0, 0), 0o600)


LOOPS = {
    "permissions": {"path": "/etc/httpd/loop", "owner": "nova", "recurse": True},
    "directories": {"path": "/etc/httpd/loop", "owner": "nova", "perm": "0755"},
    "config_files": {
        "source": f"{CONFIG_FILES}/a", "dest": "/etc/httpd/loop/a", "owner": "nova", "perm": "0600",
    },
}  # fmt: skip


@pytest.mark.parametrize("section", LOOPS)
def test_a_link_of_the_image_in_a_circle(httpd: Sandbox, section: str) -> None:
    httpd.symlink("back", "/etc/httpd/loop")
    httpd.symlink("../httpd/loop", "/etc/httpd/back")
    httpd.source("a", "a")
    httpd.document(json.dumps(document(**{section: [LOOPS[section]]})))
    httpd.mark()
    done = httpd.set_configs()
    assert (done.returncode, httpd.changes()) == (1, {})
    key = "dest" if section == "config_files" else "path"
    assert f"{CONFIG_FILES}/config.json:1:" in done.stderr
    assert f"{section}[0].{key}: /etc/httpd/loop" in done.stderr
    assert done.stderr.rstrip().rpartition("; ")[2]  # what to do


def test_the_service_s_own_circle_is_no_obstacle(httpd: Sandbox) -> None:
    httpd.mkdir("/var/log/nova", owner="nova")
    httpd.symlink("loop", "/var/log/nova/loop", owner="nova")
    httpd.document(document(permissions=[{"path": "/var/log/nova/loop", "owner": "nova"}]))
    assert httpd.set_configs().returncode == 0


# --- values -------------------------------------------------------------------------------------


def test_booleans_as_strings(httpd: Sandbox) -> None:
    """The documents of MariaDB on OpenShift."""
    httpd.source("tree/a", "a")
    httpd.write("/etc/tree/b", "the image's")
    copy = {
        "source": f"{CONFIG_FILES}/tree", "dest": "/etc/tree", "owner": "nova", "perm": "0600",
        "merge": "true", "optional": "yes",
    }  # fmt: skip
    missing = {**copy, "source": f"{CONFIG_FILES}/missing", "dest": "/etc/x", "optional": "True"}
    rule = {"path": "/etc/httpd", "owner": "nova", "recurse": "true"}
    httpd.document(document(config_files=[copy, missing], permissions=[rule]))
    done = httpd.set_configs()
    assert done.returncode == 0
    assert httpd.read("/etc/tree/b") == "the image's"
    assert owner(httpd, "/etc/httpd/conf/httpd.conf") == (NOVA, NOVA)
    said = "is a string, taken for true; write true, without quotes"
    for key in ("config_files[0].merge", "config_files[1].optional", "permissions[0].recurse"):
        assert f"WARNING {CONFIG_FILES}/config.json: {key}: {said}" in done.stderr
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
    copy = {
        "source": f"{CONFIG_FILES}/made", "dest": "/etc/made", "owner": "nova", "perm": "0600",
    }  # fmt: skip
    rule = {"path": path, "owner": "nova", "perm": 420}
    httpd.document(json.dumps(document(config_files=[copy], permissions=[rule])))
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
        {"source": "/dev/null", "dest": "/etc/httpd/conf.d/ssl.conf", "owner": "apache",
         "perm": "0644"},
        {"source": f"{CONFIG_FILES}/tree", "dest": "/etc/tree", "owner": "nova", "perm": "0640"},
    ]  # fmt: skip
    httpd.document(document(config_files=entries))
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
    entry = f'"source": "{CONFIG_FILES}/a", "dest": "/etc/a"'
    for name, written in keys.items():
        entry += f',\n "{name}": {written}'
    text = f'{{"command": "/bin/true", "config_files": [{{{entry}}}]}}'
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


REFUSED: dict[str, dict[str, object]] = {
    "another device": {"source": "/dev/zero", "dest": "/etc/zero"},
    "into a directory": {"source": "/dev/null", "dest": "/etc/httpd/"},
    "preserved": {"source": "/dev/null", "dest": "/etc/null", "preserve_properties": True},
    "preserved, in a tree": {
        "source": f"{CONFIG_FILES}/tree", "dest": "/etc/tree", "preserve_properties": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_dev_null_is_not(httpd: Sandbox, name: str) -> None:
    httpd.symlink("/dev/null", f"{CONFIG_FILES}/tree/masked.conf")
    entry = {"owner": "nova", "perm": "0600", **REFUSED[name]}
    httpd.document(json.dumps(document(config_files=[entry])))
    httpd.mark()
    done = httpd.set_configs()
    assert (done.returncode, httpd.changes()) == (1, {})
    assert f"{CONFIG_FILES}/config.json:1:" in done.stderr
    assert "config_files[0]." in done.stderr


REACHING: dict[str, list[dict[str, object]]] = {
    "config_files": [
        {
            "source": f"{CONFIG_FILES}/tree",
            "dest": dest,
            "owner": "nova",
            "perm": "0644",
            "merge": True,
            "path": dest,
        }
        for dest in ("/etc/kolla", "/etc", "/run")
    ],
    "directories": [
        {"path": "/etc/kolla", "owner": "nova", "perm": "0755"},
        {"path": "/etc/kolla/defaults/x", "owner": "root", "perm": "0755"},
        {"path": "/run", "owner": "root", "perm": "0777"},
    ],
    "files": [{"path": "/run_command", "owner": "nova", "perm": "0644"}],
    "permissions": [
        {"path": "/etc/kolla", "owner": "nova"},
        {"path": "/etc/k*", "owner": "nova"},
        {"path": "/", "owner": "root", "recurse": True},
        {"path": "/etc/kolla/defaults", "owner": "root"},
        {"path": "/records", "owner": "nova"},
    ],
}


@pytest.mark.parametrize(
    ("section", "entry"), [(name, entry) for name, found in REACHING.items() for entry in found]
)
def test_no_section_reaches_the_records(
    httpd: Sandbox, section: str, entry: dict[str, object]
) -> None:
    httpd.symlink("/etc/kolla", "/records")
    httpd.source("tree/a", "a")
    httpd.document(document())
    assert httpd.set_configs().returncode == 0
    asked = {key: value for key, value in entry.items() if key != "path" or "dest" not in entry}
    httpd.document(json.dumps(document(**{section: [asked]})))
    httpd.mark()
    done = httpd.set_configs()
    if entry["path"] == "/records":  # a link itself; what it leads to is not given away
        assert done.returncode == 0
        assert owner(httpd, "/etc/kolla") == (0, 0)
        return
    assert (done.returncode, httpd.changes()) == (1, {})
    assert "what this program remembers; name a path beside it" in done.stderr
    assert f"{CONFIG_FILES}/config.json:1:" in done.stderr


def test_copy_once_is_not_done_while_permissions_fail(httpd: Sandbox) -> None:
    httpd.write("/srv/read-only/file", "x")
    httpd.run(["mount", "--bind", "/srv/read-only", "/srv/read-only"], check=True)
    httpd.run(["mount", "-o", "remount,bind,ro", "/srv/read-only"], check=True)
    rule = {"path": "/srv/read-only", "owner": "nova", "recurse": True}
    httpd.document(document(permissions=[rule]))
    done = httpd.set_configs(strategy="COPY_ONCE")
    assert done.returncode == 0
    assert "/srv/read-only/file: Read-only file system" in done.stderr
    assert done.stderr.rstrip().endswith(
        "COPY_ONCE is not done: the next start tries what failed again"
    )
    assert not httpd.exists("/configured")
    httpd.run(["umount", "/srv/read-only"], check=True)
    assert httpd.set_configs(strategy="COPY_ONCE").returncode == 0
    assert owner(httpd, "/srv/read-only/file") == (NOVA, NOVA)
    assert httpd.exists("/configured")


# --- the shared log tree ------------------------------------------------------------------------


def test_the_shared_log_tree_is_given_out_at_every_start(sandbox: Sandbox) -> None:
    """kolla-ansible 23: one volume of fluentd's, in it each service's directory, its logs in it."""
    for user in ("fluentd", "nova", "keystone"):
        sandbox.adduser(user, groups=["kolla"])
    logs = "/var/log/kolla"
    made = {"path": f"{logs}/nova/nova-manage.log", "owner": "nova:kolla", "perm": "0664"}
    nova = document(
        directories=[
            {"path": logs, "owner": "fluentd:kolla", "perm": "2775"},
            {"path": f"{logs}/nova", "owner": "nova:kolla", "perm": "2775"},
        ],
        files=[made],
        permissions=[{"path": f"{logs}/nova/*.log", "owner": "nova:kolla", "perm": "0664"}],
    )
    keystone = json.loads(json.dumps(nova).replace("nova", "keystone"))
    uids = {user: sandbox.ids(user)[0] for user in ("fluentd", "nova", "keystone")}
    for turn in range(3):
        for service, content in (("nova", nova), ("keystone", keystone)):
            if turn:
                # What a command of the image left that was run as root, under a umask of 077.
                left = f"{logs}/{service}/db-sync.log"
                sandbox.write(left, "x", mode=0o600)
            sandbox.document(content)
            done = sandbox.set_configs()
            assert done.returncode == 0
            assert "WARNING" not in done.stderr
            assert owner(sandbox, logs) == (uids["fluentd"], KOLLA)
            assert owner(sandbox, f"{logs}/{service}") == (uids[service], KOLLA)
            assert sandbox.mode(f"{logs}/{service}") == 0o2775
            for path in os.listdir(sandbox.host(f"{logs}/{service}")):
                assert owner(sandbox, f"{logs}/{service}/{path}") == (uids[service], KOLLA)
                assert sandbox.mode(f"{logs}/{service}/{path}") == 0o664
            quiet(sandbox)


def test_the_data_of_a_service_whose_uid_changed(httpd: Sandbox) -> None:
    """An image with other numbers: what was the old user's alone is the new one's, also private."""
    for path in ("/var/lib/nova", "/var/lib/nova/instances"):
        httpd.mkdir(path, mode=0o700, owner=(162, 162))
    httpd.write("/var/lib/nova/instances/disk", "x", owner=(162, 162), mode=0o600)
    os.link(
        httpd.host("/var/lib/nova/instances/disk"), httpd.host("/var/lib/nova/instances/second")
    )
    made = {"path": "/var/lib/nova", "owner": "nova", "perm": "0750"}
    rule = {"path": "/var/lib/nova", "owner": "nova:nova", "recurse": True}
    httpd.document(document(directories=[made], permissions=[rule]))
    done = httpd.set_configs()
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    for path in ("", "/instances", "/instances/disk", "/instances/second"):
        assert owner(httpd, f"/var/lib/nova{path}") == (NOVA, NOVA)
    quiet(httpd)


def test_a_log_that_is_named_alone_in_a_tree_of_others(sandbox: Sandbox) -> None:
    """As keystone's document of kolla-ansible 22 has it: its directory is named by nobody."""
    for user in ("fluentd", "keystone"):
        sandbox.adduser(user, groups=["kolla"])
    sandbox.mkdir("/var/log/kolla", mode=0o2775, owner="fluentd:kolla")
    sandbox.mkdir("/var/log/kolla/keystone", owner="keystone")
    log = "/var/log/kolla/keystone/keystone.log"
    sandbox.write(log, "x", mode=0o600)
    rules = [
        {"path": "/var/log/kolla", "owner": "keystone:kolla"},
        {"path": log, "owner": "keystone:keystone"},
    ]
    made = {"path": f"{log}.1", "owner": "keystone", "perm": "0640"}
    sandbox.document(document(permissions=rules, files=[made]))
    done = sandbox.set_configs()
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    assert owner(sandbox, log)[0] == owner(sandbox, f"{log}.1")[0] == sandbox.ids("keystone")[0]
    quiet(sandbox)
    # And when fluentd's container has taken the directory back.
    sandbox.chown("/var/log/kolla", "fluentd:kolla")
    assert sandbox.set_configs().returncode == 0
    quiet(sandbox)


def test_a_pattern_behind_a_link_of_the_image_finds_what_is_copied_there(httpd: Sandbox) -> None:
    httpd.mkdir("/opt/real")
    httpd.symlink("real", "/opt/link")
    httpd.write("/opt/file", "the image's, and to be a directory")
    httpd.source("a", "a")
    httpd.source("tree/g", "g")
    entry = {"source": f"{CONFIG_FILES}/a", "dest": "/opt/link/a", "owner": "root", "perm": "0600"}
    tree = {**entry, "source": f"{CONFIG_FILES}/tree", "dest": "/opt/file"}
    rules = [
        {"path": "/opt/link/*", "owner": "nova", "perm": "0640"},
        {"path": "/opt/file/g", "owner": "nova", "perm": "0640"},
    ]
    httpd.document(document(config_files=[entry, tree], permissions=rules))
    done = httpd.set_configs()
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    for path in ("/opt/real/a", "/opt/file/g"):
        assert (owner(httpd, path)[0], httpd.mode(path)) == (NOVA, 0o640)
    quiet(httpd)
