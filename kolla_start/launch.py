"""Turn this process into the service: the extend-start script, then exec.

On the container-start path: `_signal` in place of signal, posix_spawn in place of subprocess, a
search of PATH of our own in place of os.execvpe (which imports warnings).

The service must not be able to tell that a program ran before it, but by what the specification
says: same PID, default signals, no descriptor of ours, the engine's environment. A shell runs only
where there is something for it to do. Nothing is done here as root that a caller could choose.
"""

import _signal  # type: ignore[import-not-found]  # signal imports enum
import errno
import os
import posix
import stat

from kolla_start import errors, log, privileges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SCRIPT = b"kolla_extend_start"
UMASK = b"CONTAINER_KOLLA_UMASK"
_BASH = b"/bin/bash"
_DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as Debian's bash
_SUDO = "/usr/bin/sudo"
_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"

# log.py's line, from a shell, for what only the shell knows. printf's failure (standard error is
# closed) must not end the start: errexit is on.
_SAY = (
    b"builtin printf '%%(%%Y-%%m-%%d %%H:%%M:%%S)T.%%.3s INFO %%s\\n' -1 "
    b'"${EPOCHREALTIME#*[!0-9]}" %s >&2 || builtin :\n'
)


def environment() -> dict[bytes, bytes]:
    """The environment as the engine gave it, whatever has been done to os.environ since.

    Call it before privileges are dropped: /proc/self/environ cannot be read afterwards.
    """
    given = dict(posix.environ)
    given.pop(b"", None)  # "=value": legal to execve(2), not to Python's
    if b"LC_CTYPE" in given:
        # In a C locale the interpreter sets LC_CTYPE for itself and its children (PEP 538).
        # The memory that the kernel filled at exec still holds what was there.
        try:
            with open("/proc/self/environ", "rb") as original:
                entries = original.read().split(b"\0")
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
    asked = environ.get(UMASK, b"")
    if not asked:
        return None
    # Not int() alone, which takes signs, blanks and underscores.
    if asked.strip(b"01234567") or int(asked, 8) > 0o777:
        raise errors.refuse(
            f"{UMASK.decode()} is {os.fsdecode(asked)!r}, no umask; write octal digits, from 000 "
            "to 777, as in 0027"
        )
    return int(asked, 8)


def launch(
    command: str | tuple[str, ...], environ: dict[bytes, bytes], arguments: tuple[str, ...] = ()
) -> "NoReturn":
    """Source the extend-start script, if there is one to source, and exec the service.

    A string is a command as an unquoted shell variable has it: split at blanks, each word expanded
    as a file pattern, quotes kept. A tuple is argv. `arguments` are argv in place of either; what
    the script does to CMD and ARGS, which belong to the configured command, is then ignored. An
    empty string is no command: there is nothing to become, and the start ends well.
    The umask is set after the script, as tcib's start script has it.
    Raises Refused before, SystemExit(126 or 127) when exec fails, as bash(1) does, and
    SystemExit(0) where there is no command.
    """
    mask = umask(environ)
    if arguments:
        command = arguments
    words = command if not isinstance(command, str) else tuple(_split(command))
    argv = [_bytes(word) for word in words]
    if isinstance(command, str) and ("'" in command or '"' in command):
        log.warning(
            "command: quotes in it reach the service as they are, no shell removes them; where "
            'that is not meant write it as a list: "command": ["PROGRAM", "one argument"]'
        )
    script = b"KOLLA_SKIP_EXTEND_START" not in environ and _script(environ)
    # A pattern is the shell's too: its rules (sorting, [^a], backslashes) are the definition, and
    # bash starts in a third of the time that Python's glob takes to import.
    pattern = isinstance(command, str) and any(char in command for char in "*?[")
    if script or pattern:
        program = _program(
            command, argv, bool(arguments), script, bool(environ.get(b"KOLLA_DEBUG"))
        )
        # --norc: with -c bash reads ~/.bashrc where standard input is a socket.
        _exec(_BASH, [_BASH, b"--norc", b"-c", program, b"kolla_start"], environ)
    if not argv:
        log.info("the command is empty: nothing is run")
        raise SystemExit(errors.EXIT_OK)
    shown = command.rstrip("\n") if isinstance(command, str) else os.fsdecode(_joined(argv))
    log.info(f"Running command: '{shown}'")
    if mask is not None:
        os.umask(mask)
    _exec(_search(argv[0], environ), argv, environ)


def _split(command: str) -> list[str]:
    # Not str.split(): the shell's blanks are these three, Python's two dozen.
    return [word for word in command.replace("\t", " ").replace("\n", " ").split(" ") if word]


def _bytes(word: str) -> bytes:
    try:
        data = word.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = b"\0"
    if b"\0" in data:
        raise errors.refuse(f"command: {word!r} holds a character that no argument can carry")
    return data


# --- the shell's part --------------------------------------------------------------------------


def _script(environ: dict[bytes, bytes]) -> bool:
    """Whether `source` in bash(1) would find a script that is not empty.

    Raises Refused where it would find one that this user cannot read.
    """
    unreadable = None
    for directory in (*_path(environ), b"."):
        candidate = directory + b"/" + SCRIPT
        try:
            found = os.stat(candidate)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except OSError as error:
            # bash would pass over it; a service without its preparation is worse than none.
            raise errors.refuse(
                f"{errors.cause(error, os.fsdecode(candidate))}; mend or remove it"
            ) from None
        if os.access(candidate, os.R_OK):
            return found.st_size > 0 or not stat.S_ISREG(found.st_mode)
        unreadable = unreadable or candidate
    if unreadable:
        raise errors.refuse(
            f"{os.fsdecode(unreadable)}: uid {os.geteuid()}, which the service runs as, cannot "
            "read it; make it readable for all in the image"
        )
    return False


