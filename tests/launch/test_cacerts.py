"""CA certificates: installed, replaced, removed, and the update command that is run for it.

Which of them are the operator's: test_certificates.py.
"""

import os
import shutil
import subprocess

import pytest
from certificates import ANCHORS, COPY_CACERTS, MOUNTED, PENDING, Certificates
from launched import OPTIONS, PATH, Done, as_root
from sandbox import CONFIG_FILES, PYTHON, Sandbox


@as_root
@pytest.mark.parametrize("red_hat", [False, True], ids=["Debian", "Red Hat"])
def test_certificates_installed_replaced_removed(sandbox: Sandbox, red_hat: bool) -> None:
    certificates = Certificates(sandbox, red_hat)
    sandbox.write(f"{certificates.anchors}/site.crt", "not ours")
    other = {"site.crt": "not ours"}

    def step(expected: dict[str, str], updates: int) -> Done:
        assert certificates.needed() == (updates > certificates.updates())
        done = certificates.copy()
        assert done.returncode == 0, done.stderr
        assert certificates.installed() == expected | other
        assert certificates.updates() == updates
        assert not certificates.needed()
        assert not sandbox.exists(PENDING)
        return done

    step({}, 0)
    sandbox.mkdir(MOUNTED)
    step({}, 0)
    sandbox.write(f"{MOUNTED}/a.crt", "A", mode=0o600)
    sandbox.write(f"{MOUNTED}/with blank.crt", "B")
    sandbox.write(f"{MOUNTED}/.hidden", "C")
    sandbox.mkdir(f"{MOUNTED}/directory")
    sandbox.symlink("nowhere", f"{MOUNTED}/broken.crt")
    sandbox.chmod(f"{MOUNTED}/a.crt", 0o644)
    both = {"kolla-customca-a.crt": "A", "kolla-customca-with blank.crt": "B"}
    done = step(both, 1)
    assert "2 installed, 0 removed" in done.stderr
    assert "directory: not a regular file" in done.stderr
    assert "broken.crt: is a link that leads nowhere" in done.stderr
    assert "update ran" in done.stderr
    assert not done.stdout
    path = f"{certificates.anchors}/kolla-customca-a.crt"
    status = sandbox.stat(path)
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o644, 0, 0)
    step(both, 1)
    assert sandbox.stat(path).st_ino == status.st_ino
    sandbox.write(f"{MOUNTED}/a.crt", "a")
    step(both | {"kolla-customca-a.crt": "a"}, 2)
    sandbox.chmod(path, 0o600)
    step(both | {"kolla-customca-a.crt": "a"}, 3)
    sandbox.remove(f"{MOUNTED}/a.crt")
    sandbox.write(f"{certificates.anchors}/kolla-old.crt", "from the image")
    step({"kolla-customca-with blank.crt": "B"}, 4)
    sandbox.remove(MOUNTED)
    step({}, 5)


