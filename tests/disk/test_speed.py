"""Speed, as far as a test can hold it: one bar, by the means of benchmarks/, and the slow storage.

The whole table is `make bench`: too long, and too much the machine's, for a test.
"""

import statistics
import sys
import time
from pathlib import Path

import pytest
from sandbox import Sandbox

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "benchmarks"))


def test_a_start_as_root_takes_half_of_upstreams_through_sudo(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    import peer
    import rows
    from container import Bench, in_turn

    if peer.missing():
        pytest.skip(str(peer.missing()))
    bench = Bench(sandbox)
    try:
        rows.nova_compute(bench)
        ours, upstream = rows.pair(bench, rows.START, first=True)
        in_turn(bench, (ours, upstream), 15, count=1)
    finally:
        bench.close()
    mine, theirs = statistics.median(ours.seconds), statistics.median(upstream.seconds)
    with capsys.disabled():
        print(
            f"\nnova-compute, 10 files, medians of 15: kolla_start as root {mine * 1000:.1f} ms, "
            f"upstream's as USER nova with sudo {theirs * 1000:.1f} ms: {mine / theirs:.2f} "
            "(one processor; at most 0.50)"
        )
    assert mine / theirs <= 0.5


def test_slow_storage_is_waited_for_by_many_and_all_is_set(sandbox: Sandbox) -> None:
    volume, count = "/var/lib/volume", 600
    sandbox.adduser("nova", 4321)
    sandbox.mkdir(f"{volume}/inner")
    for number in range(count):
        sandbox.write(f"{volume}/inner/{number}")
    sandbox.symlink("/etc/passwd", f"{volume}/inner/link", owner=(1, 1))
    walk = {"path": volume, "owner": "nova", "perm": "0640", "recurse": True}
    sandbox.document({"command": "/bin/true", "permissions": [walk]})
    slow = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-P", f"{volume}/inner"]
    slow += ["-e", "trace=newfstatat", "-e", "inject=newfstatat:delay_exit=5000"]
    environ = {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"}
    sandbox.run([*slow, "kolla_set_configs"], env=environ, check=True)
    for name in ("0", "1", "link", str(count - 1)):
        status = sandbox.stat(f"{volume}/inner/{name}")
        assert (status.st_uid, status.st_gid) == (4321, 4321)
    assert {sandbox.mode(f"{volume}/inner/{number}") for number in range(count)} == {0o640}
    assert sandbox.stat("/etc/passwd").st_uid == 0
    # One after the other it would be 3 s at least.
    start = time.monotonic()
    sandbox.run([*slow, "kolla_set_configs"], env=environ, check=True)
    assert time.monotonic() - start < count * 0.005 / 2
