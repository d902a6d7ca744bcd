"""Whether a measured program has done its work: looked at after every run, off the clock.

Everything here raises Broken. It looks from outside and by other means than either program: a
contender that leaves work out must not look fast.
"""

import json
import os
import stat
from collections import Counter

from container import COPY, TREE, UID, VOLUME, Bench, Broken
from sandbox import CONFIG_FILES

NOVA_COMPUTE = TREE / "examples/nova-compute"


def nova_compute(bench: Bench, root: str = "") -> None:
    """The ten files, the command and both recursive `permissions`, below `root`."""
    box = bench.box
    document = json.loads((NOVA_COMPUTE / "config.json").read_text())
    for entry in document["config_files"]:
        path = root + entry["dest"]
        wanted = (*box._owner(entry["owner"]), int(entry["perm"], 8) | stat.S_IFREG)
        if not box.exists(path):
            raise Broken(f"{path} was not copied")
        status = box.stat(path)
        if (status.st_uid, status.st_gid, status.st_mode) != wanted:
            raise Broken(f"{path} has not the owner and mode that were asked for: {status}")
        source = NOVA_COMPUTE / os.path.basename(entry["source"])
        if box.read_bytes(path) != source.read_bytes():
            raise Broken(f"{path} has not the content of its source")
    for entry in document["permissions"]:
        status = box.stat(root + entry["path"])
        if (status.st_uid, status.st_gid) != (UID, UID):
            raise Broken(f"{root}{entry['path']} belongs to {status.st_uid}:{status.st_gid}")
    if box.read(f"{root}/run_command").strip() != "/bin/true":
        raise Broken(f"{root}/run_command does not hold the command")


def trusted(bench: Bench, certificates: int) -> None:
    """nova-compute's, and each custom CA in the system's bundle."""
    nova_compute(bench)
    bundle = bench.box.read("/etc/ssl/certs/ca-certificates.crt")
    for number in range(certificates):
        mounted = bench.box.read(f"{CONFIG_FILES}/ca-certificates/bench{number}.crt").strip()
        anchor = f"/usr/local/share/ca-certificates/kolla-customca-bench{number}.crt"
        if not bench.box.exists(anchor) or mounted not in bundle:
            raise Broken(f"{anchor} is not trusted")


def tree(bench: Bench, top: str, directories: int, files: int, uid: int) -> None:
    """`directories` of `files` each below `top`: 0755 and 0644, all of one owner and its group."""
    found = Counter(bench.shell(f"find {top} -printf '%y %m %U %G\\n'").splitlines())
    wanted = {
        f"d 755 {uid} {uid}": directories + 1,
        f"f 644 {uid} {uid}": directories * files,
    }
    if found != Counter(wanted):
        raise Broken(f"{top}: wanted {wanted}, found {dict(found)}")


def volume(bench: Bench, directories: int, files: int) -> None:
    tree(bench, VOLUME, directories, files, UID)


def copied(bench: Bench, directories: int, files: int) -> None:
    """The copy has root's owner, the modes asked for, and byte for byte the content."""
    tree(bench, COPY, directories, files, 0)
    compared = bench.box.run(["diff", "-rq", f"{CONFIG_FILES}/tree", COPY], timeout=600)
    if compared.returncode:
        raise Broken(f"{COPY} is no copy: {(compared.stdout + compared.stderr)[:500]}")
