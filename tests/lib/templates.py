"""kolla-ansible's config.json templates as documents, and the files and users that they name.

Of each version that is in support, whichever Python runs the tests. Each template is rendered
twice: everything enabled (every condition holds, every list has two items, the distribution is
Debian) and everything disabled. Values that a deployment would supply are made up from their names.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import peer
from jinja2 import Environment
from jinja2.runtime import Context
from sandbox import CONFIG_FILES, Sandbox

# What a name cannot tell, because something depends on the form.
_VALUES = {
    "container_config_directory": CONFIG_FILES,
    "project_name": "rabbitmq",
    "keystone_container_federation_oidc_metadata_folder": "/etc/apache2/metadata",
    "keystone_container_federation_oidc_idp_certificate_folder": "/etc/apache2/cert",
    "ceilometer_dynamic_pollsters_local_folder": "pollsters.d",
    "valkey_conf_path": "/etc/valkey/valkey.conf",
    "valkey_generated_conf_path": "/var/lib/valkey/valkey.conf",
}
_DISTRIBUTION = {True: "debian", False: "rocky"}

# Sources without a slash at the end that are directories in the roles.
_DIRECTORIES = frozenset(
    """
    ca-certificates ceph meters.d pollsters.d themes secrets logos domains metadata cert
    """.split()
)


class _Value:
    """A variable that the deployment would define; all conditions on it are `on`."""

    def __init__(self, name: str, on: bool) -> None:
        self._name = name
        self._on = on

    def __str__(self) -> str:
        if self._name in _VALUES:
            return _VALUES[self._name]
        last = self._name.rpartition("/")[2]
        if last.endswith("_port"):
            return "8080"
        return f"{last}.yaml" if last.endswith("_file") else last

    def __getattr__(self, name: str) -> "_Value":
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: object) -> "_Value":
        return self if name == "path" else _Value(f"{self._name}/{name}", self._on)

    def __iter__(self) -> Iterator["_Value"]:
        if self._on:
            for number in (1, 2):
                yield _Value(f"{self._name}/item{number}.conf", self._on)

    def __len__(self) -> int:
        return 2 if self._on else 0

    def __bool__(self) -> bool:
        return self._on

    def __eq__(self, other: object) -> bool:
        return self._on

    def __gt__(self, other: object) -> bool:
        return self._on

    def __contains__(self, item: object) -> bool:
        return self._on

    __hash__ = None  # type: ignore[assignment]


def _environment(on: bool) -> Environment:
    class Deployment(Context):
        def resolve_or_missing(self, key: str) -> Any:
            if key == "kolla_base_distro":
                return _DISTRIBUTION[on]
            found = super().resolve_or_missing(key)
            return found if key in self.vars or key in self.parent else _Value(key, on)

    env = Environment(trim_blocks=True, autoescape=False)
    env.context_class = Deployment
    env.filters.update(
        bool=bool,
        basename=lambda value: str(value).rpartition("/")[2],
        kolla_address=lambda value, host: "192.0.2.7",
        put_address_in_context=lambda value, kind: str(value),
    )
    env.tests["defined"] = lambda value: not isinstance(value, _Value) or on
    return env


@dataclass(frozen=True, slots=True)
class Case:
    """One document; `sources` are files and directories (these end in /) that it copies."""

    name: str
    document: dict[str, Any]
    sources: tuple[str, ...]
    full: bool = True  # everything enabled: optional sources and the service's own trees exist
    files: tuple[str, ...] = ()  # what else is there
    links: tuple[tuple[str, str], ...] = ()  # (path, target)
    refused: bool = False
    newer: dict[str, Any] | None = None  # the document that a newer version has for the service

    @property
    def entries(self) -> list[dict[str, Any]]:
        return entries(self.document)

    def owners(self) -> Iterator[str]:
        yield from owners(self.document)
        yield from owners(self.newer or {})


def sections(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a document, each with the name of its section."""
    for name in ("config_files", "directories", "files", "permissions"):
        for entry in document.get(name, []):
            yield name, entry


def owners(document: dict[str, Any]) -> Iterator[str]:
    for _, entry in sections(document):
        yield entry.get("owner", "root")


