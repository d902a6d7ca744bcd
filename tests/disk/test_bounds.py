"""A start ends, in bounded memory, and says every few seconds what it is doing."""

import bounds
import pytest
from documents import document, entry
from moments import end
from outcomes import applied
from sandbox import Sandbox
from subjects import OURS

SAID = {
    "an exclude that backtracks for ever": (
        "still setting owners and modes in /var/log/kolla/svc: 1 done",
        "whether it is excluded takes too long to find out; it is left alone",
    ),
    "a tree that is deep": ("what is in it has no path (PATH_MAX); it is left alone",),
}


@pytest.mark.parametrize("name", bounds.CASES)
def test_it_ends(name: str) -> None:
    ended = bounds.measure(OURS, name, bounds.CASES[name][1], timeout=60)
    assert ended.lost() is None, ended
    assert ended.code == 0
    for words in SAID.get(name, ()):
        assert words in ended.said


def test_all_of_a_wide_directory_is_done(sandbox: Sandbox) -> None:
    """More than what is listed at once, at three levels, one deeper than what is held open."""
    sandbox.adduser("svc", 4321)
    deep = "/srv/top" + "/d" * 14
    sandbox.mkdir(deep)
    tops = ["/srv/top", "/srv/top/d/d", deep]
    script = "import os, sys\nfor top in sys.argv[1:]:\n for n in range(9000):\n"
    script += "  os.mkdir(f'{top}/{n}'); os.mkdir(f'{top}/{n}/x')\n"
    sandbox.run(["python3", "-c", script, *tops], check=True)
    sandbox.document(
        {"command": "true", "permissions": [{"path": "/srv/top", "owner": "svc", "recurse": True}]}
    )
    done = sandbox.set_configs()
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    left = sandbox.run(["find", "/srv/top", "!", "-user", "svc"], check=True)
    assert left.stdout == ""


def test_all_of_a_wide_directory_goes(sandbox: Sandbox) -> None:
    sandbox.source("tree/file", "x")
    sandbox.document(document(entry("tree", "/srv/top", "root", "0644")))
    assert sandbox.set_configs().returncode == 0
    script = "import os\nfor n in range(9000):\n os.makedirs(f'/srv/top/{n}/x/y')\n"
    sandbox.run(["python3", "-c", script], check=True)
    done = sandbox.set_configs()
    assert done.returncode == 0, done.stderr
    assert sandbox.run(["ls", "-A", "/srv/top"]).stdout == "file\n"


def test_the_timer_ends_before_the_service(sandbox: Sandbox) -> None:
    """It would outlive exec, and its signal would end the service."""
    report = "import signal; print(signal.getitimer(0), signal.getsignal(signal.SIGALRM))"
    sandbox.document({"command": ["python3", "-c", report]})
    done = sandbox.start()
    assert done.stdout == "(0.0, 0.0) 0\n", (done.stdout, done.stderr)
    env = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    done = sandbox.run(["perl", "-e", "alarm 50; exec @ARGV", "kolla_start"], env=env)
    assert done.stdout.startswith("(4") or done.stdout.startswith("(50"), done.stdout


def test_a_service_that_fills_what_is_removed(sandbox: Sandbox) -> None:
    """It ends, in whatever way: what came there meanwhile goes as well, but not for ever."""
    sandbox.adduser("svc", 4321)
    sandbox.source("tree/file", "x")
    sandbox.source("rest", "y")
    sandbox.mkdir("/srv/a")
    applied(sandbox, document(entry("tree", "/srv/a/top", "svc", "0644")))
    sandbox.document(document(entry("rest", "/srv/a/top", "svc", "0644")))
    loop = "import os, itertools\nfor n in itertools.count():\n"
    loop += " try: os.mkdir(f'/srv/a/top/{n}')\n except FileNotFoundError: pass\n"
    filling = sandbox.popen(["python3", "-c", loop], user="svc")
    try:
        done = sandbox.set_configs(timeout=60)
        assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
    finally:
        end(filling)
    applied(sandbox, document(entry("rest", "/srv/a/top", "svc", "0644")))
