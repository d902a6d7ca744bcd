"""Watch from outside, as another user, for a moment at which a 0600 file can be read.

Used by test_races.py and torture.py, for all subjects.
"""

from dataclasses import dataclass, field

import canary
from documents import document, entry
from sandbox import PYTHON, Sandbox
from subjects import OURS, Subject

PLACE = "/etc/secrets"
TOKEN = "swordfish-7f3a"
FILES = 10

# inotify says when a name appears or changes; every name is tried at once, and between events
# the whole directory again and again. At TERM it prints how often it tried and what it could read.
_WATCHER = r"""
import ctypes, os, select, signal, struct, sys
libc = ctypes.CDLL(None)
place = sys.argv[1]
note = libc.inotify_init1(0o4000)
# IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_OPEN | IN_CLOSE_WRITE | IN_MODIFY
libc.inotify_add_watch(note, place.encode(), 0x100 | 0x80 | 0x4 | 0x20 | 0x8 | 0x2)
tried = 0
leaks = set()

def attempt(name):
    global tried
    tried += 1
    try:
        fd = os.open(place + "/" + name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return
    leaks.add(name)
    os.close(fd)

def stop(*_):
    print(tried, *sorted(leaks), flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
while True:
    select.select([note], [], [], 0.001)
    try:
        data = os.read(note, 65536)
    except BlockingIOError:
        data = b""
    while data:
        length = struct.unpack_from("iIII", data)[3]
        attempt(os.fsdecode(data[16:16 + length].rstrip(b"\0")))
        data = data[16 + length:]
    for name in os.listdir(place):
        attempt(name)
"""


@dataclass(slots=True)
class Result:
    replacements: int = 0
    tried: int = 0
    leaks: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)


def watch(subject: Subject, replacements: int) -> Result:
    """Replace FILES files again and again, of changing owner, while two others look."""
    result = Result()
    with subject.box() as box:
        canary.furnish(box)
        box.mkdir(PLACE)
        box.write(f"{PLACE}/file0", "the image's", mode=0o600)
        argv = [PYTHON, "-IS", "-c", _WATCHER, PLACE]
        watchers = [box.popen(argv, user="nobody") for _ in range(2)]
        try:
            for watcher in watchers:
                assert watcher.stdout
                assert watcher.stdout.readline() == "ready\n"
            turn = 0
            while result.replacements < replacements:
                turn += 1
                _turn(subject, box, turn, result)
        finally:
            for watcher in watchers:
                watcher.terminate()
                out, _ = watcher.communicate(timeout=60)
                said = out.split()
                result.tried += int(said[0])
                result.leaks += said[1:]
    return result


def _turn(subject: Subject, box: Sandbox, turn: int, result: Result) -> None:
    owner = canary.SERVICE if turn % 2 else "root"
    entries = []
    for number in range(FILES):
        # The source can be read by all: the copy must not take its mode from it, ever.
        text = f"{TOKEN} {turn} {number}\n" * 50
        box.source(f"file{number}", text, mode=0o644)
        entries.append(entry(f"file{number}", f"{PLACE}/file{number}", owner, "0600"))
    box.document(document(*entries))
    said = []
    if subject == OURS:
        said.append(box.set_configs("--check").stderr)
        planned = box.run(["kolla_config", "plan"])
        said += [planned.stdout, planned.stderr]
    done = box.set_configs()
    assert done.returncode == 0, done.stderr
    said.append(done.stderr)
    result.replacements += FILES
    result.logged += [line for text in said for line in text.splitlines() if TOKEN in line]