def _program(
    command: str | tuple[str, ...], argv: list[bytes], fixed: bool, script: bool, trace: bool
) -> bytes:
    """The shell program. All it needs is written into it: the service must not inherit more."""
    text = _bytes(command).rstrip(b"\n") if isinstance(command, str) else _joined(argv)
    exact = b"exec -- " + b" ".join(_quoted(word) for word in argv)
    lines = b"set -o errexit -o pipefail -o nounset%s\n" % (b" -o xtrace" if trace else b"")
    lines += b"CMD=%s\nARGS=''\n" % _quoted(text)
    if script:
        lines += b". " + SCRIPT + b"\n"
    lines += b'if builtin test -n "${%s-}"; then builtin umask "$%s"; fi\n' % (UMASK, UMASK)
    if fixed:
        return lines + _SAY % _quoted(b"Running command: '" + text + b"'") + exact + b"\n"
    lines += _SAY % b"\"Running command: '${CMD}${ARGS:+ $ARGS}'\""
    if not isinstance(command, str):
        lines += b'if builtin test "$CMD" = %s; then %s ${ARGS}; fi\n' % (_quoted(text), exact)
    return lines + b"exec ${CMD} ${ARGS}\n"


def _quoted(word: bytes) -> bytes:
    return b"'" + word.replace(b"'", b"'\\''") + b"'"


def _joined(argv: list[bytes]) -> bytes:
    """argv as a person would type it."""
    return b" ".join(
        word if word and not word.translate(None, _PLAIN) else _quoted(word) for word in argv
    )


# --- exec --------------------------------------------------------------------------------------


def _path(environ: dict[bytes, bytes]) -> list[bytes]:
    return [part or b"." for part in environ.get(b"PATH", _DEFAULT_PATH).split(b":")]


def _search(name: bytes, environ: dict[bytes, bytes]) -> bytes:
    """The program that bash(1) would choose: the first that can be executed, else the first."""
    if b"/" in name:
        return name
    second = None
    for directory in _path(environ):
        candidate = directory + b"/" + name
        try:
            if stat.S_ISDIR(os.stat(candidate).st_mode):
                continue
        except OSError:
            continue
        if os.access(candidate, os.X_OK):
            return candidate
        second = second or candidate
    if second is None:
        tried = os.fsdecode(b":".join(_path(environ)))
        _give_up(errors.EXIT_NOT_FOUND, f"{os.fsdecode(name)}: command not found in PATH ({tried})")
    return second


def _exec(program: bytes, argv: list[bytes], environ: dict[bytes, bytes]) -> "NoReturn":
    shown = os.fsdecode(program)
    _restore_signals()
    try:
        os.execve(program, argv, environ)
    except OSError as error:
        problem = error
    if problem.errno == errno.ENOEXEC and program != _BASH:
        # A script without a first line that says whose it is belongs to the shell.
        _exec(_BASH, [_BASH, b"--", program, *argv[1:]], environ)
    _ignore_broken_pipe()
    if problem.errno != errno.ENOENT:
        _give_up(errors.EXIT_NOT_EXECUTABLE, f"{shown}: cannot execute: {problem.strerror}")
    if os.path.exists(program):
        what = "the interpreter that its first line names, or its loader, does not exist"
        _give_up(errors.EXIT_NOT_FOUND, f"{shown}: cannot execute: {what}")
    _give_up(errors.EXIT_NOT_FOUND, f"{shown}: no such file")


def _give_up(code: int, message: str) -> "NoReturn":
    log.error(message)
    raise SystemExit(code)


def _restore_signals() -> None:
    """Default dispositions and an empty mask: exec passes on what is ignored or blocked."""
    for number in range(1, _signal.NSIG):
        if _signal.getsignal(number) == _signal.SIG_IGN:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _ignore_broken_pipe() -> None:
    _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)


# --- other programs, and Kolla's way -----------------------------------------------------------


def run(argv: list[str], environ: dict[bytes, bytes], quiet: bool = False) -> int:
    """Run a program to its end; its exit code, or 128 + the signal that ended it.

    `quiet` gives it no input and puts its output into the log. Raises OSError.
    """
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = []
    if quiet:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, 2, 1),
        ]
    inherited = os.umask(0o022)  # what these programs make does not depend on the service's
    try:
        child = os.posix_spawn(
            argv[0],
            argv,
            environ,
            file_actions=actions,
            setsigmask=(),
            setsigdef=(_signal.SIGPIPE, _signal.SIGXFSZ),
        )
    finally:
        os.umask(inherited)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def can_sudo() -> bool:
    """Whether this user could gain root by sudo(8) at all: there, setuid root, and not barred."""
    try:
        found = os.stat(_SUDO)
    except OSError:
        return False
    able = found.st_uid == 0 and found.st_mode & stat.S_ISUID and os.access(_SUDO, os.X_OK)
    return bool(able) and privileges.status().get("NoNewPrivs") != ["1"]


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
