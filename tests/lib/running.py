"""Commands inside a sandbox, as ordinary children of this process.

They enter the namespaces between fork and exec, so that exit codes, signals and pipes are those of
any other child.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from holder import CLONE_NEWNS, CLONE_NEWPID, setns
from machine import PATH
from tree import Tree


class Running(Tree):
    """The part of a sandbox that starts commands."""

    namespaces: list[int]  # descriptors of mnt, pid, net, and of the root directory

    def popen(
        self,
        argv: Sequence[str | bytes],
        *,
        env: Mapping[str, str | None] | None = None,
        user: str | int | None = None,
        cwd: str = "/",
        umask: int = 0o022,
        before_exec: Callable[[], None] | None = None,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = subprocess.PIPE,
        stderr: int | IO[Any] | None = subprocess.PIPE,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[str]:
        """Start argv inside, as a child of this process and leader of its own session.

        `env` is added to a bare environment (PATH, HOME); a value of None takes a name away.
        `user` is looked up inside, with its groups; a number may be unknown there.
        """
        merged: dict[str, str] = {"PATH": PATH, "HOME": "/root"}
        ids = None
        if user is not None:
            ids = self.ids(user)
            merged["HOME"] = ids[3]
        for name, value in (env or {}).items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = value
        mnt, pid, net, root = self.namespaces

        def enter() -> None:
            setns(net, 0)
            setns(mnt, CLONE_NEWNS)
            os.fchdir(root)
            os.chroot(".")
            os.chdir(cwd)
            os.umask(umask)
            if ids:
                os.setgroups(ids[2])
                os.setresgid(ids[1], ids[1], ids[1])
                os.setresuid(ids[0], ids[0], ids[0])
            if before_exec:
                before_exec()

        own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(pid, CLONE_NEWPID)  # of the children from here on, not of this process
            try:
                return subprocess.Popen(
                    argv,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    env=merged,
                    start_new_session=True,
                    preexec_fn=enter,  # noqa: PLW1509 (this process has one thread)
                    pass_fds=tuple(pass_fds),
                    encoding="utf-8",
                    errors="surrogateescape",
                )
            finally:
                setns(own, CLONE_NEWPID)
        finally:
            os.close(own)

    def run(
        self,
        argv: Sequence[str | bytes],
        *,
        env: Mapping[str, str | None] | None = None,
        user: str | int | None = None,
        check: bool = False,
        input: str | None = None,
        timeout: float = 60,
        cwd: str = "/",
        umask: int = 0o022,
        before_exec: Callable[[], None] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """popen() to its end. Raises CalledProcessError (with `check`) and TimeoutExpired."""
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        process = self.popen(
            argv,
            env=env,
            user=user,
            cwd=cwd,
            umask=umask,
            before_exec=before_exec,
            stdin=stdin,
        )
        with process:
            try:
                out, err = process.communicate(input, timeout=timeout)
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        done = subprocess.CompletedProcess(list(argv), process.returncode, out, err)
        if check and done.returncode:
            print(done.stdout + done.stderr, file=sys.stderr)
            done.check_returncode()
        return done
