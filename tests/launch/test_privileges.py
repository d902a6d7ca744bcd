"""Becoming the service's user, for good: real processes, read from /proc after exec."""

import os
import pwd
from collections.abc import Callable
from pathlib import Path

import pytest
from launched import OPTIONS, TREE, Done, as_root, path_with, said, script, start
from sandbox import Sandbox


def become(work: Path, call: str, before: Callable[[], None] | None = None) -> Done:
    then = (
        f"account = privileges.drop({call})\n"
        "environ.update(account.environment() if account else {})"
    )
    return start("report", then=then, env=path_with(work, HOME="/root"), before=before)


def capability_sets(status: dict[str, list[str]]) -> dict[str, int]:
    return {key: int(status[key][0], 16) for key in ("CapInh", "CapPrm", "CapEff", "CapAmb")}


@as_root
@pytest.mark.parametrize(
    ("user", "uid", "gid", "name", "home"),
    [
        ("nobody", 65534, 65534, "nobody", "/nonexistent"),
        ("daemon", 1, 1, "daemon", "/usr/sbin"),
        ("daemon:bin", 1, 2, "daemon", "/usr/sbin"),
        ("daemon:root", 1, 0, "daemon", "/usr/sbin"),
        ("1", 1, 1, "daemon", "/usr/sbin"),
        ("1:2", 1, 2, "daemon", "/usr/sbin"),
        ("54321:12345", 54321, 12345, "54321", "/"),
    ],
)
def test_dropping_to_a_user(
    work: Path, user: str, uid: int, gid: int, name: str, home: str
) -> None:
    for text in ("", ":\n"):
        script(work, text)
        found = said(become(work, repr(user)))
        status, environ = found["status"], found["environ"]
        assert isinstance(status, dict)
        assert isinstance(environ, dict)
        assert status["Uid"] == [str(uid)] * 4
        assert status["Gid"] == [str(gid)] * 4
        groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid) if uid != 54321 else [gid]
        assert sorted(map(int, status["Groups"])) == sorted(set(groups))
        assert not any(capability_sets(status).values())
        assert status["NoNewPrivs"] == ["0"]
        assert (environ["HOME"], environ["USER"], environ["LOGNAME"]) == (home, name, name)


@as_root
def test_supplementary_groups_come_from_the_database(sandbox: Sandbox) -> None:
    sandbox.write(
        "/etc/group", sandbox.read("/etc/group") + "extra:x:7777:nobody\nmore:x:7778:nobody\n"
    )
    code = (
        f"import os, sys; sys.path.append({str(TREE)!r})\n"
        "from kolla_start.launch import privileges\n"
        "privileges.drop('nobody'); print(sorted(os.getgroups()))"
    )
    done = sandbox.run(["/usr/bin/python3", OPTIONS, "-c", code], check=True)
    assert done.stdout.strip() == "[7777, 7778, 65534]"


@as_root
@pytest.mark.parametrize("call", ["None", "'root'", "'0'", "'root', ('NET_BIND_SERVICE',)"])
def test_staying_root(work: Path, call: str) -> None:
    done = become(work, call)
    status = said(done)["status"]
    assert isinstance(status, dict)
    assert status["Uid"] == ["0"] * 4
    with open("/proc/self/status") as own:
        assert f"CapPrm:\t{status['CapPrm'][0]}\n" in own.read()
    assert ("without effect" in done.stderr) == ("NET" in call)


@as_root
def test_root_with_another_group(work: Path) -> None:
    status = said(become(work, "'root:daemon'"))["status"]
    assert isinstance(status, dict)
    assert (status["Uid"], status["Gid"]) == (["0"] * 4, ["1"] * 4)


@as_root
@pytest.mark.parametrize(
    ("names", "mask"),
    [
        ("('NET_BIND_SERVICE',)", 1 << 10),
        ("('CAP_CHOWN', 'SYS_PTRACE', 'WAKE_ALARM')", 1 | 1 << 19 | 1 << 35),
    ],
)
def test_capabilities_are_kept(work: Path, names: str, mask: int) -> None:
    done = become(work, f"'nobody', {names}, True")
    status = said(done)["status"]
    assert isinstance(status, dict)
    assert status["Uid"] == ["65534"] * 4
    assert set(capability_sets(status).values()) == {mask}
    assert status["NoNewPrivs"] == ["1"]


@as_root
@pytest.mark.parametrize("user", ["None", "'nobody'"])
def test_no_new_privileges(work: Path, user: str) -> None:
    status = said(become(work, f"{user}, (), True"))["status"]
    assert isinstance(status, dict)
    assert status["NoNewPrivs"] == ["1"]


def without(*capabilities: int) -> Callable[[], None]:
    """Take capabilities from the bounding set: exec then leaves them out, as an engine does."""

    def drop() -> None:
        import ctypes

        libc = ctypes.CDLL(None)
        for number in capabilities:
            assert libc.prctl(24, number, 0, 0, 0) == 0  # PR_CAPBSET_DROP

    return drop


@as_root
def test_a_capability_that_the_container_lacks(work: Path) -> None:
    done = become(work, "'nobody', ('NET_BIND_SERVICE', 'NET_ADMIN')", before=without(12))
    assert done.returncode == 1
    assert "does not have NET_ADMIN;" in done.stderr
    assert "--cap-add NET_ADMIN" in done.stderr


@as_root
def test_a_container_that_may_not_change_users(work: Path) -> None:
    done = become(work, "'nobody'", before=without(6, 7))
    assert done.returncode == 1
    assert "--cap-add SETUID" in done.stderr
    assert "Traceback" not in done.stderr


@as_root
def test_inheritable_capabilities_of_an_old_engine_are_cleared(work: Path) -> None:
    def inherit() -> None:
        import ctypes

        libc = ctypes.CDLL(None)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)()
        assert libc.capget(header, data) == 0
        data[2], data[5] = data[1], data[4]
        assert libc.capset(header, data) == 0

    status = said(become(work, "'daemon'", before=inherit))["status"]
    assert isinstance(status, dict)
    assert not any(capability_sets(status).values())


@as_root
def test_capabilities_that_survive_setuid_are_found(work: Path) -> None:
    def engine() -> None:
        import ctypes

        # SECBIT_NO_SETUID_FIXUP and its lock: setuid drops nothing.
        assert ctypes.CDLL(None).prctl(28, 1 << 2 | 1 << 3, 0, 0, 0) == 0

    done = become(work, "'nobody'", before=engine)
    assert done.returncode == 1
    assert "privileges were not dropped" in done.stderr


@as_root
@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("stranger", "no user 'stranger'"),
        ("nobody:stranger", "no group 'stranger'"),
        ("54321", "its group must be said"),
        ("4294967295:1", "no user"),
        ("1:4294967295", "no group"),
        ("-1:-1", "no user"),
        ("\u0661:1", "no user"),
    ],
)
def test_users_that_are_refused(work: Path, user: str, message: str) -> None:
    done = become(work, repr(user))
    assert done.returncode == 1
    assert message in done.stderr


@as_root
def test_a_user_cannot_become_another(work: Path) -> None:
    def nobody() -> None:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    assert become(work, "'nobody'", before=nobody).returncode == 0
    assert become(work, "None", before=nobody).returncode == 0
    for other in ("'daemon'", "'root'", "'nobody:daemon'"):
        done = become(work, other, before=nobody)
        assert done.returncode == 1, other
        assert "was started as uid 65534" in done.stderr
    done = become(work, "None, ('CHOWN',)", before=nobody)
    assert done.returncode == 1
    assert "--cap-add CHOWN" in done.stderr
