"""Drop-in, shown: upstream and this program side by side, on real documents and odd ones.

Every template of each kolla-ansible that is in support, and the documents made by hand, go through
the same lives in two sandboxes, and an upgrade from one to the next goes through a deployment's;
whatever differs must be explained by a rule (rules.py) that docs/differences.md tells the reader
about, and every rule must have explained something.
"""

import itertools
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import chains
import compare
import peer
import pytest
import rules
import sandbox as sandboxes
import templates
import yaml
from documents import entry
from sandbox import CONFIG_FILES, TREE, Sandbox, Unusable

pytestmark = pytest.mark.skipif(peer.missing() is not None, reason=str(peer.missing()))

WORKERS = max(2, os.cpu_count() or 2)
# Configuration of RabbitMQ and Open vSwitch that ends in .json.j2 as well.
NO_DOCUMENTS = {"rabbitmq/definitions", "ovn-db/ovsdb-relay"}


def documents() -> dict[str, tuple[list[templates.Case], tuple[chains.Chain, ...]]]:
    """What is compared, in groups, and the lives that each group goes through."""
    real = {version: templates.render(version)[0] for version in peer.ansibles()}
    versions = list(real)
    found = {f"kolla-ansible {version}": (real[version], chains.CHAINS) for version in versions}
    for older, newer in itertools.pairwise(versions):
        cases = templates.upgrades(real[older], real[newer])
        found[f"upgrade {older} to {newer}"] = (cases, (chains.DEPLOYMENT,))
    found["made by hand"] = (templates.by_hand(), chains.CHAINS)
    return found


@dataclass(slots=True)
class Outcome:
    """Of one process's share; must be small enough to be sent home."""

    compared: int = 0
    equal: int = 0
    by_rule: Counter[str] = field(default_factory=Counter)  # of comparisons, not of paths
    unexplained: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        self.compared += other.compared
        self.equal += other.equal
        self.by_rule += other.by_rule
        self.unexplained += other.unexplained
        self.wrong += other.wrong


def share(number: int) -> dict[str, Outcome]:
    """Compare every WORKERS-th document, beginning with this one."""
    groups = documents()
    outcomes = {name: Outcome() for name in groups}
    with compare.Pair([one for cases, _ in groups.values() for one in cases]) as pair:
        for name, (cases, lives) in groups.items():
            for one in cases[number::WORKERS]:
                judge(compare.compare(pair, one, lives), outcomes[name])
    return outcomes


def judge(found: compare.Compared, outcome: Outcome) -> None:
    outcome.compared += found.steps
    outcome.wrong += found.wrong
    for differences in found.differences:
        explained = [(difference, rules.explain(difference)) for difference in differences]
        outcome.equal += not explained
        outcome.by_rule.update({name for _, name in explained if name})
        outcome.unexplained += [str(difference) for difference, name in explained if not name]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    reason = sandboxes.unusable()
    if reason:
        pytest.skip(reason)
    try:
        with Sandbox():
            pass  # installs the program, once, before there are two who would
    except Unusable as error:
        pytest.skip(str(error))
    total: dict[str, Outcome] = {name: Outcome() for name in documents()}
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(WORKERS, mp_context=context) as pool:
        for part in pool.map(share, range(WORKERS)):
            for name, outcome in part.items():
                total[name].add(outcome)
    return total


def test_what_is_compared() -> None:
    """Two variants of every template; the two that are no config.json are named."""
    assert len(peer.ansibles()) >= 2
    for version in peer.ansibles():
        cases, unusable = templates.render(version)
        assert len(cases) >= 300
        assert {line.split()[0] for line in unusable} == NO_DOCUMENTS


