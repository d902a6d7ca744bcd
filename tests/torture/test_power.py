"""Nothing lost where the power is cut in a start, on real disks: a sample of what torture.py does.

docs/security.md says which promise each test holds.
"""

import time
from collections.abc import Iterator

import power
import pytest
from loop import FILESYSTEMS, Disk
from power_cases import CASES
from sandbox import Sandbox, Unusable
from subjects import OURS

# Each filesystem, each habit, each case: not each with each, which is the torture's.
SAMPLE = [
    ("ext4 ordered", "files replaced", "lazy"),
    ("ext4 ordered", "once", "names first"),
    ("ext4 writeback", "directory replaced", "names first"),
    ("ext4 writeback", "given back", "names first"),
    ("ext4 nodelalloc", "given back in part", "names first"),
    ("ext4 nodelalloc", "once, in a volume", "names first"),
    ("ext4 nodelalloc", "over a mount", "data first"),
    ("xfs", "merged", "names first"),
    ("xfs", "given back on another disk", "lazy"),
    ("xfs", "preserved", "lazy"),
    ("xfs", "permissions", "data first"),
]


@pytest.mark.parametrize(("filesystem", "name", "habit"), SAMPLE)
def test_a_power_cut(filesystem: str, name: str, habit: str) -> None:
    case = CASES[name]
    try:
        normal = power.reference(OURS, case, filesystem)
    except Unusable as reason:
        pytest.skip(str(reason))
    tried, lost = 0, {}
    for cut in power.cuts(OURS, case, normal, habit, 4):
        tried += 1
        why = power.lost(OURS, case, normal, cut)
        if why:
            lost[cut.after] = why
    assert tried == 4, "the device received next to nothing: the power was not cut in the start"
    assert not lost


@pytest.fixture(params=FILESYSTEMS)
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    try:
        with Disk.made(FILESYSTEMS[request.param]) as disk:
            yield disk
    except Unusable as reason:
        pytest.skip(str(reason))


def test_a_copy_is_what_was_flushed(disk: Disk) -> None:
    """The instrument: what was flushed is on the copy, what was not is not all there."""
    program = (
        "import os\n"
        "for name in ('flushed', 'not'):\n"
        "    fd = os.open(f'/srv/volume/{name}', os.O_CREAT | os.O_WRONLY)\n"
        "    os.write(fd, b'x' * 5000)\n"
        "    if name == 'flushed': os.fsync(fd)\n"
    )
    with Sandbox(disk=disk) as box:
        box.run(["python3", "-c", program], check=True)
        copy = disk.copy()
    with copy, Sandbox(disk=copy) as box:
        assert box.read_bytes("/srv/volume/flushed") == b"x" * 5000
        assert not box.exists("/srv/volume/not") or box.read_bytes("/srv/volume/not") != b"x" * 5000


def test_nothing_is_left_of_a_disk(disk: Disk) -> None:
    with pytest.raises(RuntimeError), Sandbox(disk=disk):
        device = disk.device
        assert disk.in_use()
        raise RuntimeError
    until = time.monotonic() + 30
    while disk.in_use():
        assert time.monotonic() < until, f"{device} is not given back"
        time.sleep(0.01)
