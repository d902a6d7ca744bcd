"""The documents under examples/: valid, and carried out with their own files in a sandbox."""

import json
import re

import pytest
from sandbox import CONFIG_FILES, TREE, Sandbox

EXAMPLES = sorted(path.parent.name for path in TREE.glob("examples/*/config.json"))


def mount(sandbox: Sandbox, name: str) -> None:
    for path in (TREE / "examples" / name).iterdir():
        sandbox.write(f"{CONFIG_FILES}/{path.name}", path.read_bytes())


def test_all_are_there() -> None:
    assert EXAMPLES == ["memcached", "neutron-server", "nova-compute"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_valid(sandbox: Sandbox, name: str) -> None:
    mount(sandbox, name)
    done = sandbox.run(["kolla_config", "validate", f"{CONFIG_FILES}/config.json"])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "user"), [("nova-compute", "nova"), ("neutron-server", "neutron")]
)
def test_carried_out(sandbox: Sandbox, name: str, user: str) -> None:
    mount(sandbox, name)
    sandbox.adduser(user)
    sandbox.mkdir(f"/var/log/kolla/{user}")
    document = json.loads(sandbox.read(f"{CONFIG_FILES}/config.json"))
    done = sandbox.set_configs()
    assert done.returncode == 0, done.stderr
    for entry in document["config_files"]:
        if entry.get("optional") and not sandbox.exists(entry["source"]):
            continue
        if entry["dest"].endswith("/"):
            continue
        there = sandbox.stat(entry["dest"])
        owner, _, group = entry["owner"].partition(":")
        ids = sandbox.ids(owner)[0], sandbox.ids(group or owner)[1]
        assert (there.st_uid, there.st_gid) == ids
        assert sandbox.mode(entry["dest"]) == int(entry["perm"], 8)
        assert sandbox.read(entry["dest"]) == sandbox.read(entry["source"])
    # The command names files that are there now.
    for path in re.findall(r"--config-file (\S+)", document["command"]):
        assert sandbox.exists(path)
    assert sandbox.set_configs("--check").returncode == 0


def test_a_pattern_fills_a_directory(sandbox: Sandbox) -> None:
    mount(sandbox, "neutron-server")
    sandbox.adduser("neutron")
    assert sandbox.set_configs().returncode == 0
    for name in ("ml2_conf_sriov.ini", "ml2_conf_arista.ini"):
        assert sandbox.mode(f"/etc/neutron/plugins/ml2/{name}") == 0o600