@as_root
def test_an_update_that_failed_or_was_killed_is_mended(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    sandbox.write(f"{MOUNTED}/a.crt", "A")
    sandbox.write("/update-fails")
    done = certificates.copy()
    assert done.returncode == 1
    assert "update-ca-certificates failed with exit code 1" in done.stderr
    assert sandbox.exists(PENDING)
    assert certificates.needed()
    sandbox.remove("/update-fails")
    assert certificates.copy().returncode == 0
    assert certificates.updates() == 2
    assert certificates.copy().returncode == 0
    assert certificates.updates() == 2


@as_root
def test_the_update_command_does_not_inherit_the_service_s_umask(sandbox: Sandbox) -> None:
    Certificates(sandbox)
    sandbox.write(f"{MOUNTED}/a.crt", "A")
    sandbox.document({"command": "/bin/true"})
    environ = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    done = sandbox.run(["kolla_start"], env=environ, umask=0o077)
    assert done.returncode == 0, done.stderr
    assert sandbox.mode("/updates") == 0o644


@as_root
def test_certificates_where_they_cannot_be_installed(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    assert certificates.copy(user="nobody").returncode == 0
    sandbox.remove("/etc/debian_version")
    assert certificates.copy().returncode == 0  # nothing to do: upstream's start ends here
    sandbox.write(f"{MOUNTED}/a.crt", "A")

    def refused(message: str, user: str | None = None) -> None:
        done = certificates.copy(user=user)
        assert done.returncode == 1
        assert message in done.stderr

    refused("neither a Debian nor a Red Hat")
    sandbox.write("/etc/debian_version", "12")
    refused("start the container as root", user="nobody")
    sandbox.remove("/usr/sbin/update-ca-certificates")
    refused("is missing; install")
    assert not certificates.installed()
    assert not sandbox.exists(PENDING)


@as_root
def test_nothing_of_the_caller_reaches_the_update_command(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    sandbox.write(f"{MOUNTED}/a.crt", "A")
    hostile = {"PATH": "/tmp/evil", "LD_PRELOAD": "", "HOME": "/tmp", "BASH_ENV": "/x", "A": "b"}
    assert certificates.copy(env=hostile).returncode == 0
    given = dict(line.split("=", 1) for line in sandbox.read("/update-environment").splitlines())
    given.pop("PWD", None)  # the stand-in's shell
    assert given == {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"}


@as_root
@pytest.mark.skipif(
    not all(map(shutil.which, ("update-ca-certificates", "openssl"))),
    reason="needs the packages ca-certificates and openssl",
)
def test_with_the_real_update_command(sandbox: Sandbox) -> None:
    argv = [PYTHON, OPTIONS, "-c", COPY_CACERTS]

    def links() -> set[str]:
        place = sandbox.host("/etc/ssl/certs")
        found = {
            name: os.readlink(f"{place}/{name}")
            for name in os.listdir(place)
            if os.path.islink(f"{place}/{name}")
        }
        return {name for name, target in found.items() if "kolla-customca" in name + target}

    hashes = []
    for subject in ("one", "two"):
        made = subprocess.run(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
            f"-keyout /dev/null -subj /CN={subject}".split(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        sandbox.write(f"{MOUNTED}/ours.crt", made)
        sandbox.run(argv, check=True)
        assert made.strip() in sandbox.read("/etc/ssl/certs/ca-certificates.crt")
        assert "kolla-customca-ours.pem" in links()
        hashes.append(links() - {"kolla-customca-ours.pem"})
    assert len(hashes[0]) == len(hashes[1]) == 1
    assert hashes[0] != hashes[1]
    sandbox.remove(MOUNTED)
    sandbox.run(argv, check=True)
    assert links() == set()


@as_root
def test_a_service_that_holds_a_lock_stops_nobody(sandbox: Sandbox) -> None:
    """flock(2) takes whatever descriptor there is: what a service can open it can hold for ever."""
    certificates = Certificates(sandbox)
    sandbox.write(f"{MOUNTED}/a.crt", "A")
    assert certificates.copy().returncode == 0
    held = f"{ANCHORS} {ANCHORS}/kolla-customca-a.crt {CONFIG_FILES} /etc/kolla /etc /"
    hold = "import fcntl, os, sys, time\n"
    hold += f"for path in {held.split()}:\n"
    hold += "    fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX)\n"
    hold += "print(flush=True); time.sleep(60)"
    holder = sandbox.popen([PYTHON, "-ISc", hold], user="nobody")
    try:
        assert holder.stdout and holder.stdout.readline() == "\n"
        sandbox.write(f"{MOUNTED}/b.crt", "B")
        done = sandbox.run([PYTHON, OPTIONS, "-c", COPY_CACERTS], timeout=20)
        assert done.returncode == 0, done.stderr
    finally:
        holder.kill()
        holder.communicate()
    assert certificates.updates() == 2
    lock = sandbox.stat("/etc/kolla/defaults/lock")
    assert (lock.st_uid, lock.st_mode & 0o7777) == (0, 0o600)
    assert sandbox.mode("/etc/kolla/defaults") == 0o700


@as_root
def test_two_runs_at_once_take_turns(sandbox: Sandbox) -> None:
    certificates = Certificates(sandbox)
    sandbox.write(f"{MOUNTED}/a.crt", "A")
    update = "#!/bin/sh\nmkdir /running || exit 9\nsleep 0.5\nrmdir /running\necho run >>/updates\n"
    sandbox.write("/usr/sbin/update-ca-certificates", update, mode=0o755)
    runs = [sandbox.popen([PYTHON, OPTIONS, "-c", COPY_CACERTS]) for _ in range(3)]
    for run in runs:
        _, stderr = run.communicate(timeout=30)
        assert run.returncode == 0, stderr
    assert certificates.updates() == 1
