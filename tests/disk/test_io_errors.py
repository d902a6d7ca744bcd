"""An error of the disk is the world's fault: exit 1 and one clear line, wherever it strikes.

Calls of a start are made to fail with EIO one by one (a wide sample; torture.py has all): never a
traceback, never exit 2, and --check never says "unchanged" of what it could not see.
"""

import os

import pytest
from documents import document, entry
from moments import Moment, failing_at, moments, sample
from outcomes import applied
from sandbox import CONFIG_FILES, Sandbox

# What is no business with files; a call that starts a process; what the interpreter itself reads.
_OTHER = frozenset(
    """brk mmap munmap mprotect madvise mremap futex getrandom clone clone3 vfork fork wait4
    prlimit64 rseq exit arch_prctl clock_gettime getpid gettid getuid geteuid getgid getegid umask
    setresuid setresgid setgroups capset capget prctl getresuid getresgid rt_sigaction sysinfo
    rt_sigprocmask rt_sigreturn sigaltstack""".split()
)
_INTERPRETER = ("/opt/kolla_start/", "/usr/lib/python3", "/usr/local/lib/python3")


def furnish(box: Sandbox) -> None:
    box.adduser("svc", 4321)
    box.write("/etc/app/image", "the image's")
    box.write("/etc/merged/own", "the image's")
    box.write("/etc/left", "the image's")
    box.write("/etc/left.d/own", "the image's")
    box.write("/var/log/kolla/svc/svc.log", "x")
    box.symlink("/run/app", "/etc/run")
    box.mkdir("/run/app")
    for name in ("s", "d/inner", "d/sub/deep", "p/one", "p/two"):
        box.source(name, name)
    box.document(document(entry("s", "/etc/left"), entry("d", "/etc/left.d"), entry("s", "/a/b/c")))
    assert box.set_configs().returncode == 0
    box.document(
        {
            **document(
                entry("s", "/etc/app/image", owner="svc", perm="0640"),
                entry("s", "/etc/run/file"),
                entry("d", "/etc/merged", merge=True, owner="svc", perm="0750"),
                entry("p/*", "/etc/pattern/"),
                entry("d", "/etc/kept", preserve_properties=True),
                directories=[{"path": "/var/lib/made", "owner": "svc", "perm": "0750"}],
                files=[{"path": "/var/lib/made/file", "owner": "svc", "perm": "0640"}],
                permissions=[{"path": "/var/log/kolla/svc", "owner": "svc", "recurse": True}],
                user="svc",
            ),
            "command": ["sh", "-c", "echo started"],
        }
    )


def concerned(box: Sandbox, argv: list[str], env: dict[str, str | None]) -> list[Moment]:
    """The calls of ours on files, from the first look at records or document to exec."""
    found = moments(box, [""], argv, env)
    begin = next(
        n
        for n, each in enumerate(found)
        if any(place in each.line for place in (CONFIG_FILES, "/etc/kolla", "/configured"))
    )
    loaded = [n for n, each in enumerate(found) if "/etc/ld.so.cache" in each.line and n > begin]
    return [
        each
        for each in found[begin : loaded[-1] if loaded else None]  # then it is the service
        if each.call not in _OTHER and not any(place in each.line for place in _INTERPRETER)
    ]  # fmt: skip


@pytest.mark.parametrize("error", ["EIO", "ESTALE", "EACCES"])
@pytest.mark.parametrize("how", ["COPY_ALWAYS", "COPY_ONCE", "again", "once again", "check"])
def test_a_call_that_fails(how: str, error: str) -> None:
    strategy = "COPY_ONCE" if how in ("COPY_ONCE", "once again") else "COPY_ALWAYS"
    env: dict[str, str | None] = {"KOLLA_CONFIG_STRATEGY": strategy}
    argv = ["kolla_set_configs", "--check"] if how == "check" else ["kolla_start"]

    def prepare(box: Sandbox) -> None:
        furnish(box)
        if how in ("again", "once again", "check"):
            assert box.run(["kolla_start"], env=env).returncode == 0

    with Sandbox() as box:
        prepare(box)
        found = sample(concerned(box, argv, env), 50 if error == "EIO" else 15)
    lost = {}
    for moment in found:
        with Sandbox() as box:
            prepare(box)
            done = failing_at(box, moment, error, argv, env)
            said = done.stdout + done.stderr
            right = {0, 2} if how == "check" else {0, 1}
            if how == "check" and "cannot be read" in said:
                right = {1}  # a restart puts another in its place
            if "Traceback" in said or done.returncode not in right:
                lost[str(moment)] = f"{done.returncode}: {said[-200:]}"
            elif done.returncode == 1 and "ERROR" not in said:
                lost[str(moment)] = f"no message: {said[-200:]}"
            elif (done.returncode == 0) != ("started" in done.stdout) and how != "check":
                lost[str(moment)] = f"{done.returncode}, and started: {done.stdout!r}"
            elif how == "check" and done.returncode and box.set_configs("--check").returncode:
                lost[str(moment)] = "a look changed something"
            elif box.run(["kolla_start"], env=env).returncode:
                lost[str(moment)] = "the next start fails"
    summary = "\n".join(f"{where}\n    {why}" for where, why in lost.items())
    assert not lost, f"{len(lost)} of {len(found)}:\n{summary}"


def test_a_link_that_cannot_be_put_in_place() -> None:
    def plant(box: Sandbox) -> None:
        box.symlink("nowhere", f"{CONFIG_FILES}/tree/link")
        box.document(document(entry("tree", "/etc/made", merge=True, preserve_properties=True)))

    with Sandbox() as box:
        plant(box)
        (moment,) = [each for each in moments(box, ['"link"']) if each.call.startswith("rename")]
    with Sandbox() as box:
        plant(box)
        done = failing_at(box, moment, "EIO")
        assert done.returncode == 1
        assert "/etc/made/link: Input/output error" in done.stderr
        assert os.listdir(box.host("/etc/made")) == []
        applied(box)
        assert box.readlink("/etc/made/link") == "nowhere"
