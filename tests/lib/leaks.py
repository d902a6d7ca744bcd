"""Contents that nobody can guess, and who could read them afterwards: asked of the kernel.

A canary that only notices a change says nothing of a copy. So what is private is given a content
of its own, the whole upper layer is searched for it as root, and each user from whom it is to be
kept tries to open every file that has it, and reads every line that was said.
"""

import secrets
import subprocess
from collections.abc import Iterable, Iterator

from sandbox import PYTHON, Sandbox

# Reads a path as hex from a line, says whether this user can open it.
_READER = r"""
import os, sys
for line in sys.stdin:
    try:
        os.close(os.open(bytes.fromhex(line), os.O_RDONLY | os.O_NONBLOCK))
        print("yes", flush=True)
    except OSError:
        print("no", flush=True)
"""


class Readers:
    """Processes of the users inside, one each, that try to read. Ended before the sandbox is."""

    def __init__(self, box: Sandbox, users: Iterable[str]) -> None:
        argv = [PYTHON, "-IS", "-c", _READER]
        self._of = {
            user: box.popen(argv, user=user, stdin=subprocess.PIPE, stderr=None) for user in users
        }

    def can(self, user: str, path: str) -> bool:
        process = self._of[user]
        assert process.stdin and process.stdout
        process.stdin.write(path.encode("utf-8", "surrogateescape").hex() + "\n")
        process.stdin.flush()
        said = process.stdout.readline()
        assert said, f"the reader of {user} has ended"
        return said == "yes\n"

    def close(self) -> None:
        for process in self._of.values():
            process.communicate()


class Tokens:
    """What must not be read, by whom: `new` gives the content of one thing."""

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[str, tuple[str, ...]]] = {}

    def new(self, what: str, *kept_from: str) -> str:
        token = secrets.token_hex(16)
        self._kept[token.encode()] = what, kept_from
        return token + "\n"

    def said(self, text: str) -> Iterator[str]:
        """What of it was said."""
        for token, (what, _) in self._kept.items():
            if token.decode() in text:
                yield f"{what} is in the log"

    def read(self, box: Sandbox, readers: Readers) -> Iterator[str]:
        """What of it somebody could read that may not."""
        for inside, host in box.files():
            with open(host, "rb") as stream:
                content = stream.read(1 << 20)
            for token, (what, kept_from) in self._kept.items():
                if token in content:
                    for user in kept_from:
                        if readers.can(user, inside):
                            yield f"{user} can read {what} in {inside}"

    def there(self, box: Sandbox, token: str) -> bool:
        """Whether it is anywhere at all."""
        raw = token.strip().encode()
        for _, host in box.files():
            with open(host, "rb") as stream:
                if raw in stream.read(1 << 20):
                    return True
        return False
