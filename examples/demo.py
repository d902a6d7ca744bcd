"""`make demo`: a real memcached, configured and started by kolla_start, under both strategies.

With podman or docker it is a container of examples/memcached on Dockerfile.base. Without an engine
it is the sandbox of the tests: private namespaces and an overlay over `/`, with Debian's memcached
inside. Either way the same steps, each with what is expected of it; the exit code is 1 if anything
is not as said, and nothing is left behind but what apt installed and the engine's images.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

TREE = Path(__file__).resolve().parent.parent
EXAMPLE = TREE / "examples" / "memcached"
sys.path.insert(0, str(TREE / "tests/lib"))

from images import Engine, NoEngine, base, find_engine, memcached  # noqa: E402
from sandbox import CONFIG_FILES, PYTHON, Sandbox, Unusable, unusable  # noqa: E402

Done = subprocess.CompletedProcess[str]


class Service(Protocol):
    """Memcached in a root of its own, and the directory that an operator mounts into it."""

    def start(self) -> None: ...
    def stop(self) -> float:
        """TERM, and the seconds until it had ended."""
        ...

    def log(self) -> str:
        """What the last start said."""
        ...

    def run(self, argv: Sequence[str]) -> Done: ...
    def mount(self, name: str, text: str) -> None: ...
    def close(self) -> None: ...


class InSandbox:
    """The embedded default."""

    def __init__(self, strategy: str) -> None:
        self._strategy = strategy
        self._box = Sandbox().__enter__()
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in close)
        try:
            if not self._box.exists("/usr/bin/memcached"):
                self._install()
            self._box.write(
                "/usr/local/bin/kolla_extend_start", (EXAMPLE / "kolla_extend_start").read_text()
            )
        except BaseException:
            self.close()
            raise

    def _install(self) -> None:
        say("installing Debian's memcached inside the sandbox (apt-get), gone with it")
        self._box.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)
        apt = {"DEBIAN_FRONTEND": "noninteractive"}
        self._box.run(["apt-get", "-qq", "update"], env=apt, timeout=300)
        install = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", "memcached"]
        done = self._box.run(install, env=apt, timeout=300)
        if done.returncode:
            raise Unusable(f"apt-get install memcached: {done.stderr}")

    def start(self) -> None:
        self._log.seek(0)
        self._log.truncate()
        self._process = self._box.popen(
            ["kolla_start"],
            env={"KOLLA_CONFIG_STRATEGY": self._strategy, "KOLLA_SERVICE_USER": "memcache"},
            stdout=self._log,
            stderr=self._log,
        )

    def stop(self) -> float:
        began = time.monotonic()
        self._process.terminate()
        self._process.wait(10)
        return time.monotonic() - began

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read()

    def run(self, argv: Sequence[str]) -> Done:
        return self._box.run(argv, env={"KOLLA_CONFIG_STRATEGY": self._strategy})

    def mount(self, name: str, text: str) -> None:
        self._box.write(f"{CONFIG_FILES}/{name}", text)

    def close(self) -> None:
        self._box.close()
        self._log.close()


class InContainer:
    """With an engine: a container on the host's network, the mounted directory a bind mount."""

    def __init__(self, strategy: str, engine: Engine, image: str) -> None:
        self._engine = engine
        self._since = ""
        self._mounted = Path(tempfile.mkdtemp(prefix="kolla_start-demo-"))
        self._mounted.chmod(0o755)
        self._name = f"kolla_start-demo-{os.getpid()}"
        self._create = [
            *("create", "--name", self._name, "--network=host", *engine.limits),
            *("-e", f"KOLLA_CONFIG_STRATEGY={strategy}"),
            *("-v", f"{self._mounted}:{CONFIG_FILES}:ro", image),
        ]
        self._created = False

    def start(self) -> None:
        if not self._created:
            self._engine.run(*self._create)
            self._created = True
        self._before = len(self._whole_log())
        self._engine.run("start", self._name)

    def stop(self) -> float:
        began = time.monotonic()
        self._engine.run("stop", "-t", "10", self._name)
        return time.monotonic() - began

    def _whole_log(self) -> str:
        done = self._engine.run("logs", self._name, check=False)
        return done.stdout + done.stderr if done.returncode == 0 else ""

    def log(self) -> str:
        return self._whole_log()[self._before :]

    def run(self, argv: Sequence[str]) -> Done:
        return self._engine.run("exec", self._name, *argv, check=False)

    def mount(self, name: str, text: str) -> None:
        (self._mounted / name).write_text(text)

    def close(self) -> None:
        self._engine.run("rm", "-f", self._name, check=False)
        shutil.rmtree(self._mounted, ignore_errors=True)


# --- what is shown ------------------------------------------------------------------------------

_not_as_said: list[str] = []


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def show(text: str) -> None:
    for line in text.rstrip("\n").splitlines():
        print(f"   {line}", flush=True)


def expect(what: str, holds: bool) -> None:
    print(f"   {'ok:' if holds else 'NOT AS SAID:'} {what}", flush=True)
    if not holds:
        _not_as_said.append(what)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def ask(port: int, question: str, patience: float = 15) -> str:
    """Memcached's whole answer over TCP; waits until somebody listens. OSError if nobody does."""
    until = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as sock:
                sock.sendall(f"{question}\r\nquit\r\n".encode())
                with sock.makefile("r", newline="") as answer:
                    return answer.read().replace("\r", "")
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def maxconns(port: int) -> str:
    found = [
        line for line in ask(port, "stats settings").splitlines() if line.startswith("STAT maxcon")
    ]
    show("\n".join(found))
    return found[0].split()[-1] if found else ""


