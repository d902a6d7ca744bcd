"""Kolla's way in a sandbox: the image's user, sudo with Kolla's rules, a hostile environment.

The same inside an engine's container: test_container.py.
"""

import shutil

import peer
import pytest
from sandbox import CONFIG_FILES, Change, Sandbox

pytestmark = [
    pytest.mark.skipif(peer.missing() is not None, reason=str(peer.missing())),
    pytest.mark.skipif(shutil.which("sudo") is None, reason="needs the package sudo"),
]

EVIL = "/var/lib/nova/evil"
# Leaves its mark if it ever runs, and says as whom.
MARK = f"echo $0 >> {EVIL}/ran.$(/usr/bin/id -u)"
PYTHON_MARK = f"import os\nopen(f'{EVIL}/ran.{{os.getuid()}}', 'a').write(__file__)\n"
BY_HAND = "sudo -E kolla_set_configs && sudo -E kolla_copy_cacerts && id -un"


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    """An image for nova with something to configure."""
    peer.service_user(sandbox)
    sandbox.write("/usr/sbin/update-ca-certificates", "#!/bin/sh\ntouch /updated\n", mode=0o755)
    sandbox.source("nova.conf", "[DEFAULT]\n")
    sandbox.write(f"{CONFIG_FILES}/ca-certificates/ca.crt", "certificate\n")
    sandbox.mkdir("/var/log/kolla/nova")
    sandbox.document(
        {
            "command": "sh -c id",
            "config_files": [
                {
                    "source": f"{CONFIG_FILES}/nova.conf",
                    "dest": "/etc/nova/nova.conf",
                    "owner": "nova",
                    "perm": "0600",
                }
            ],
            "permissions": [{"path": "/var/log/kolla/nova", "owner": "nova", "recurse": True}],
        }
    )
    return sandbox


def test_started_as_the_image_s_user(box: Sandbox) -> None:
    done = box.start(user="nova")
    assert done.returncode == 0, done.stderr
    assert "(nova)" in done.stdout
    assert box.stat("/etc/nova/nova.conf").st_uid == box.ids("nova")[0]
    assert box.mode("/etc/nova/nova.conf") == 0o600
    assert box.stat("/run_command").st_uid == 0
    assert (
        box.set_configs("--check").returncode == 0
    )  # as kolla-ansible does, root in the container


