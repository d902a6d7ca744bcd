"""Turn this process into the service: its environment and umask, the extend-start script, exec.

On the container-start path: posix_spawn in place of subprocess.

The service must not be able to tell that a program ran before it, but by what the specification
says: same PID, default signals, no descriptor of ours, the engine's environment. A shell runs only
where there is something for it to do. Nothing is done here as root that a caller could choose.
"""

from __future__ import annotations

import posix as os
import stat

from kolla_start import accounts, errors, kernel, log, process
from kolla_start.launch import privileges, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_SUDO = "/usr/bin/sudo"
_SUDO_NEEDS = 1 << 6 | 1 << 7  # CAP_SETGID and CAP_SETUID, linux/capability.h


def environment() -> dict[bytes, bytes]:
    """The environment as the engine gave it.

    Call it before privileges are dropped: /proc/self/environ cannot be read afterwards.
    """
    given = dict(os.environ)
    given.pop(b"", None)  # "=value": legal to execve(2), not to Python's
    if b"LC_CTYPE" in given:
        # In a C locale the interpreter sets LC_CTYPE for itself and its children (PEP 538).
        # The memory that the kernel filled at exec still holds what was there.
        try:
            entries = kernel.read("/proc/self/environ").split(b"\0")
        except OSError:
            return given
        del given[b"LC_CTYPE"]
        for entry in entries:
            name, _, value = entry.partition(b"=")
            if name == b"LC_CTYPE":
                given[name] = value
                break
    return given


def umask(environ: dict[bytes, bytes]) -> int | None:
    """The umask that the environment asks for, or None: CONTAINER_KOLLA_UMASK, in octal.

    Raises Refused where it is no umask (umask(2)). Empty is as if it were not set.
    """
    asked = environ.get(program.UMASK, b"")
    if not asked:
        return None
    # Not int() alone, which takes signs, blanks and underscores.
    if asked.strip(b"01234567") or int(asked, 8) > 0o777:
        raise errors.refuse(
            f"{program.UMASK.decode()} is {kernel.decode(asked)!r}, no umask; write octal digits, "
            "from 000 to 777, as in 0027"
        )
    return int(asked, 8)


def launch(
    command: str | tuple[str, ...], environ: dict[bytes, bytes], arguments: tuple[str, ...] = ()
) -> NoReturn:
    """Source the extend-start script, if there is one to source, and exec the service.

    A string is a command as an unquoted shell variable has it: split at blanks, each word expanded
    as a file pattern, quotes kept. A tuple is argv. `arguments` are argv in place of either; what
    the script does to CMD and ARGS, which belong to the configured command, is then ignored. An
    empty string is no command: there is nothing to become, and the start ends well.
    The service has the umask that the environment asks for or that was inherited, the script has
    the inherited one.
    Raises Refused before, SystemExit(126 or 127) when exec fails, as bash(1) does, and
    SystemExit(0) where there is no command.
    """
    mask = umask(environ)
    if arguments:
        command = arguments
    words = command if not isinstance(command, str) else tuple(program.split(command))
    argv = [program.encoded(word) for word in words]
    if isinstance(command, str) and ("'" in command or '"' in command):
        log.warning(
            "command: quotes in it reach the service as they are, no shell removes them; where "
            'that is not meant write it as a list: "command": ["PROGRAM", "one argument"]'
        )
    script = b"KOLLA_SKIP_EXTEND_START" not in environ and program.script_to_source(environ)
    # A pattern is the shell's too: its rules (sorting, [^a], backslashes) are the definition, and
    # bash starts in a third of the time that Python's glob takes to import.
    pattern = isinstance(command, str) and any(char in command for char in "*?[")
    if script or pattern:
        trace = bool(environ.get(b"KOLLA_DEBUG"))
        text = program.text(command, argv, bool(arguments), script, trace)
        # --norc: with -c bash reads ~/.bashrc where standard input is a socket.
        bash = program.BASH
        program.become(bash, [bash, b"--norc", b"-c", text, b"kolla_start"], environ)
    if not argv:
        log.info("the command is empty: nothing is run")
        raise SystemExit(errors.EXIT_OK)
    shown = (
        command.rstrip("\n") if isinstance(command, str) else kernel.decode(program.joined(argv))
    )
    log.info(f"Running command: '{shown}'")
    program.become(program.search(argv[0], environ), argv, environ, mask)


# --- other programs, and Kolla's way -----------------------------------------------------------


def run(argv: list[str], environ: dict[bytes, bytes], quiet: bool = False) -> int:
    """Run a program to its end; its exit code, or 128 + the signal that ended it.

    `quiet` gives it no input and puts its output into the log. Raises OSError.
    """
    actions: list[tuple[int, int, int]] = []
    null = -1
    if quiet:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, 2, 1)]
        if log.gone:
            actions[1:] = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    before = os.umask(0o022)  # neither the service's nor the one that this program works with
    try:
        child = os.posix_spawn(
            argv[0],
            argv,
            environ,
            file_actions=actions,
            setsigmask=(),
            setsigdef=process.IGNORED,
        )
    finally:
        os.umask(before)
        if quiet:
            os.close(null)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def clean_environment() -> dict[bytes, bytes]:
    """For the programs that root runs before the service: nothing of the caller's."""
    return {
        b"PATH": b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        b"HOME": b"/root",
        b"LC_ALL": b"C.UTF-8",
    }


def can_sudo() -> bool:
    """Whether this user could gain root by sudo(8) at all.

    It is there and setuid root, nothing bars that (no_new_privs, a bounding set without what sudo
    changes its ids with), and the user database knows who asks.
    """
    try:
        found = os.stat(_SUDO)
    except OSError:
        return False
    if found.st_uid != 0 or not found.st_mode & stat.S_ISUID or not os.access(_SUDO, os.X_OK):
        return False
    status = privileges.status()
    bounding = int(status["CapBnd"][0], 16)
    barred = status["NoNewPrivs"] == ["1"] or _SUDO_NEEDS & ~bounding
    return not barred and accounts.knows(os.getuid())


def run_privileged(name: str, environ: dict[bytes, bytes], keep_environment: bool = False) -> int:
    """One of our privileged commands, by its name, through sudo; returns its exit code.

    `keep_environment` (sudo -E) is for kolla_set_configs, which needs the strategy.
    """
    options = ["-n", "-E"] if keep_environment else ["-n"]
    try:
        code = run([_SUDO, *options, f"/usr/local/bin/{name}"], environ)
    except OSError as error:
        raise errors.Failed(f"{_SUDO}: {error.strerror}") from None
    if code:
        log.error(f"sudo {name}: exit code {code}; the service is not started")
    return code