def options(port: int, clients: int) -> str:
    """The operator's memcached.conf, at a port that is free here."""
    text = (EXAMPLE / "memcached.conf").read_text()
    return text.replace("-p 11211", f"-p {port}").replace("-c 100", f"-c {clients}")


_PROCESSES = r"""
for p in /proc/[0-9]*; do
    read -r name < $p/comm && case $name in
        dumb-init|memcached) echo "${p#/proc/} $name $(stat -c %U $p)"
            grep -E "^(Uid|Groups|CapPrm|CapEff|CapAmb)" $p/status ;;
    esac
done
"""


def always(service: Service, port: int) -> None:
    say("COPY_ALWAYS: the first start")
    service.mount("config.json", (EXAMPLE / "config.json").read_text())
    service.mount("memcached.conf", options(port, 100))
    service.start()
    answer = ask(port, "set greeting 0 0 5\r\nhello\r\nget greeting")
    show(service.log())

    say("the resulting files")
    done = service.run(["stat", "-c", "%A %U:%G %n", "/etc/memcached.conf", "/run_command"])
    show(done.stdout + done.stderr)
    expect(
        "/etc/memcached.conf is memcache's own, 0600",
        "-rw------- memcache:memcache /etc/memcached.conf" in done.stdout,
    )

    say("the service's process")
    done = service.run(["sh", "-c", _PROCESSES])
    show(done.stdout + done.stderr)
    expect("memcached runs as memcache", "memcached memcache\n" in done.stdout)
    capabilities = done.stdout.partition("memcached memcache\n")[2]
    expect("without a capability", capabilities.count(":\t0000000000000000\n") == 3)

    say(f"a real reply over TCP, 127.0.0.1:{port}")
    show(answer)
    expect("memcached stores and gives back", "STORED" in answer and "hello" in answer)
    expect("with the options of the mounted file", maxconns(port) == "100")

    say("kolla_set_configs --check, nothing changed")
    expect("exit code 0", checked(service) == 0)

    say("the operator changes memcached.conf: -c 200; --check again")
    service.mount("memcached.conf", options(port, 200))
    expect("exit code 1", checked(service) == 1)
    expect("the running service is as it was", maxconns(port) == "100")

    say("a restart")
    seconds = service.stop()
    # memcached looks once a second whether it was told to end; an engine takes its own time too.
    expect(f"TERM ended it ({seconds:.2f} s)", seconds < 2)
    service.start()
    expect("picks the change up", maxconns(port) == "200")
    show(service.log())
    expect("--check: exit code 0", checked(service) == 0)
    service.stop()


def once(service: Service, port: int) -> None:
    say("COPY_ONCE: a first start, then the same change, then a restart")
    service.mount("config.json", (EXAMPLE / "config.json").read_text())
    service.mount("memcached.conf", options(port, 100))
    service.start()
    expect("the first start takes the mounted file", maxconns(port) == "100")
    service.stop()
    service.mount("memcached.conf", options(port, 200))
    service.start()
    expect("the restart ignores the change", maxconns(port) == "100")
    show(service.log())
    service.stop()


def checked(service: Service) -> int:
    done = service.run(["kolla_set_configs", "--check"])
    show(done.stdout + done.stderr)
    return done.returncode


# --- set-up and choice --------------------------------------------------------------------------


def container_image() -> tuple[Engine, str] | None:
    """An engine and the memcached image, or None and the reason said."""
    try:
        engine = find_engine()
    except NoEngine as reason:
        say(f"no container engine: {reason}")
        return None
    say(f"with {engine.argv[0]}: building the base image and examples/memcached")
    try:
        if engine.run("pull", "-q", "debian:trixie-slim", check=False, timeout=300).returncode:
            show("debian:trixie-slim cannot be pulled; debootstrap makes the root instead")
            return engine, memcached(engine, base(engine, "trixie"))
        return engine, memcached(engine, base(engine, "trixie", image="debian:trixie-slim"))
    except (NoEngine, RuntimeError, subprocess.TimeoutExpired) as reason:
        say(f"the image cannot be built here: {reason}")
        return None


def main(argv: Sequence[str]) -> int:
    embedded = "--embedded" in argv
    built = None if embedded else container_image()
    if built is None:
        if reason := unusable():
            say(f"CANNOT BE SHOWN HERE: {reason}")
            show("What needs neither root nor an engine: the documents of the examples.")
            return validate_only()
        say("the embedded default: private namespaces and an overlay over /")
        show(
            "The program is installed with pip, as in an image, and kept in /var/cache/kolla_start"
        )
        show("for the next time.")
    port = free_port()
    for strategy, steps in (("COPY_ALWAYS", always), ("COPY_ONCE", once)):
        try:
            service: Service = InContainer(strategy, *built) if built else InSandbox(strategy)
        except Unusable as reason:
            say(f"CANNOT BE SHOWN HERE: {reason}")
            return 1
        try:
            steps(service, port)
        except (OSError, RuntimeError) as error:
            show(service.log())
            expect(f"no error ({error})", False)
        finally:
            service.close()
    say("all as said" if not _not_as_said else "NOT AS SAID: " + "; ".join(_not_as_said))
    return 1 if _not_as_said else 0


def validate_only() -> int:
    """The rest, where nothing can be started. 1: the main job was not shown."""
    venv = TREE / ".venv"
    if not (venv / "bin" / "kolla_config").exists():
        pip = f"{venv}/bin/pip"
        for step in ([PYTHON, "-m", "venv", str(venv)], [pip, "install", "-q", str(TREE)]):
            if subprocess.run(step, check=False).returncode:
                show("a virtual environment cannot be made (apt-get install python3-venv, as root)")
                return 1
    documents = sorted(TREE.glob("examples/*/config.json"))
    subprocess.run([venv / "bin/kolla_config", "validate", *documents], check=False)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
