"""What can be planted in any layout: by the name of the situation, what must come of it."""

import stat
from typing import Any

from canary import OUTSIDE, SECRET, SERVICE
from plants import (
    DISK_DEVICE,
    NULL_DEVICE,
    Situation,
    all_owned,
    bind,
    both,
    copy,
    deep,
    directory,
    hard_link,
    hard_link_as_service,
    inside,
    link,
    names,
    node,
    odd_names,
    owner,
    source,
    stands,
    wide,
)


def situations(log: str, home: str) -> dict[str, Situation]:
    """What can be planted in any layout, below these two directories of the service."""

    def tree(perm: str | None = "0666") -> dict[str, Any]:
        return owner(log, perm, recurse=True)

    return {
        # permissions: what the service planted in its own log directory
        "link as leaf": Situation(link(SECRET, f"{log}/leaf"), tree()),
        "link as leaf, owner only": Situation(link(SECRET, f"{log}/leaf"), tree(None)),
        "link as directory": Situation(link("/etc/canary", f"{log}/dir"), tree()),
        "link to /": Situation(link("/", f"{log}/dir"), tree()),
        "link upwards": Situation(link("../../../../etc/canary", f"{log}/dir"), tree()),
        "dangling link": Situation(link("/etc/canary/new", f"{log}/dangling"), tree()),
        "link to itself": Situation(link("self", f"{log}/self"), tree()),
        "two links in a circle": Situation(
            both(link("b", f"{log}/a"), link("a", f"{log}/b")), tree()),
        "link to /proc/1/root": Situation(link("/proc/1/root", f"{log}/host"), tree()),
        "path through /proc/1/root": Situation(
            link("/proc/1/root", f"{log}/host"), owner(f"{log}/host/etc/canary", recurse=True)),
        "path through /proc/self/root": Situation(
            link("/proc/self/root/etc/canary", f"{log}/host"), owner(f"{log}/host/secret")),
        "middle component": Situation(
            link("/etc/canary", f"{log}/dir"), owner(f"{log}/dir/secret")),
        "two middle components": Situation(
            both(directory(f"{log}/sub"), link("/etc", f"{log}/sub/dir")),
            owner(f"{log}/sub/dir/canary/secret")),
        "the path itself": Situation(link(SECRET, f"{log}/leaf"), owner(f"{log}/leaf")),
        "the path itself, recursive": Situation(
            link("/etc/canary", f"{log}/dir"), owner(f"{log}/dir", recurse=True)),
        "the path itself with a slash": Situation(
            link("/etc/canary", f"{log}/dir"), owner(f"{log}/dir/", recurse=True)),
        "pattern for the leaf": Situation(link(SECRET, f"{log}/leaf"), owner(f"{log}/*")),
        "pattern for the directory": Situation(
            link("/etc/canary", f"{log}/dir"), owner(f"{log}/*/secret")),
        "pattern, recursive": Situation(
            link("/etc/canary", f"{log}/dir"), owner(f"{log}/d*", recurse=True)),
        "hard link": Situation(hard_link(f"{log}/hard"), tree(), message="hard links"),
        "hard link, owner only": Situation(
            hard_link(f"{log}/hard"), tree(None), message="hard links"),
        "hard link, not recursive": Situation(
            hard_link(f"{log}/hard"), owner(f"{log}/hard"), message="hard links"),
        "hard link, kernel protects": Situation(hard_link_as_service(f"{log}/hard"), tree()),
        "fifo": Situation(node(stat.S_IFIFO, f"{log}/fifo"), tree()),
        "socket": Situation(node(stat.S_IFSOCK, f"{log}/socket"), tree()),
        "odd names": Situation(odd_names(f"{log}/odd"), tree(), after=all_owned(f"{log}/odd", 10)),
        "2,000 directories deep": Situation(deep(f"{log}/deep", 2000), tree(), heavy=True),
        "100,000 entries": Situation(
            wide(f"{log}/wide", 100_000), tree(), after=all_owned(f"{log}/wide", 100_001),
            heavy=True),
        "a mount of itself inside": Situation(bind(log, f"{log}/mount"), tree()),
        "another user's directory inside": Situation(
            both(directory(f"{log}/other", by=(7, 7)), link("/etc", f"{log}/other/etc")), tree()),
        # config_files: the destination
        "dest is a link": Situation(
            link(SECRET, f"{home}/conf"), copy(f"{home}/conf"), after=stands(f"{home}/conf")),
        "dest is a dangling link": Situation(
            link("/etc/canary/new", f"{home}/conf"), copy(f"{home}/conf"),
            after=stands(f"{home}/conf")),
        "dest is a link to /proc/1/root": Situation(
            link("/proc/1/root/etc/canary/secret", f"{home}/conf"), copy(f"{home}/conf"),
            after=stands(f"{home}/conf")),
        "dest is a hard link": Situation(
            hard_link(f"{home}/conf"), copy(f"{home}/conf"), ctime=False,
            after=stands(f"{home}/conf")),
        "dest is a fifo": Situation(
            node(stat.S_IFIFO, f"{home}/conf"), copy(f"{home}/conf"), after=stands(f"{home}/conf")),
        "dest is a socket": Situation(
            node(stat.S_IFSOCK, f"{home}/conf"), copy(f"{home}/conf"),
            after=stands(f"{home}/conf")),
        "dest is a character device": Situation(
            node(stat.S_IFCHR, f"{home}/conf", NULL_DEVICE), copy(f"{home}/conf"),
            after=stands(f"{home}/conf")),
        "dest is a block device": Situation(
            node(stat.S_IFBLK, f"{home}/conf", DISK_DEVICE), copy(f"{home}/conf"),
            after=stands(f"{home}/conf")),
        "dest is a directory of links": Situation(
            both(link(SECRET, f"{home}/conf/a"), link("/etc", f"{home}/conf/b")),
            copy(f"{home}/conf"), after=stands(f"{home}/conf")),
        "dest through a link": Situation(
            link("/etc/canary", f"{home}/dir"), copy(f"{home}/dir/secret"), 1, message="link"),
        "dest through a link, new parents": Situation(
            link("/etc/canary", f"{home}/dir"), copy(f"{home}/dir/new/secret"), 1, message="link"),
        "dest in a linked directory": Situation(
            link("/etc/canary", f"{home}/dir"), copy(f"{home}/dir/"), 1, message="link"),
        "dest parent is the service's": Situation(
            directory(f"{home}/sub"), copy(f"{home}/sub/conf", owner="root"),
            after=stands(f"{home}/sub/conf", uid=0)),
        "dest parent is root's inside the service's, open to all": Situation(
            directory(f"{home}/sub", by="root", mode=0o777), copy(f"{home}/sub/conf"), 1,
            message="belongs to uid 0"),
        "dest parent is another user's inside the service's": Situation(
            directory(f"{home}/sub", by=(7, 7)), copy(f"{home}/sub/conf"), 1,
            message="belongs to uid 7"),
        "dest below a link in /tmp": Situation(
            link("/etc/canary", "/tmp/dir"), copy("/tmp/dir/secret"), 1, message="link"),
        "dest below a link in a directory open to all": Situation(
            both(directory("/srv/open", by="root", mode=0o777),
                 link("/etc/canary", "/srv/open/dir")),
            copy("/srv/open/dir/secret"), 1, message="link"),
        "dest below root's link in a directory open to all": Situation(
            both(directory("/srv/open", by="root", mode=0o777),
                 lambda box: box.symlink("/etc/canary", "/srv/open/dir")),
            copy("/srv/open/dir/secret"), 1, message="link"),
        "directory replaced, links inside": Situation(
            both(source("tree/secret"), link("/etc/canary", f"{home}/tree/dir"),
                 link(SECRET, f"{home}/tree/secret")),
            copy(f"{home}/tree", "tree"), after=names(f"{home}/tree", ["secret"])),
        "directory replaced, odd names inside": Situation(
            both(source("tree/secret"), odd_names(f"{home}/tree/odd")),
            copy(f"{home}/tree", "tree"), after=names(f"{home}/tree", ["secret"])),
        "directory replaced, a link in its place": Situation(
            both(source("tree/secret"), link("/etc/canary", f"{home}/tree")),
            copy(f"{home}/tree", "tree"), after=names(f"{home}/tree", ["secret"])),
        "directory replaced, a mount inside": Situation(
            both(source("tree/secret"), bind("/srv/outside", f"{home}/tree/mount")),
            copy(f"{home}/tree", "tree"), 1, message="is a mount point"),
        "directory replaced, 2,000 deep": Situation(
            both(source("tree/secret"), deep(f"{home}/tree", 2000)),
            copy(f"{home}/tree", "tree"), after=names(f"{home}/tree", ["secret"]), heavy=True),
        "file in place of a directory, 2,000 deep": Situation(
            deep(f"{home}/conf", 2000), copy(f"{home}/conf"), after=stands(f"{home}/conf"),
            heavy=True),
        "merge, a link as directory": Situation(
            both(source("tree/dir/secret"), link("/etc/canary", f"{home}/tree/dir")),
            copy(f"{home}/tree", "tree", merge=True), 1, message="link"),
        "merge, a link as file": Situation(
            both(source("tree/secret"), link(SECRET, f"{home}/tree/secret")),
            copy(f"{home}/tree", "tree", merge=True),
            after=stands(f"{home}/tree/secret", "from the operator")),
        "merge, a hard link as file": Situation(
            both(source("tree/secret"), directory(f"{home}/tree"),
                 hard_link(f"{home}/tree/secret")),
            copy(f"{home}/tree", "tree", merge=True), ctime=False,
            after=stands(f"{home}/tree/secret", "from the operator")),
        "merge, a fifo as file": Situation(
            both(source("tree/secret"), directory(f"{home}/tree"),
                 node(stat.S_IFIFO, f"{home}/tree/secret")),
            copy(f"{home}/tree", "tree", merge=True),
            after=stands(f"{home}/tree/secret", "from the operator")),
        "source is the service's link": Situation(
            link(SECRET, f"{home}/source"), copy(f"{home}/conf", f"{home}/source"), 1),
        "source through the service's link": Situation(
            link("/etc/canary", f"{home}/source"),
            copy(f"{home}/conf", f"{home}/source/secret"), 1),
        "source is the service's fifo": Situation(
            node(stat.S_IFIFO, f"{home}/source"), copy(f"{home}/conf", f"{home}/source"), 1),
        "source tree holds the service's link": Situation(
            both(directory(f"{home}/source"), link(SECRET, f"{home}/source/secret")),
            copy(f"{home}/conf", f"{home}/source"), 1),
        # what left the document
        "left the document, its parent a link now": Situation(
            inside(f"rm -r {home}/dir; ln -s /srv/outside {home}/dir; chown -h svc {home}/dir"),
            {}, message="link", earlier=copy(f"{home}/dir/file")),
        "left the document, a link in its place": Situation(
            inside(f"rm {home}/conf; ln -s {OUTSIDE} {home}/conf; chown -h svc {home}/conf"),
            {}, earlier=copy(f"{home}/conf")),
        "left the document, a tree of links in its place": Situation(
            inside(f"rm {home}/conf; mkdir {home}/conf; ln -s / {home}/conf/root; "
                   f"ln -s {OUTSIDE} {home}/conf/file"),
            {}, earlier=copy(f"{home}/conf")),
        "a planted temporary file": Situation(
            inside(f"ln -s /etc/canary {home}/.kolla_start.dir; "
                   f"mkdir {home}/.kolla_start.tree; ln -s /etc {home}/.kolla_start.tree/etc; "
                   "own=/etc/kolla/defaults/kolla_start; [ ! -e $own ] || sed -i "
                   f"-e 's|\"pending\": false|\"pending\": true|' "
                   f"-e 's|\"places\": \\[\\]|\"places\": [\"{home}\"]|' $own"),
            copy(f"{home}/conf"), earlier=copy(f"{home}/conf"),
            after=names(home, [".kolla_start.tree", "conf"])),
        # directories and files
        "directories: a link": Situation(
            link("/etc/canary", f"{home}/dir"),
            {"directories": [{"path": f"{home}/dir", "owner": SERVICE, "perm": "0755"}]}, 1,
            message="link"),
        "directories: through a link": Situation(
            link("/etc/canary", f"{home}/dir"),
            {"directories": [{"path": f"{home}/dir/new", "owner": SERVICE, "perm": "0755"}]}, 1,
            message="link"),
        "files: a link": Situation(
            link(SECRET, f"{home}/file"),
            {"files": [{"path": f"{home}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
            message="a link"),
        "files: a dangling link": Situation(
            link("/etc/canary/new", f"{home}/file"),
            {"files": [{"path": f"{home}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
            message="a link"),
        "files: a fifo": Situation(
            node(stat.S_IFIFO, f"{home}/file"),
            {"files": [{"path": f"{home}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
            message="special"),
        "files: a hard link": Situation(
            hard_link(f"{home}/file"),
            {"files": [{"path": f"{home}/file", "owner": SERVICE, "perm": "0666"}]}, 1,
            message="hard links"),
        "files: through a link": Situation(
            link("/etc/canary", f"{home}/dir"),
            {"files": [{"path": f"{home}/dir/new", "owner": SERVICE, "perm": "0666"}]}, 1,
            message="link"),
    }  # fmt: skip