def entries(document: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document.get("config_files", [])
    return found


def case(name: str, document: dict[str, Any], full: bool = True) -> Case:
    return Case(name, document, tuple(_sources(document, full)), full)


def _sources(document: dict[str, Any], full: bool) -> Iterator[str]:
    for entry in document.get("config_files", []):
        source = re.sub("//+", "/", entry["source"])
        if entry.get("optional") and not full:
            continue
        if "*" in source:
            yield from (source.replace("*", name) for name in ("one", "two"))
        elif source.endswith("/"):
            yield source
        else:
            yield source + "/" * (source.rpartition("/")[2] in _DIRECTORIES)


def render(version: str) -> tuple[list[Case], list[str]]:
    """Every template of a version in both variants, and what is no document, with the reason."""
    cases, unusable = [], []
    roles = peer.ansibles()[version] / "roles"
    for path in sorted(roles.rglob("*.json.j2")):
        for on in (True, False):
            role = path.relative_to(roles).parts[0]
            name = f"{role}/{path.name.removesuffix('.json.j2')} {'on' if on else 'off'}"
            try:
                text = _environment(on).from_string(path.read_text()).render()
                document = json.loads(text)
            except Exception as error:
                unusable.append(f"{name}: {error}")
                continue
            if isinstance(document, dict) and "command" in document:
                cases.append(case(name, document, on))
            else:
                unusable.append(f"{name}: no config.json")
    return cases, unusable


def upgrades(older: list[Case], newer: list[Case]) -> list[Case]:
    """Each document of an older version with the newer one's of the same name, and all sources."""
    by_name = {one.name: one for one in newer}
    found = []
    for one in older:
        after = by_name.get(one.name)
        if after is not None:
            sources = tuple(dict.fromkeys([*one.sources, *after.sources]))
            found.append(Case(one.name, one.document, sources, one.full, newer=after.document))
    return found


NOBODY_S_NAME = "no-such-user"
ANOTHER = "another"  # the user of a deployment that changes an owner
BESIDE = (ANOTHER, "fluentd", "neighbour")  # who is there whatever the documents say


def by_hand() -> list[Case]:
    """What no template has: the faults of upstream that are known, and odd corners."""

    def entry(source: str, dest: str, **keys: object) -> dict[str, object]:
        plain: dict[str, object] = {"owner": "nova", "perm": "0600"}
        if keys.get("preserve_properties"):
            plain = {}
        return {"source": f"{CONFIG_FILES}/{source}", "dest": dest, **plain, **keys}

    def made(name: str, *entries: dict[str, object], **sections: object) -> dict[str, object]:
        return {"command": f"/bin/true {name}", "config_files": list(entries), **sections}

    plain = entry("nova.conf", "/etc/nova/nova.conf")
    tree = ("tree/a.conf", "tree/sub/b.conf")
    several: list[tuple[str, dict[str, object], dict[str, Any]]] = [
        ("command only", {"command": "/bin/true"}, {}),
        ("three digits", made("t", entry("a.conf", "/etc/nova/a.conf", perm="600"), plain), {}),
        ("0o in front", made("o", entry("a.conf", "/etc/nova/a.conf", perm="0o600"), plain), {}),
        ("directory 0644", made("d", entry("logos", "/etc/nova/logos", perm="0644"), plain), {}),
        (
            "preserved",
            made(
                "p",
                entry("logos", "/etc/nova/logos", preserve_properties=True),
                entry("a.conf", "/etc/nova/a.conf", preserve_properties=True),
            ),
            {},
        ),
        (
            "dest twice",
            made(
                "w",
                plain,
                entry("a.conf", "/etc/nova/a.conf", optional=True),
                entry("b.conf", "/etc/nova/a.conf", optional=True, perm="0640"),
            ),
            {},
        ),
        (
            "dest in dest",
            made(
                "i",
                entry("logos", "/etc/nova/logos"),
                entry("b.conf", "/etc/nova/logos/b.conf", perm="0640", owner="root"),
            ),
            {},
        ),
        (
            "merge into the root",
            made("m", entry("src/*", "/", merge=True, preserve_properties=True), plain),
            {"files": ("src/opt/new/a.conf", "src/etc/nova/merged.conf")},
        ),
        (
            "two exclude patterns",
            made(
                "e",
                plain,
                permissions=[
                    {
                        "path": "/var/lib/nova",
                        "owner": "nova:nova",
                        "recurse": True,
                        "exclude": ["/instances", "/mnt"],
                    }
                ],
            ),
            {"files": ("/var/lib/nova/instances/disk", "/var/lib/nova/mnt/x", "/var/lib/nova/y")},
        ),
        (
            "planted link",
            made(
                "l",
                plain,
                permissions=[{"path": "/var/log/kolla/nova", "owner": "nova", "recurse": True}],
            ),
            {
                "files": ("/etc/victim",),
                "links": (("/var/log/kolla/nova/planted.log", "/etc/victim"),),
            },
        ),
        (
            "unknown user",
            made("u", plain, entry("b.conf", "/etc/nova/b.conf", owner=NOBODY_S_NAME)),
            {"refused": True},
        ),
        (
            "bad perm",
            made("b", plain, entry("b.conf", "/etc/nova/b.conf", perm="rw-r--r--")),
            {"refused": True},
        ),
        (
            "unknown key",
            made("k", plain, entry("b.conf", "/etc/nova/b.conf", ownr="nova")),
            {"refused": True},
        ),
        (
            "numeric owner",
            made("n", entry("a.conf", "/etc/nova/a.conf", owner="4711:4712"), plain),
            {},
        ),
        (
            "directories and files",
            made(
                "df",
                plain,
                directories=[{"path": "/var/lib/nova/a/b", "owner": "nova", "perm": "0750"}],
                files=[{"path": "/var/lib/nova/a/b/c", "owner": "nova:", "perm": "0640"}],
                permissions=[{"path": "/var/lib/nova/missing", "owner": "nova", "unknown": 1}],
            ),
            {},
        ),
        (
            "ConfigMap",
            made("c", entry("map/", "/etc/nova/map"), plain),
            {
                "files": ("map/..1/a.conf",),
                "links": (
                    (f"{CONFIG_FILES}/map/..data", "..1"),
                    (f"{CONFIG_FILES}/map/linked.conf", "..data/a.conf"),
                ),
            },
        ),
        (
            "the image's link",
            made("il", entry("a.conf", "/etc/nova/a.conf"), plain),
            {
                "files": ("/usr/share/nova/a.conf",),
                "links": (("/etc/nova/a.conf", "/usr/share/nova/a.conf"),),
            },
        ),
        (
            "links in a tree",
            made("lt", entry("tree/", "/etc/nova/tree"), plain),
            {"files": tree, "links": ((f"{CONFIG_FILES}/tree/link", "sub"),)},
        ),
        ("doubled slashes", made("s", entry("/a.conf", "/etc//nova//a.conf"), plain), {}),
    ]
    cases = []
    for name, document, more in several:
        files = tuple(
            path if path.startswith("/") else f"{CONFIG_FILES}/{path}"
            for path in more.pop("files", ())
        )
        sources = tuple(
            source for source in _sources(document, True) if not source.endswith("src/two")
        )
        cases.append(Case(name, document, sources, True, files, **more))
    return cases


# --- in a sandbox -------------------------------------------------------------------------------


def add_owners(box: Sandbox, cases: list[Case]) -> None:
    """The users and groups that any of the documents names."""
    names = {owner for one in cases for owner in one.owners()}.union(BESIDE)
    groups = {owner.partition(":")[2] for owner in names} - {""}
    for user in sorted(owner.partition(":")[0] for owner in names):
        if not user.isdigit() and user not in ("root", NOBODY_S_NAME):
            box.adduser(user, groups=["kolla"])  # as Kolla's images have them
    known = {line.partition(":")[0] for line in box.read("/etc/group").splitlines()}
    taken = {int(line.split(":")[2]) for line in box.read("/etc/group").splitlines()}
    for group in sorted(groups - known):
        if not group.isdigit():
            gid = next(number for number in range(43000, 60000) if number not in taken)
            taken.add(gid)
            box.addgroup(group, gid)


def furnish(box: Sandbox, one: Case) -> None:
    """The document, its sources, and the trees that `permissions` are for."""
    box.document(one.document)
    for source in one.sources:
        if source.endswith("/"):
            box.write(f"{source}a.conf", f"{source}: a\n", mode=0o640)
            box.write(f"{source}sub/b.conf", f"{source}: b\n")
        else:
            box.write(source, f"{source}: first\n", mode=0o640)
    for path in one.files:
        box.write(path, f"{path}\n", mode=0o640)
    for path, target in one.links:
        box.symlink(target, path)
    if one.full:
        for path in own_trees(one):
            box.write(f"{path}/old/service.log", "a line\n", mode=0o600)


def own_trees(one: Case) -> list[str]:
    """Directories that are the service's own: under `permissions`, and nothing is copied there."""
    taken = {entry["dest"].rstrip("/") for entry in one.entries}
    return sorted(
        {
            entry["path"].rstrip("/")
            for entry in one.document.get("permissions", [])
            if entry.get("recurse")
            and "*" not in entry["path"]
            and not any((dest + "/").startswith(entry["path"].rstrip("/") + "/") for dest in taken)
        }
    )
