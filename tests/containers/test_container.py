"""The images and what runs in them, with podman or docker on a debootstrap root.

One container for each way of a start (root, sudo, neither), on both Debians.
"""

import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import images
import pytest
from documents import Entry, document, entry
from images import Engine, NoEngine
from sandbox import CONFIG_FILES, TREE

EXAMPLE = TREE / "examples" / "memcached"
SUITES = ("bookworm", "trixie")


@pytest.fixture(scope="module")
def engine() -> Engine:
    try:
        return images.find_engine()
    except NoEngine as reason:
        pytest.skip(f"no container engine: {reason}")


@pytest.fixture(scope="module", params=SUITES)
def base(request: pytest.FixtureRequest, engine: Engine) -> str:
    return images.base(engine, request.param)


class Container:
    """A container that is removed in the end; `directory` is mounted as the configuration."""

    def __init__(self, engine: Engine, directory: Path, image: str, *options: str) -> None:
        self.engine = engine
        self.name = f"kolla_start-test-{uuid.uuid4().hex[:8]}"
        engine.run(
            *("run", "-d", "--name", self.name, "--network=none", *engine.limits),
            *("-v", f"{directory}:{CONFIG_FILES}:ro", *options, image),
        )

    def exec(self, *argv: str, user: str = "root") -> tuple[int, str]:
        done = self.engine.run("exec", "-u", user, self.name, *argv, check=False)
        return done.returncode, done.stdout + done.stderr

    def log(self) -> str:
        done = self.engine.run("logs", self.name)
        return done.stdout + done.stderr

    def pid(self) -> int:
        return int(self.engine.run("inspect", "-f", "{{.State.Pid}}", self.name).stdout)

    def wait(self) -> int:
        return int(self.engine.run("wait", self.name, timeout=60).stdout)


@contextlib.contextmanager
def running(
    engine: Engine, directory: Path, image: str, *options: str, strategy: str = "COPY_ALWAYS"
) -> Iterator[Container]:
    directory.chmod(0o755)  # pytest's own are 0700: a service user could not read there
    strategy_option = f"KOLLA_CONFIG_STRATEGY={strategy}"
    container = Container(engine, directory, image, "-e", strategy_option, *options)
    try:
        yield container
    finally:
        engine.run("rm", "-f", container.name, check=False)


def mount(directory: Path, *entries: Entry, **sections: object) -> None:
    """A document in the directory that will be mounted."""
    (directory / "config.json").write_text(json.dumps(document(*entries, **sections)))


def service_image(engine: Engine, tag: str, *lines: str, base: str) -> str:
    """A few lines on a base image."""
    context = TREE / "tests"  # nothing is copied from it
    text = "\n".join([f"FROM {base}", *lines, ""])
    dockerfile = Path(f"/tmp/kolla_start-{uuid.uuid4().hex[:8]}")
    dockerfile.write_text(text)
    try:
        return engine.build(f"localhost/kolla_start-test:{tag}", context, dockerfile=dockerfile)
    finally:
        dockerfile.unlink()


def status(pid: int | str) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def until_listening(container: Container) -> None:
    for _ in range(100):
        if container.exec("bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/11211")[0] == 0:
            return
        time.sleep(0.1)
    raise AssertionError(container.log())


def ask(container: Container, question: str) -> str:
    script = f"exec 3<>/dev/tcp/127.0.0.1/11211; printf '{question}\\r\\nquit\\r\\n' >&3; cat <&3"
    return container.exec("bash", "-c", script)[1]


def test_memcached(engine: Engine, base: str, tmp_path: Path) -> None:
    image = images.memcached(engine, base)
    for name in ("config.json", "memcached.conf"):
        (tmp_path / name).write_text((EXAMPLE / name).read_text())
    with running(engine, tmp_path, image) as container:
        until_listening(container)
        assert "STAT maxconns 100" in ask(container, "stats settings")

        init = container.pid()
        assert status(init)["Name"] == "dumb-init"
        (service,) = children(init)
        seen = status(service)
        uid = container.exec("id", "-u", "memcache")[1].strip()
        gid = container.exec("id", "-g", "memcache")[1].strip()
        assert seen["Name"] == "memcached"
        assert seen["Uid"].split() == [uid] * 4
        assert seen["Gid"].split() == [gid] * 4
        assert uid != "0"
        for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(seen[name], 16) == 0, name
        assert children(int(service)) == []
        assert container.exec("stat", "-c", "%U:%G %a", "/etc/memcached.conf") == (
            0,
            "memcache:memcache 600\n",
        )

        assert container.exec("kolla_set_configs", "--check") == (0, "")
        (tmp_path / "memcached.conf").write_text("-c 200\n-l 127.0.0.1\n")
        code, said = container.exec("kolla_set_configs", "--check")
        assert code == 1
        assert "/etc/memcached.conf" in said
        engine.run("restart", container.name)
        until_listening(container)
        assert "STAT maxconns 200" in ask(container, "stats settings")

        began = time.monotonic()
        init = container.pid()
        os.kill(init, signal.SIGTERM)
        while os.path.exists(f"/proc/{init}"):
            time.sleep(0.005)
        # memcached's own loop looks once a second; the rest is for the engine to reap it.
        assert time.monotonic() - began < 1.2
        assert container.wait() == 0


