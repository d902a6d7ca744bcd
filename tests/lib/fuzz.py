"""Documents made of real ones by mutation: who accepts what, and what a start does with it.

Each input is given to the judge and to the models: both must find the same places wrong, neither
may raise. A sample goes through the real command in a sandbox: exit 0 or 1, and refused means that
nothing was touched. `python tests/lib/fuzz.py RUNS` lets atheris guide the mutations by coverage,
where it is installed. Used by test_fuzz.py and torture.py.
"""

import copy
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agreement import agree
from sandbox import CONFIG_FILES, Sandbox

from kolla_start.document import places
from kolla_start.document.load import examine, parse

TREE = Path(__file__).resolve().parents[2]

# What a person, a template or a machine may write by mistake, and what breaks parsers.
_VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 0o600, 1.5, 1e999, 10**40, "", " ", "/", "//", "/etc", "/etc/",
    "/etc/passwd", "/etc/x", "relative", "..", "/a/../b", "/a/./b", "/a//b", "\0", "/\0", "\ud800",
    "/\u202e", "é", "/é/ü", "*", "/etc/*", "/[", "0600", "600", "0o600", "0o1777", "9999", "0x1ff",
    "rw-r--r--", "root", "root:root", "root:", ":root", "nobody:nogroup", "0", "0:0", "4294967295",
    "99999999999", "no such user", "[", "(", "(?P<a>", "a{99999999999}", "^/etc", [], [[]], {},
    {"a": 1}, ["a"], [1], [None], "NET_BIND_SERVICE", "CAP_SYS_ADMIN", "net_raw", "[\"a\"]",
    "/var/lib/kolla/config_files", "/var/lib/kolla/config_files/x", "/run_command",
    "/etc/kolla/defaults/x", "/configured", "x" * 5000, "/" + "x" * 300, "/x" * 2100,
]  # fmt: skip
_KEYS = """command config_files directories files permissions user capabilities no_new_privileges
    source dest owner perm optional merge preserve_properties path recurse exclude ignore_dangling
    permission perms Source _comment $schema __proto__ unknown""".split()
_SNIPPETS = ['{', '}', '[', ']', ',', ':', '"', '\\', '\\u0000', '\\ud800', 'NaN', '1e999', "null",
             'true', '\n', '\t', '\0', '\ufeff', '//', '/* */', '"a":1,"a":2', "'", '- ', '? ',
             '&a ', '*a', '!!python/object:os.system ', '\u2028', '\x1b[2J']  # fmt: skip


def corpus() -> list[dict[str, Any]]:
    """Real documents: the examples', and kolla-ansible's where it is installed."""
    found = [json.loads(path.read_text()) for path in sorted(TREE.glob("examples/*/config.json"))]
    found.append(
        {
            "command": ["sh", "-c", "true"],
            "config_files": [
                {"source": "/var/lib/kolla/config_files/src/*", "dest": "/", "merge": True,
                 "preserve_properties": True, "optional": True}
            ],
            "directories": [{"path": "/var/lib/d", "owner": "root", "perm": "0755"}],
            "files": [{"path": "/var/lib/d/f", "owner": "root", "perm": "0640"}],
            "permissions": [{"path": "/var/lib/d", "owner": "root", "perm": "0700",
                             "recurse": True, "exclude": ["^/var/lib/d/x"]}],
            "user": "nobody:nogroup", "capabilities": ["NET_BIND_SERVICE"],
            "no_new_privileges": True,
        }
    )  # fmt: skip
    try:
        import peer
        import templates
    except ImportError:
        return found  # without the peers the examples are enough
    for version in peer.ansibles():
        found += [each.document for each in templates.render(version)[0]]
    return found


def mutated(rng: random.Random, documents: list[dict[str, Any]]) -> str:
    """One text: a real document with a few changes in its values, and sometimes in its text."""
    value: Any = copy.deepcopy(rng.choice(documents))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 6))):
        value = _changed(rng, value, documents)
    text = json.dumps(value, indent=rng.choice((None, 2)), ensure_ascii=rng.random() < 0.5)
    while rng.random() < 0.15:
        at = rng.randrange(len(text) + 1)
        cut = rng.choice((0, 0, 1, 1, 2, 10, 1000))
        text = text[:at] + rng.choice(("", *_SNIPPETS)) + text[at + cut :]
    return text


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _changed(rng: random.Random, value: Any, documents: list[dict[str, Any]]) -> Any:
    places = list(_places(value))
    if not places or rng.random() < 0.02:
        return copy.deepcopy(rng.choice(_VALUES))
    holder, key = rng.choice(places)
    how = rng.randrange(7)
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[rng.choice(_KEYS)] = holder.pop(key)
    elif how == 2 and isinstance(holder, dict):
        holder[rng.choice(_KEYS)] = copy.deepcopy(rng.choice(_VALUES))
    elif how == 3 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif how == 4:
        other, where = rng.choice(list(_places(rng.choice(documents))))
        holder[key] = copy.deepcopy(other[where])
    elif how == 5 and isinstance(holder[key], str):
        text = holder[key]
        at = rng.randrange(len(text) + 1)
        holder[key] = text[:at] + rng.choice(("/", "\0", " ", ":", "*", "8", "..", "")) + text[at:]
    else:
        holder[key] = copy.deepcopy(rng.choice(_VALUES))
    return value


def judge(text: str, name: str = "config.json") -> bool:
    """Whether the document is good. Raises AssertionError where judge and models do not agree."""
    faults = examine(name, text)
    try:
        value = parse(name, text)
    except ValueError:
        accepted = False
    else:
        accepted = agree(value)
    assert accepted == (not faults), (accepted, [str(fault) for fault in faults], text)
    for line in places.lines(name, text, faults):
        assert line.startswith(f"{name}:"), line
    return accepted


def through_the_command(box: Sandbox, seed: int, count: int) -> list[str]:
    """Mutated documents through the real command, with the problems found."""
    rng, documents = random.Random(seed), corpus()
    problems = []
    for user in ("nova", "neutron", "memcache"):
        box.adduser(user)
    for number in range(count):
        text = mutated(rng, documents)
        box.write(f"{CONFIG_FILES}/config.json", text.encode("utf-8", "surrogatepass"))
        box.mark()
        try:
            done = box.set_configs(timeout=20)
        except subprocess.TimeoutExpired:
            problems.append(f"seed {seed}, input {number}: no end: {text}")
            continue
        if done.returncode not in (0, 1) or "Traceback" in done.stderr:
            problems.append(f"seed {seed}, input {number}: {text}\n{done.stderr[-2000:]}")
        elif done.returncode == 1 and box.changes() and "the next start" not in done.stderr:
            problems.append(f"seed {seed}, input {number}: refused, and touched: {text}")
    return problems


def guided(runs: int) -> None:
    """Coverage-guided: atheris mutates the text itself. Does not return."""
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]

    atheris.instrument_all()
    documents = corpus()

    def one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        seed = provider.ConsumeUInt(4)
        text = mutated(random.Random(seed), documents)
        rest = provider.ConsumeUnicode(200)
        at = seed % (len(text) + 1)
        judge(text[:at] + rest + text[at:])

    atheris.Setup([sys.argv[0], f"-runs={runs}", "-max_len=400", "-verbosity=0"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    guided(int(sys.argv[1]))
