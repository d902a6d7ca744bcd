"""kolla-ansible as the client: its own container worker, unmodified, against a container of ours.

The worker speaks to podman's API service, started here on a socket of its own. Only systemd is
stood in for: the worker asks it for nothing here but wants to find it.
"""

import importlib
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import images
import peer
import pytest
from documents import document, entry
from images import Engine, NoEngine
from sandbox import CONFIG_FILES

NEEDED = peer.missing("podman", "ansible")
pytestmark = pytest.mark.skipif(NEEDED is not None, reason=str(NEEDED))

FILES = ("service.conf", "policy.yaml")


@pytest.fixture(scope="module")
def engine() -> Engine:
    try:
        found = images.find_engine()
    except NoEngine as reason:
        pytest.skip(f"no container engine: {reason}")
    if not found.is_podman:
        pytest.skip("the worker that is tested speaks to podman")
    return found


@pytest.fixture(scope="module")
def socket(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """podman's API service; the limits that the engine needs go into its configuration."""
    place = tmp_path_factory.mktemp("podman")
    limits = [option.removeprefix("--ulimit=") for option in engine.limits]
    (place / "containers.conf").write_text(
        f'[containers]\ndefault_ulimits = {json.dumps(limits)}\nnetns = "host"\n'
    )
    path = place / "podman.sock"
    service = subprocess.Popen(
        [*engine.argv, "system", "service", "--time=0", f"unix://{path}"],
        env={**os.environ, "CONTAINERS_CONF": str(place / "containers.conf")},
        stderr=subprocess.PIPE,
    )
    try:
        for _ in range(200):
            if path.exists():
                break
            time.sleep(0.05)
        yield str(path)
    finally:
        service.terminate()
        service.communicate(timeout=10)


@pytest.fixture
def worker_class(socket: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """kolla-ansible's PodmanWorker, found as its Ansible module finds it."""
    utils = importlib.import_module("ansible.module_utils")
    theirs = str(list(peer.ansibles().values())[-1] / "module_utils")
    monkeypatch.setattr(utils, "__path__", [*utils.__path__, theirs])
    systemd = ModuleType("dbus")
    vars(systemd).update(
        SystemBus=lambda: SimpleNamespace(get_object=lambda *where: None),
        Interface=lambda *what: None,
    )
    monkeypatch.setitem(sys.modules, "dbus", systemd)
    module = importlib.import_module("ansible.module_utils.kolla_podman_worker")
    monkeypatch.setattr(module, "uri", f"http+unix:{socket}")
    return module.PodmanWorker


class Deployment:
    """What Ansible does with the worker: a fresh one for each task."""

    def __init__(self, worker_class: Any, image: str, directory: Path) -> None:
        self._class = worker_class
        self._image = image
        self._directory = directory
        self.name = f"kolla_start-test-{uuid.uuid4().hex[:8]}"
        self.answers: list[str] = []

    def task(self, action: str) -> Any:
        parameters = {
            "name": self.name,
            "image": self._image,
            "container_engine": "podman",
            "environment": {"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"},
            "volumes": [f"{self._directory}:{CONFIG_FILES}:ro"],
            "restart_policy": "oneshot",
            "detach": True,
            "privileged": False,
            "labels": {},
            "dimensions": {},
            "cap_add": [],
            "security_opt": [],
            "state": "running",
            "graceful_timeout": 2,
            "client_timeout": 120,
            "restart_retries": 10,
        }

        def fail(**what: Any) -> None:
            raise AssertionError(what)

        module = SimpleNamespace(params=parameters, fail_json=fail, exit_json=fail, debug=print)
        worker = self._class(module)
        getattr(worker, action)()
        return worker

    def compare(self, when: str) -> bool:
        worker = self.task("compare_container")
        failures = worker.result.get("comparison_failures", [])
        assert all(failure["name"] == "config" for failure in failures), failures
        said = [_readable(failure["current"]) for failure in failures]
        answer = "changed" if worker.changed else "unchanged"
        self.answers.append(": ".join([when, answer, *said]))
        return bool(worker.changed)

    def restart(self) -> None:
        self.task("stop_container")
        self.task("start_container")


def _readable(answer: object) -> str:
    """What kolla_set_configs said, without podman's frame and the time."""
    return "; ".join(line.partition(" ERROR ")[2] for line in str(answer).splitlines())


def write(directory: Path, command: str, files: tuple[str, ...]) -> None:
    entries = [entry(name, f"/etc/service/{name}", perm="0640") for name in files]
    (directory / "config.json").write_text(json.dumps(document(*entries, command=command)))


def test_kolla_ansible_s_worker(
    engine: Engine, worker_class: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o755)
    for name in FILES:
        (tmp_path / name).write_text("first\n")
    write(tmp_path, "sleep 600", FILES[:1])
    deployment = Deployment(worker_class, images.base(engine, "bookworm"), tmp_path)
    steps = (
        ("an edit of a mounted file", lambda: (tmp_path / FILES[0]).write_text("second\n")),
        ("another command", lambda: write(tmp_path, "sleep 601", FILES[:1])),
        ("another list of files", lambda: write(tmp_path, "sleep 601", FILES)),
        ("a file left", lambda: write(tmp_path, "sleep 601", FILES[1:])),
    )
    try:
        deployment.task("start_container")
        settle(engine, deployment.name)
        assert not deployment.compare("after the start")
        for what, change in steps:
            change()
            assert deployment.compare(f"after {what}")
            assert deployment.compare(f"asked again after {what}")
            deployment.restart()
            settle(engine, deployment.name)
            assert not deployment.compare("after the restart that follows")
        (tmp_path / FILES[1]).unlink()
        # The worker takes podman's frame around the answer for text, and may stumble over that.
        with pytest.raises(Exception, match=r"ExitCode: 2|codec can't decode"):
            deployment.compare("without a source")
        deployment.answers.append("without a source: an error, and no restart")
    finally:
        engine.run("rm", "-f", "-t", "0", deployment.name, check=False)
        with capsys.disabled():
            print("\nkolla-ansible's worker said", *deployment.answers, sep="\n    ")


def settle(engine: Engine, name: str) -> None:
    """Until the start has come to its exec."""
    for _ in range(200):
        shown = engine.run("exec", name, "sh", "-c", "cat /proc/[0-9]*/comm", check=False).stdout
        if "sleep" in shown.split():
            return
        time.sleep(0.05)
    raise AssertionError(engine.run("logs", name, check=False).stderr)
