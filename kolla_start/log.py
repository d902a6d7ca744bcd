"""The log: one line an event on standard error, in upstream's form.

On the container-start path: no logging module (it alone costs as much as the whole start).
File names come from directories that a service can write, so what a terminal would obey is
escaped before it is written.
"""

import posix as os
import time

gone = False  # whoever read it: a program whose output goes there would be killed, pipe(7)

# The names of levels are those of Python's logging, as upstream prints them.


def info(message: str) -> None:
    _write("INFO", message)


def warning(message: str) -> None:
    _write("WARNING", message)


def error(message: str) -> None:
    _write("ERROR", message)


def printable(text: str) -> str:
    """The text with control characters, line ends and undecodable bytes as visible escapes."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def _write(level: str, message: str) -> None:
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    line = f"{stamp}.{int(now % 1 * 1000):03d} {level} {printable(message)}\n"
    try:
        # A single write, so that the lines of two processes do not mix; unbuffered, so that
        # nothing is lost or written twice when this process execs.
        os.write(2, line.encode("utf-8", "backslashreplace"))
    except BrokenPipeError:
        global gone
        gone = True
    except OSError:
        pass  # A closed or full log must not stop the service from starting.
