"""What the service's process is to run: the shell's program, the search of PATH, exec.

On the container-start path: a search of PATH of our own in place of os.execvpe (which imports
warnings). It reads nothing but the names on PATH, and changes nothing before the exec.
"""

from __future__ import annotations

import errno
import posix as os
import stat

from kolla_start import errors, kernel, log, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SCRIPT = b"kolla_extend_start"
UMASK = b"CONTAINER_KOLLA_UMASK"
BASH = b"/bin/bash"
_DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # as Debian's bash
_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"

# log.py's line, from a shell, for what only the shell knows. Standard error may be closed, or its
# reader gone: a failure must not end the start (errexit is on), nor must SIGPIPE. It is said in a
# subshell, for what the script has set for that signal is the service's.
_SAY = (
    b"(builtin printf '%%(%%Y-%%m-%%d %%H:%%M:%%S)T.%%.3s %s %%s\\n' -1 "
    b'"${EPOCHREALTIME#*[!0-9]}" %s >&2) || builtin :\n'
)
# What ends the shell while it reads the script; once that is done $1 says so, for the script may
# have set a trap of its own by then, which is not to be taken away.
_FAILED = _SAY % (b"ERROR", b'"' + SCRIPT + b" failed with exit status $?; KOLLA_DEBUG=1 shows each"
                  b' command"')  # fmt: skip
_UNLESS_FAILED = b"case $?,${1-} in 0,*|*,sourced) ;; *) " + _FAILED + b";; esac"


def split(command: str) -> list[str]:
    """The words of an unquoted shell variable."""
    # Not str.split(): the shell's blanks are these three, Python's two dozen.
    return [word for word in command.replace("\t", " ").replace("\n", " ").split(" ") if word]


def encoded(word: str) -> bytes:
    """A word as exec takes it. Raises Refused where no argument can carry it."""
    try:
        data = kernel.encode(word)
    except UnicodeEncodeError:
        data = b"\0"
    if b"\0" in data:
        raise errors.refuse(f"command: {word!r} holds a character that no argument can carry")
    return data


def joined(argv: list[bytes]) -> bytes:
    """argv as a person would type it."""
    return b" ".join(
        word if word and not word.translate(None, _PLAIN) else _quoted(word) for word in argv
    )


def _quoted(word: bytes) -> bytes:
    return b"'" + word.replace(b"'", b"'\\''") + b"'"


# --- the shell's part --------------------------------------------------------------------------


def script_to_source(environ: dict[bytes, bytes]) -> bool:
    """Whether `source` in bash(1) would find an extend-start script that is not empty.

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
            shown = kernel.decode(candidate)
            raise errors.refuse(errors.cause(error, shown, "mend or remove it")) from None
        if os.access(candidate, os.R_OK):
            return found.st_size > 0 or not stat.S_ISREG(found.st_mode)
        unreadable = unreadable or candidate
    if unreadable:
        raise errors.refuse(
            f"{kernel.decode(unreadable)}: uid {os.geteuid()}, which the service runs as, cannot "
            "read it; make it readable for all in the image"
        )
    return False


def text(
    command: str | tuple[str, ...], argv: list[bytes], fixed: bool, script: bool, trace: bool
) -> bytes:
    """The shell program. All it needs is written into it: the service must not inherit more.

    `argv` are the command's words; `fixed`: whatever the script does to CMD and ARGS. The umask
    that the environment asks for is set after the script, as in tcib's start script.
    """
    shown = encoded(command).rstrip(b"\n") if isinstance(command, str) else joined(argv)
    exact = b"exec -- " + b" ".join(_quoted(word) for word in argv)
    lines = b"set -o errexit -o pipefail -o nounset%s\n" % (b" -o xtrace" if trace else b"")
    lines += b"CMD=%s\nARGS=''\n" % _quoted(shown)
    if script:
        lines += b"builtin trap -- %s EXIT\n" % _quoted(_UNLESS_FAILED)
        lines += b". " + SCRIPT + b"\nbuiltin set -- sourced\n"
    lines += b'if builtin test -n "${%s-}"; then builtin umask "$%s"; fi\n' % (UMASK, UMASK)
    if fixed:
        return (
            lines + _SAY % (b"INFO", _quoted(b"Running command: '" + shown + b"'")) + exact + b"\n"
        )
    lines += _SAY % (b"INFO", b"\"Running command: '${CMD}${ARGS:+ $ARGS}'\"")
    if not isinstance(command, str):
        lines += b'if builtin test "$CMD" = %s; then %s ${ARGS}; fi\n' % (_quoted(shown), exact)
    return lines + b"exec ${CMD} ${ARGS}\n"


# --- exec --------------------------------------------------------------------------------------


def _path(environ: dict[bytes, bytes]) -> list[bytes]:
    return [part or b"." for part in environ.get(b"PATH", _DEFAULT_PATH).split(b":")]


def search(name: bytes, environ: dict[bytes, bytes]) -> bytes:
    """The program that bash(1) would choose: the first that can be executed, else the first.

    Raises SystemExit(127) where there is none.
    """
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
        tried = kernel.decode(b":".join(_path(environ)))
        _give_up(
            errors.EXIT_NOT_FOUND, f"{kernel.decode(name)}: command not found in PATH ({tried})"
        )
    return second


def become(
    program: bytes, argv: list[bytes], environ: dict[bytes, bytes], umask: int | None = None
) -> NoReturn:
    """execve(2), with this umask or the inherited one. Raises SystemExit(126 or 127), as bash."""
    shown = kernel.decode(program)
    process.hand_over(umask)
    try:
        os.execve(program, argv, environ)
    except OSError as error:
        problem = error
    process.take_back()
    if problem.errno == errno.ENOEXEC and program != BASH:
        # A script without a first line that says whose it is belongs to the shell.
        become(BASH, [BASH, b"--", program, *argv[1:]], environ, umask)
    if problem.errno != errno.ENOENT:
        what = f"cannot execute: {problem.strerror}; {errors.advice(problem)}"
        _give_up(errors.EXIT_NOT_EXECUTABLE, f"{shown}: {what}")
    if os.access(program, os.F_OK):
        what = "the interpreter that its first line names, or its loader, does not exist"
        _give_up(errors.EXIT_NOT_FOUND, f"{shown}: cannot execute: {what}")
    what = "no such file; install it in the image"
    _give_up(errors.EXIT_NOT_FOUND, f"{shown}: {what}")


def _give_up(code: int, message: str) -> NoReturn:
    log.error(message)
    raise SystemExit(code)