def test_by_hand_as_bootstrap_containers_do(box: Sandbox) -> None:
    env = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS", "KOLLA_BOOTSTRAP": ""}
    done = box.run(["bash", "-c", BY_HAND], user="nova", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "nova\n"
    assert box.read("/etc/nova/nova.conf") == "[DEFAULT]\n"
    assert box.exists("/usr/local/share/ca-certificates/kolla-customca-ca.crt")
    box.remove("/run_command")
    box.source("broken", "")
    box.document("{")
    assert box.run(["bash", "-c", BY_HAND], user="nova", env=env).returncode == 1


def test_no_other_command_through_sudo(box: Sandbox) -> None:
    for argv in (["id"], ["kolla_start"], ["kolla_config", "plan"], ["/usr/bin/python3"]):
        assert box.run(["sudo", "-n", *argv], user="nova").returncode == 1


def hostile(box: Sandbox) -> dict[str, str]:
    """Plants programs and modules that leave a mark, and the variables that lead to them."""
    box.mkdir(EVIL, mode=0o777, owner="nova")
    modules = "sitecustomize usercustomize os stat json kolla_start.__init__ kolla_start.start yaml"
    for module in (*modules.split(), "_json", "encodings.__init__", "pwd", "pip.__main__"):
        box.write(f"{EVIL}/python/{module.replace('.', '/')}.py", PYTHON_MARK, owner="nova")
    for site in (".local/lib/python3.11/site-packages", "lib/python3.11/site-packages"):
        box.write(f"{EVIL}/home/{site}/usercustomize.py", PYTHON_MARK, owner="nova")
        box.write(f"{EVIL}/home/{site}/x.pth", "import usercustomize\n", owner="nova")
    box.write(f"{EVIL}/startup", PYTHON_MARK, owner="nova")
    box.write(f"{EVIL}/bash_env", f"{MARK}\n", owner="nova")
    box.write(f"{EVIL}/home/.bashrc", f"{MARK}\n", owner="nova")
    box.write(f"{EVIL}/home/.profile", f"{MARK}\n", owner="nova")
    box.write(f"{EVIL}/preload.so", b"\x7fELF", owner="nova")
    box.write(f"{EVIL}/config.json", '{"command": "evil"}', owner="nova")
    programs = "python python3 python3.11 bash sh env cat find grep pip update-ca-certificates"
    for program in (*programs.split(), "update-ca-trust", "kolla_copy_cacerts", "id"):
        script = f'#!/bin/sh\n{MARK}\nexec /usr/bin/{program} "$@"\n'
        box.write(f"{EVIL}/bin/{program}", script, owner="nova", mode=0o755)
    return {
        "PATH": f"{EVIL}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": f"{EVIL}/home",
        "PYTHONPATH": f"{EVIL}/python",
        "PYTHONHOME": f"{EVIL}/home",
        "PYTHONUSERBASE": f"{EVIL}/home/.local",
        "PYTHONSTARTUP": f"{EVIL}/startup",
        "PYTHONINSPECT": "1",
        "PYTHONBREAKPOINT": "sitecustomize",
        "PYTHONWARNINGS": "error",
        "PYTHONPLATLIBDIR": f"{EVIL}/python",
        "PYTHONEXECUTABLE": f"{EVIL}/bin/python",
        "PYTHONPYCACHEPREFIX": f"{EVIL}/cache",
        "LD_PRELOAD": f"{EVIL}/preload.so",
        "LD_LIBRARY_PATH": f"{EVIL}/python",
        "BASH_ENV": f"{EVIL}/bash_env",
        "ENV": f"{EVIL}/bash_env",
        "BASH_FUNC_id%%": f"() {{ {MARK}; }}",
        "IFS": "/",
        "PIP_INDEX_URL": f"file://{EVIL}",
        "SSL_CERT_FILE": f"{EVIL}/ca",
        "TMPDIR": f"{EVIL}/tmp",
        "KOLLA_CONFIG": '{"command": "evil"}',
        "KOLLA_CONFIG_FILE": f"{EVIL}/config.json",
        "KOLLA_CONFIG_PATH": EVIL,
        "KOLLA_CONFIG_FILES": EVIL,
        "KOLLA_DEFAULTS": f"{EVIL}/defaults",
        "KOLLA_SERVICE_USER": "root",
        "KOLLA_SERVICE_NAME": "evil",
        "KOLLA_BASE_DISTRO": "rocky",
        "KOLLA_INSTALL_TYPE": "source",
        "KOLLA_SKIP_EXTEND_START": "1",
        "KOLLA_SKIP_LOG_SETUP": "1",
        "KOLLA_BOOTSTRAP": "1",
        "KOLLA_UPGRADE": "1",
        "KOLLA_DEBUG": "1",
    }


def left(box: Sandbox) -> dict[str, Change]:
    return {
        path: change
        for path, change in box.changes().items()
        if not path.startswith(("/var/lib/nova/evil", "/run/sudo", "/var/lib/sudo"))
    }


COMMANDS = ("kolla_set_configs", "kolla_copy_cacerts", "kolla_install_projects")


@pytest.mark.parametrize("keep", [["-E"], []], ids=["sudo -E", "sudo"])
def test_the_caller_s_environment_decides_nothing(box: Sandbox, keep: list[str]) -> None:
    """What root does is the same, whatever the service user sets; nothing of his runs as root."""
    strategy = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    evil = hostile(box)
    box.mark()
    outcomes = []
    for environment in ({}, evil):
        codes = []
        for command in COMMANDS:
            done = box.run(
                ["/usr/bin/sudo", *keep, *_passed(keep, strategy), f"/usr/local/bin/{command}"],
                user="nova",
                env={**environment, **strategy},
            )
            # The dynamic linker would say that what it was told to load is no library.
            assert "preload" not in done.stderr
            codes.append(done.returncode)
        outcomes.append((codes, left(box)))
        for path in ("/etc/kolla", "/etc/nova", "/run_command", "/updated", "/var/log/kolla/nova"):
            box.remove(path)
        box.mkdir("/var/log/kolla/nova")
        box.remove("/usr/local/share/ca-certificates/kolla-customca-ca.crt")
    assert outcomes[0][0] == [0, 0, 0]
    assert outcomes[0][0] == outcomes[1][0]
    friendly, attacked = outcomes[0][1], outcomes[1][1]
    assert {path for path in friendly if friendly[path] != attacked.get(path)} == set()
    assert attacked.keys() == friendly.keys()
    assert "/etc/nova/nova.conf" in outcomes[0][1]
    assert not box.exists(f"{EVIL}/ran.0")


def _passed(keep: list[str], strategy: dict[str, str]) -> list[str]:
    """Without -E the strategy has to be said."""
    return [] if keep else [f"{name}={value}" for name, value in strategy.items()]


def test_a_whole_start_in_a_hostile_environment(box: Sandbox) -> None:
    """The service user may ruin his own service; nothing of his runs as root."""
    done = box.run(
        ["/usr/local/bin/kolla_start"],
        user="nova",
        env={**hostile(box), "KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"},
    )
    assert "evil" not in box.read("/run_command"), done.stderr
    assert box.read("/etc/nova/nova.conf") == "[DEFAULT]\n"
    assert not box.exists(f"{EVIL}/ran.0")