def test_nothing_differs_without_a_rule(
    outcomes: dict[str, Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print()
        for name, (cases, lives) in documents().items():
            one = outcomes[name]
            scenarios = sum(len(chain) for chain in lives)
            by_rule = ", ".join(f"{rule} {count}" for rule, count in one.by_rule.most_common())
            print(
                f"{name}: {len(cases)} documents x {scenarios} scenarios: {one.compared} compared, "
                f"{one.equal} equal, {one.compared - one.equal} differ by rule: {by_rule}"
            )
        print(f"templates that are no config.json: {', '.join(sorted(NO_DOCUMENTS))}")
    unexplained = [line for one in outcomes.values() for line in one.unexplained]
    assert not unexplained, f"{len(unexplained)}:\n" + "\n".join(unexplained[:20])


def test_check_answers_right_in_every_document(outcomes: dict[str, Outcome]) -> None:
    """0 after a start and while the service lives, 1 after each change, 2 if it cannot tell."""
    wrong = [line for one in outcomes.values() for line in one.wrong]
    assert not wrong, f"{len(wrong)}:\n" + "\n".join(wrong[:10])


def test_every_rule_has_a_use(outcomes: dict[str, Outcome]) -> None:
    used = {name for one in outcomes.values() for name in one.by_rule}
    assert not set(rules.RULES) - used


def test_every_rule_has_its_line() -> None:
    """docs/differences.md: a row for each rule, and for each test named there; and no other row."""
    text = (TREE / "docs/differences.md").read_text()
    rows = re.findall(r"^\| (`[^|]+`) \|(.*)\|(.*)\|(.*)\|$", text, re.MULTILINE)
    named = [name for names, *_ in rows for name in re.findall("`([^`]+)`", names)]
    assert len(named) == len(set(named))
    assert all(cell.strip() for _, *cells in rows for cell in cells)
    tests = {name for name in named if name.startswith("test_")}
    assert set(named) - tests == set(rules.RULES)
    written = "".join(path.read_text() for path in (TREE / "tests").rglob("test_*.py"))
    assert not {name for name in tests if f"def {name}(" not in written}


# --- --check for real ---------------------------------------------------------------------------

NOVA = {
    "command": "nova-compute",
    "config_files": [
        entry("nova.conf", "/etc/nova/nova.conf", "nova", "0600"),
        entry("policy.yaml", "/etc/nova/policy.yaml", "nova", "0640", optional=True),
        entry("*.rules", "/etc/nova/rules/", optional=True),
        entry("providers", "/etc/nova/providers", "root:nova", "0640"),
    ],
    "directories": [{"path": "/var/lib/nova/instances", "owner": "nova", "perm": "0755"}],
    "files": [{"path": "/var/lib/nova/compute_id", "owner": "nova", "perm": "0640"}],
    "permissions": [{"path": "/var/log/kolla/nova", "owner": "nova:nova", "recurse": True}],
}


@pytest.fixture
def nova(sandbox: Sandbox) -> Sandbox:
    """A container that has started once."""
    sandbox.adduser("nova")
    sandbox.source("nova.conf", "[DEFAULT]\n")
    sandbox.source("one.rules", "1\n")
    sandbox.write(f"{CONFIG_FILES}/providers/a.yaml", "a\n")
    sandbox.mkdir("/var/log/kolla/nova")
    sandbox.document(NOVA)
    assert sandbox.set_configs().returncode == 0
    return sandbox


def edited(**sections: object) -> Callable[[Sandbox], object]:
    return lambda box: box.document({**NOVA, **sections})


def entries(*more: dict[str, object], without: int | None = None, **keys: object) -> object:
    """NOVA's config_files, the first with other keys, one left out, some added."""
    kept = [dict(one) for one in _entries()]
    kept[0].update(keys)
    if without is not None:
        del kept[without]
    return [*kept, *more]


def _entries() -> list[dict[str, object]]:
    found = NOVA["config_files"]
    assert isinstance(found, list)
    return found


CHANGES: dict[str, Callable[[Sandbox], object]] = {
    "content of a source": lambda box: box.source("nova.conf", "[api]\n"),
    "content of the same length": lambda box: box.source("nova.conf", "[default]\n"),
    "optional source appeared": lambda box: box.source("policy.yaml", "{}\n"),
    "file joins a pattern": lambda box: box.source("two.rules", "2\n"),
    "file leaves a pattern": lambda box: box.remove(f"{CONFIG_FILES}/one.rules"),
    "file joins a directory": lambda box: box.source("providers/b.yaml", "b\n"),
    "file leaves a directory": lambda box: box.remove(f"{CONFIG_FILES}/providers/a.yaml"),
    "copy edited by hand": lambda box: box.write(
        "/etc/nova/nova.conf", "[DEFAULt]\n", owner="nova", mode=0o600
    ),
    "copy removed": lambda box: box.remove("/etc/nova/nova.conf"),
    "copy of another owner": lambda box: os.chown(box.host("/etc/nova/nova.conf"), 0, 0),
    "copy of another mode": lambda box: os.chmod(box.host("/etc/nova/nova.conf"), 0o644),
    "copied directory of another mode": lambda box: os.chmod(
        box.host("/etc/nova/providers"), 0o777
    ),
    "command": edited(command="nova-compute --debug"),
    "command as a list": edited(command=["nova-compute"]),
    "user": edited(user="nova"),
    "owner in the document": edited(config_files=entries(owner="root")),
    "perm in the document": edited(config_files=entries(perm="0640")),
    "dest in the document": edited(config_files=entries(dest="/etc/nova/other.conf")),
    "entry left": edited(config_files=entries(without=3)),
    "pattern left": edited(config_files=entries(without=2)),
    "no config_files any more": edited(config_files=[]),
    "entry added": edited(
        config_files=entries(entry("nova.conf", "/etc/nova/copy.conf", "nova", "0600"))
    ),
    "permissions over a copy": edited(
        permissions=[{"path": "/etc/nova/nova.conf", "owner": "root", "perm": "0644"}]
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_check_sees_what_a_restart_would_change(nova: Sandbox, change: str) -> None:
    assert nova.set_configs("--check").returncode == 0
    CHANGES[change](nova)
    nova.mark()
    done = nova.set_configs("--check")
    assert (done.returncode, nova.changes()) == (1, {}), done.stderr
    assert done.stderr
    assert nova.set_configs().returncode == 0
    assert nova.set_configs("--check").returncode == 0


OWN_AFFAIRS: dict[str, Callable[[Sandbox], object]] = {
    "a log of another owner": lambda box: box.write("/var/log/kolla/nova/n.log", "x", mode=0o600),
    "a file in a copied directory": lambda box: box.write("/etc/nova/providers/cache", "x"),
    "a file beside a copy": lambda box: box.write("/etc/nova/nova.conf.bak", "x"),
    "its own file rewritten": lambda box: box.write("/var/lib/nova/compute_id", "x", mode=0o600),
    "its own file removed": lambda box: box.remove("/var/lib/nova/compute_id"),
    "its own directory": lambda box: os.chmod(box.host("/var/lib/nova/instances"), 0o700),
    "a copy read and touched": lambda box: os.utime(box.host("/etc/nova/nova.conf")),
    "sections that are no files": edited(directories=[], files=[], permissions=[]),
}


@pytest.mark.parametrize("affair", OWN_AFFAIRS)
def test_check_leaves_the_service_its_own(nova: Sandbox, affair: str) -> None:
    OWN_AFFAIRS[affair](nova)
    done = nova.set_configs("--check")
    assert done.returncode == 0, done.stderr


UNKNOWABLE: dict[str, Callable[[Sandbox], object]] = {
    "a source is missing": lambda box: box.remove(f"{CONFIG_FILES}/nova.conf"),
    "no document": lambda box: box.remove(f"{CONFIG_FILES}/config.json"),
    "a broken document": lambda box: box.document('{"command": "x",'),
    "an unknown owner": edited(config_files=entries(owner="no-such-user")),
    "an unknown key": edited(config_files=entries(ownr="nova")),
    "a perm that is none": edited(config_files=entries(perm="rw")),
}


@pytest.mark.parametrize("case", UNKNOWABLE)
def test_check_says_that_it_cannot_tell(nova: Sandbox, case: str) -> None:
    UNKNOWABLE[case](nova)
    done = nova.set_configs("--check")
    assert done.returncode == 2, done.stderr
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_upstream_s_four_false_alarms(capsys: pytest.CaptureFixture[str]) -> None:
    """Right after a good start: upstream's answer and ours, side by side."""
    alarms = {"three digits": 1, "0o in front": 1, "directory 0644": 1, "preserved": 1}
    cases = {one.name: one for one in templates.by_hand() if one.name in alarms}
    answers = {}
    with compare.Pair(list(cases.values())) as pair:
        for name, one in cases.items():
            pair.reset()
            for side in pair.both():
                templates.furnish(side.box, one)
                assert side.run(side.box)[0] == 0
            answers[name] = tuple(side.run(side.box, "--check")[0] for side in pair.both())
    with capsys.disabled():
        print("\n--check after a good start (upstream, here):", answers)
    assert answers == {name: (theirs, 0) for name, theirs in alarms.items()}


# --- config.yaml --------------------------------------------------------------------------------


def test_yaml_is_read_and_preferred() -> None:
    """The same document as YAML, beside a JSON one that says something else; upstream and ours."""
    one = templates.case("yaml", NOVA)
    with compare.Pair([one]) as pair:
        states = []
        for side in pair.both():
            templates.furnish(side.box, one)
            side.box.write(f"{CONFIG_FILES}/config.yaml", yaml.safe_dump(NOVA))
            side.box.document({"command": "json"})
            assert side.run(side.box)[0] == 0
            assert side.box.read("/run_command") == NOVA["command"]
            assert side.box.mode("/etc/nova/nova.conf") == 0o600
            states.append(side.state())
            side.box.write(f"{CONFIG_FILES}/config.yaml", "command: [unclosed")
            assert side.run(side.box)[0] == 1
        assert states[0] == states[1]


def test_the_records_are_root_s_alone(nova: Sandbox) -> None:
    assert nova.mode(compare.RECORDS) == 0o700