def test_once(engine: Engine, base: str, tmp_path: Path) -> None:
    (tmp_path / "service.conf").write_text("first")
    copy = entry("service.conf", "/etc/service.conf")
    mount(tmp_path, copy, command=["cat", "/etc/service.conf"])
    with running(engine, tmp_path, base, strategy="COPY_ONCE") as container:
        assert container.wait() == 0
        (tmp_path / "service.conf").write_text("second")
        engine.run("start", container.name)
        assert container.wait() == 0
        assert container.log().count("first") == 2
        assert "second" not in container.log()


def test_the_base_image(engine: Engine, base: str, tmp_path: Path) -> None:
    script = r"""
        find /opt/kolla_start ! -user root
        find /opt/kolla_start ! -type l -perm /022
        find /opt/kolla_start -path '*/bin/pip*' -o -name 'pip-*' -o -name 'setuptools*'
        for name in gcc cc make pip pip3 sudo; do command -v $name || :; done
        find / -xdev -perm /6000 -type f -path '*sudo*'
        ls /var/lib/apt/lists
        echo ---
        stat -c '%n %U:%G %a %s' /usr/local/bin/kolla_extend_start
        stat -c '%n %U:%G %a' /var/log/kolla /var/lib/kolla/config_files /usr/local/bin/kolla_*
        getent group kolla
        ls /opt/kolla_start/lib/python3*/site-packages/kolla_start/__pycache__ | grep -c start
    """
    mount(tmp_path, command=["sh", "-c", script])
    with running(engine, tmp_path, base) as container:
        code = container.wait()
        done = engine.run("logs", container.name)
    assert code == 0, done
    left_over, _, wanted = done.stdout.partition("---\n")
    assert left_over == ""
    lines = wanted.splitlines()
    assert lines[:3] == [
        "/usr/local/bin/kolla_extend_start root:root 644 0",
        "/var/log/kolla root:kolla 2775",
        "/var/lib/kolla/config_files root:root 755",
    ]
    for name in ("config", "copy_cacerts", "install_projects", "set_configs", "start"):
        assert f"/usr/local/bin/kolla_{name} root:root 755" in lines
    assert "kolla:x:42400:" in lines
    told = json.loads(engine.run("image", "inspect", base).stdout)[0]
    config = told["Config"]
    assert config["Entrypoint"] == ["dumb-init", "--single-child", "--"]
    assert config["Cmd"] == ["kolla_start"]
    assert config.get("StopSignal", "SIGTERM") in ("SIGTERM", "15")
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


NOVA_USER = "RUN useradd --uid 42436 --user-group -d /var/lib/nova -m nova"
SHOW = """
    id -un; cat /etc/nova/nova.conf; stat -c '%U:%G %a' /etc/nova/nova.conf
    grep ^Cap /proc/$$/status
"""


def nova_document(directory: Path, owner: str = "nova") -> None:
    (directory / "nova.conf").write_text("[DEFAULT]\n")
    copy = entry("nova.conf", "/etc/nova/nova.conf", owner, "0600")
    mount(directory, copy, command=["sh", "-c", SHOW])


@pytest.mark.parametrize("suite", SUITES)
def test_kollas_way_with_sudo(engine: Engine, suite: str, tmp_path: Path) -> None:
    base = images.base(engine, suite, sudo=True)
    image = service_image(
        engine, f"{suite}-sudo", f"{NOVA_USER} && usermod -aG kolla nova", "USER nova", base=base
    )
    nova_document(tmp_path)
    with running(engine, tmp_path, image) as container:
        code = container.wait()
        said = container.log()
    assert code == 0, said
    assert "nova\n[DEFAULT]\nnova:nova 600\n" in said
    assert "CapEff:\t0000000000000000" in said
    # As kolla-ansible asks a running container.
    mount(tmp_path, command="sleep 60")
    with running(engine, tmp_path, image) as container:
        for _ in range(100):
            if container.exec("test", "-e", "/run_command")[0] == 0:
                break
            time.sleep(0.05)
        assert container.exec("kolla_set_configs", "--check")[0] == 0
        assert container.exec("sudo", "-E", "kolla_set_configs", "--check", user="nova")[0] == 0
        assert container.exec("sudo", "-n", "id", user="nova")[0] == 1
        rules = container.exec("stat", "-c", "%U:%G %a", "/etc/sudoers.d/kolla")
        assert rules == (0, "root:root 440\n")


def test_another_user_without_sudo(engine: Engine, base: str, tmp_path: Path) -> None:
    """Kubernetes' runAsNonRoot: what the service may write itself, it configures itself."""
    suite = base.rpartition(":")[2]
    own = "install -d -o nova -g nova /etc/nova /run/kolla"
    image = service_image(
        engine, f"{suite}-plain", f"{NOVA_USER} && {own}", "USER 42436", base=base
    )
    nova_document(tmp_path)
    with running(engine, tmp_path, image) as container:
        code = container.wait()
        said = container.log()
    assert code == 0, said
    assert "nova\n[DEFAULT]\nnova:nova 600\n" in said

    nova_document(tmp_path, owner="root")
    with running(engine, tmp_path, image) as container:
        assert container.wait() == 1
        assert "Traceback" not in container.log()
        assert "owner" in container.log()
