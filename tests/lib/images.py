"""Base and service images, with podman or docker, from a Debian root made by debootstrap.

Needs no registry. What is slow is kept between runs: the roots as images of the engine, the layers
of the builds in its cache.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ownroot
from sandbox import TREE

ROOT_IMAGE = "localhost/kolla_start-root"
BASE_IMAGE = "localhost/kolla_start-base"
PROBE_IMAGE = "localhost/kolla_start-probe"
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096")


class NoEngine(Exception):
    """No container engine can be used; the message says what was tried and what it said."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A client that has been seen to run a container, with the options that it needed."""

    argv: tuple[str, ...]
    limits: tuple[str, ...] = ()

    @property
    def is_podman(self) -> bool:
        return self.argv[0] == "podman"

    def run(
        self, *argv: str, check: bool = True, timeout: float = 900
    ) -> subprocess.CompletedProcess[str]:
        """The client with these arguments. With `check`, raises RuntimeError with what it said."""
        done = subprocess.run(
            [*self.argv, *argv],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            # podman 5 would put a warning of several lines among the container's own words.
            env={**os.environ, "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
        )
        if check and done.returncode:
            said = f"{done.stdout[-4000:]}{done.stderr[-4000:]}"
            raise RuntimeError(f"{' '.join((*self.argv, *argv))}: exit {done.returncode}\n{said}")
        return done

    def has_image(self, name: str) -> bool:
        return self.run("image", "inspect", name, check=False).returncode == 0

    def import_root(self, directory: Path, name: str) -> None:
        """A directory tree as an image."""
        argv = ["tar", "-C", str(directory), "-c", "."]
        if os.geteuid() != 0:  # an engine without root knows no owner but itself
            argv[1:1] = ["--owner=0", "--group=0"]
        tar = subprocess.Popen(argv, stdout=subprocess.PIPE)
        done = subprocess.run(
            [*self.argv, "import", "-", name], stdin=tar.stdout, capture_output=True, check=False
        )
        if tar.wait() or done.returncode:
            raise RuntimeError(f"import of {directory}: {done.stderr.decode()}")

    def build(
        self,
        tag: str,
        context: Path,
        *,
        dockerfile: Path | None = None,
        args: Mapping[str, str] | None = None,
    ) -> str:
        """Builds and tags; returns the tag."""
        argv = ["build", "-q", "--network=host", *self.limits, "-t", tag]
        if dockerfile:
            argv += ["-f", str(dockerfile)]
        for name, value in {**self._own_registry(), **(args or {})}.items():
            argv.append(f"--build-arg={name}={value}")
        if self.is_podman and (cert := _certificate()):
            argv += [f"--volume={cert}:/run/pip.pem:ro", "--build-arg=PIP_CERT=/run/pip.pem"]
        self.run(*argv, str(context))
        return tag

    def _own_registry(self) -> dict[str, str]:
        return {
            name: os.environ[name]
            for name in ("PIP_INDEX_URL", "http_proxy", "https_proxy", "no_proxy")
            if name in os.environ
        }


def _certificate() -> str | None:
    """The certificates that this machine's pip trusts, if it was told any."""
    cert = os.environ.get("PIP_CERT")
    return cert if cert and os.path.isfile(cert) else None


def find_engine() -> Engine:
    """The first engine that does what the tests do: a build and a run. Raises NoEngine."""
    plain = Engine(("podman",))
    # cgroups of version 1, a machine without systemd, limits that may not be raised.
    frugal = Engine(("podman", "--cgroup-manager=cgroupfs", "--runtime=runc"), LIMITS)
    said = []
    try:
        ownroot.settle()
    except OSError as error:
        raise NoEngine(f"a chroot that cannot be made a root: {error}") from error
    for engine in (plain, frugal, Engine(("docker",))):
        if not shutil.which(engine.argv[0]):
            said.append(f"{engine.argv[0]} is not installed")
            continue
        try:
            problem = _problem(engine)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            problem = str(error).strip()
        if not problem:
            return engine
        said.append(problem)
    raise NoEngine("; ".join(dict.fromkeys(said)))


# The smallest thing that is a container is one whose program is missing: an engine that says just
# that has shown that all the rest works.
_MISSING = "/nothing"
_SAYS_MISSING = re.compile(f"{_MISSING}.*(no such file|not found)", re.IGNORECASE)


def _problem(engine: Engine) -> str:
    """What keeps an engine from running or building a container, or nothing."""
    with tempfile.TemporaryDirectory() as empty:
        place = Path(empty)
        if not engine.has_image(PROBE_IMAGE):
            engine.import_root(place, PROBE_IMAGE)
        (place / "Dockerfile").write_text(f'FROM {PROBE_IMAGE}\nRUN ["{_MISSING}"]\n')
        # One may be allowed what the other is not: their limits come from different places.
        for argv in (
            ("run", "--rm", "--network=none", *engine.limits, PROBE_IMAGE, _MISSING),
            ("build", "-q", "--network=host", "--no-cache", *engine.limits, empty),
        ):
            done = engine.run(*argv, check=False, timeout=60)
            if not done.returncode or not _SAYS_MISSING.search(done.stderr):
                return f"{' '.join(engine.argv)} {argv[0]}: {done.stderr.strip()}"
    return ""


def root(engine: Engine, suite: str) -> str:
    """Debian's smallest root of this suite as an image."""
    name = f"{ROOT_IMAGE}:{suite}"
    if engine.has_image(name):
        return name
    if not shutil.which("debootstrap"):
        raise NoEngine("debootstrap is not installed")
    with tempfile.TemporaryDirectory(prefix="kolla_start-root-") as place:
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", suite, place],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"debootstrap {suite}: {made.stdout[-2000:]}{made.stderr}")
        shutil.rmtree(f"{place}/var/cache/apt/archives", ignore_errors=True)
        engine.import_root(Path(place), name)
    return name


def base(engine: Engine, suite: str, *, sudo: bool = False, image: str | None = None) -> str:
    """Dockerfile.base of the present tree, on Debian's root or on this image."""
    return engine.build(
        f"{BASE_IMAGE}:{suite}{'-sudo' if sudo else ''}",
        TREE,
        dockerfile=TREE / "Dockerfile.base",
        args={"BASE_IMAGE": image or root(engine, suite), "WITH_SUDO": str(int(sudo))},
    )


def memcached(engine: Engine, base_image: str) -> str:
    """examples/memcached on this base."""
    return engine.build(
        base_image.replace("-base", "-memcached"),
        TREE / "examples" / "memcached",
        args={"BASE_IMAGE": base_image},
    )


def main(argv: Sequence[str]) -> None:
    """images.py SUITE...: build the images, as the tests and the demo do."""
    engine = find_engine()
    for suite in argv:
        print(memcached(engine, base(engine, suite)))


if __name__ == "__main__":
    main(sys.argv[1:])
