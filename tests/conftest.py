"""Fixtures of the whole suite, and the last word on what this machine could not run.

A test that cannot run says why and is named again, loudly, at the very end. Where the environment
says `CI`, that is a failure: nothing may be left out there.
"""

import contextlib
import ctypes
import os
import platform
from collections.abc import Generator, Iterator
from pathlib import Path

import httpd as httpd_image
import launched
import pytest
from sandbox import Sandbox, Unusable

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")


def _undo_make() -> None:
    """GNU make's children ignore signals 32 and 33: glibc's posix_spawn(3) leaves them so.

    They are glibc's own, so it takes the system call itself, rt_sigaction(2), to set them back;
    a service that a test starts would inherit them otherwise.
    """
    number = 13 if platform.machine() == "x86_64" else 134
    libc = ctypes.CDLL(None)
    for signal in (32, 33):
        libc.syscall(number, signal, ctypes.create_string_buffer(32), None, ctypes.c_size_t(8))


_undo_make()

_left_out: list[tuple[str, str]] = []

# Of Debian's packages in setup.sh, what tests start by name.
_PROGRAMS = frozenset("memcached openssl podman setfacl getfacl setcap getcap strace sudo".split())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """A program that the machine has not got is no failure of ours, but in CI."""
    try:
        return (yield)
    except FileNotFoundError as error:
        name = str(error.filename)
        if name in _PROGRAMS:
            pytest.skip(f"{name} is not installed: run `make setup` as root")
        raise


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox of its own for the test, with our commands installed as in an image."""
    with contextlib.ExitStack() as stack:
        try:
            box = stack.enter_context(Sandbox())
        except Unusable as reason:
            pytest.skip(str(reason))
        yield box


@pytest.fixture
def httpd(sandbox: Sandbox) -> Sandbox:
    """A sandbox that is an image with httpd, and marked as that."""
    httpd_image.furnish(sandbox)
    return sandbox


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory that every user can reach, with a program that reports what it received."""
    launched.furnish(tmp_path)
    return tmp_path


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        where = report.longrepr
        reason = where[2] if isinstance(where, tuple) else str(where)
        _left_out.append((report.nodeid, reason.removeprefix("Skipped: ")))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if IN_CI and _left_out and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _left_out:
        return
    say = terminalreporter.write_line
    terminalreporter.section("COULD NOT RUN ON THIS MACHINE", sep="!", red=True, bold=True)
    for nodeid, reason in _left_out:
        say(f"{nodeid}: {reason}")
    say(f"{len(_left_out)} left out.{' In CI that is a failure.' if IN_CI else ''}", red=IN_CI)
