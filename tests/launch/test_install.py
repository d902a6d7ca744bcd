"""The commands as they are installed: launchers, and the one file that a start reads."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import pythons
from launched import TREE, Done, as_root
from sandbox import VENV, Sandbox

from kolla_start import install

NAMES = "kolla_start kolla_set_configs kolla_copy_cacerts kolla_install_projects kolla_config"
FORM = "kolla_start/__pycache__/installed.{}.bin"


class Installed:
    """A copy of the package, and the commands of some interpreter for it."""

    def __init__(self, top: Path, python: str = sys.executable) -> None:
        self.package = top / "lib/kolla_start"
        self.bin = top / "bin"
        self.bin.mkdir()
        self.package.parent.mkdir()
        subprocess.run(["cp", "-a", f"{TREE}/kolla_start", self.package.parent], check=True)
        code = "import runpy, sys; sys.path.append(sys.argv.pop(1))\n"
        code += "runpy.run_module('kolla_start.install', run_name='__main__', alter_sys=True)"
        argv = [python, "-IBc", code, str(self.package.parent), "--into", str(self.bin)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        self.said = done.stdout.split()
        (self.form,) = self.package.glob("__pycache__/installed.*.bin")

    def run(self, *arguments: str, script: str = "") -> Done:
        """kolla_set_configs with arguments, or a script in its place in the launcher."""
        text = (self.bin / "kolla_set_configs").read_text()
        first, rest = text.split("\n", 1)
        if script:
            rest = rest[: rest.index("    from kolla_start.set_configs import main")]
            rest += textwrap.indent(script, "    ") + "finally:\n    pass\n"
        path = self.bin / "probe"
        path.write_text(f"{first}\n{rest}")
        path.chmod(0o755)
        argv = [str(path), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, env={}, check=False)

    def loaded(self) -> bool:
        """Whether a start takes its modules from the one file."""
        done = self.run(script="print('kolla_start.set_configs' in sys.modules)\n")
        assert done.returncode == 0, done.stderr
        return done.stdout == "True\n"

    def works(self) -> None:
        done = self.run("--help")
        assert (done.returncode, done.stdout) == (0, "usage: kolla_set_configs [--check]\n")
        done = self.run()
        assert (done.returncode, done.stdout) == (1, "")
        assert "KOLLA_CONFIG_STRATEGY is not set" in done.stderr


@pytest.fixture
def installed(tmp_path: Path) -> Installed:
    return Installed(tmp_path)


def test_launchers(installed: Installed) -> None:
    assert installed.said == [f"{installed.bin}/{name}" for name in NAMES.split()]
    for path in installed.said:
        lines = Path(path).read_text().splitlines()
        assert lines[0] == f"#!{sys.executable} -IBSXutf8"
        assert os.stat(path).st_mode & 0o7777 == 0o755
        compile("\n".join(lines), path, "exec")
        assert (str(installed.form) in "\n".join(lines)) == ("kolla_config" not in path)
    assert os.stat(installed.form).st_mode & 0o7777 == 0o644
    assert not list(installed.bin.glob("*.new")) and not list(installed.form.parent.glob("*.new"))


def test_nothing_of_the_environment_decides_what_is_read(installed: Installed) -> None:
    hostile = installed.bin / "hostile"
    for name in ("kolla_start/__init__.py", "marshal.py", "gc.py", "_imp.py"):
        (hostile / name).parent.mkdir(parents=True, exist_ok=True)
        (hostile / name).write_text("raise SystemExit(77)\n")
    (hostile / "kolla_start/__pycache__").mkdir()
    (hostile / f"kolla_start/__pycache__/{installed.form.name}").write_bytes(b"")
    done = subprocess.run(
        [f"{installed.bin}/kolla_install_projects"],
        env={
            "PYTHONPATH": str(hostile),
            "PYTHONSTARTUP": "/nonexistent",
            "PYTHONPYCACHEPREFIX": str(hostile),
            "PYTHONHOME": str(hostile),
        },
        cwd=hostile,
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.parametrize("interpreter", ["/opt/" + "x" * 128, "/opt/a b/python", "/opt/a\n/python"])
def test_an_interpreter_that_no_first_line_can_name(interpreter: str) -> None:
    with pytest.raises(ValueError, match="put the virtual environment"):
        install.launcher("kolla_start.start", interpreter, [])


# --- the one file ------------------------------------------------------------------------------


def test_it_is_what_ordinary_imports_would_have_made(installed: Installed) -> None:
    """The same modules, and in each the same names; they were found in the import statements."""
    script = """
import json
import kolla_start.set_configs, kolla_start.start
print(json.dumps({{
    name: [sorted(vars(module)), getattr(module, "__path__", None), module.__file__,
           module.__package__]
    for name, module in sys.modules.items() if name.split(".")[0] == "kolla_start"
}}))
"""
    # Those of the import system, and of a module that has a doc or not.
    odd = {"__builtins__", "__cached__", "__doc__", "__loader__", "__spec__", "__annotations__"}
    odd |= {"annotations", "__annotate__", "__conditional_annotations__"}

    def made() -> dict[str, list[object]]:
        done = installed.run(script=script.format())
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        return {name: [set(each[0]) - odd, *each[1:]] for name, each in found.items()}

    at_once = made()
    assert installed.loaded()
    installed.form.unlink()
    assert not installed.loaded()
    assert made() == at_once
    installed.works()


def test_what_is_imported_inside_functions_is_in_it(installed: Installed) -> None:
    names = set(install.sources(str(installed.package)))
    assert {"kolla_start.disk.sweep", "kolla_start.document.places"} <= names
    for name in ("models", "generate", "config", "install"):
        assert not any(each.endswith(f".{name}") for each in names)
    script = "from kolla_start.disk import sweep\nprint(sweep.__spec__.loader.__class__.__name__)\n"
    done = installed.run(script=script)
    assert done.stdout == "Installed\n", done.stderr


def test_a_traceback_shows_file_and_line_of_the_source(installed: Installed) -> None:
    script = """
from kolla_start.launch import program
try:
    program.split(None)
except AttributeError:
    import traceback
    print(traceback.format_exc())
"""
    assert installed.loaded()
    said = installed.run(script=script).stdout
    source = installed.package / "launch/program.py"
    lines = source.read_text().splitlines()
    number = next(i for i, line in enumerate(lines, 1) if 'command.replace("\\t"' in line)
    assert f'File "{source}", line {number}, in split' in said
    assert lines[number - 1].strip() in said


def change(path: Path, how: Callable[[bytes], bytes]) -> None:
    path.write_bytes(how(path.read_bytes()))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut short": lambda data: data[: len(data) // 2],
    "a byte less": lambda data: data[:-1],
    "a byte more": lambda data: data + b"x",
    "zeros": lambda data: bytes(len(data)),
    "a block of zeros": lambda data: data[:40_960] + bytes(4096) + data[45_056:],
    "one bit": lambda data: data[:99_999] + bytes([data[99_999] ^ 4]) + data[100_000:],
    "other magic": lambda data: data[:-12] + b"\x00\x0d\r\n" + data[-8:],
    "text": lambda data: b"print('hello')\n" * 1000,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_as_none(installed: Installed, how: str) -> None:
    assert installed.loaded()
    change(installed.form, DAMAGE[how])
    assert not installed.loaded()
    installed.works()


def test_a_good_file_that_does_not_run_leaves_nothing_behind(installed: Installed) -> None:
    """A source of one of its modules is broken after the first half of them was made."""
    path = installed.package / "set_configs.py"
    good = path.read_bytes()
    path.write_bytes(good + b"\nraise OSError('no')\n")
    install_again(installed)
    # The sources as they were, but for their sizes and times: those that were compiled.
    status = path.stat()
    path.write_bytes(good + b"\n#" + b" " * 18 + b"\n")
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not installed.loaded()
    installed.works()


def install_again(installed: Installed) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); from kolla_start import install\n"
    code += "install.install(sys.argv[2])"
    argv = [sys.executable, "-IBc", code, str(installed.package.parent), str(installed.bin)]
    subprocess.run(argv, check=True)


CHANGED = ["plan/decide.py", "disk/sweep.py", "disk/walk.py", "set_configs.py", "__init__.py"]


@pytest.mark.parametrize("touched", CHANGED)
def test_a_source_that_was_changed_is_what_runs(installed: Installed, touched: str) -> None:
    path = installed.package / touched
    name = "kolla_start." + touched[:-3].replace("/", ".")
    name = name.replace(".__init__", "")
    script = f"import {name}\nprint(type({name}.__loader__).__name__)\n"
    # "Installed" by the import system, else without it
    assert installed.run(script=script).stdout in ("Installed\n", "NoneType\n")
    path.write_text(path.read_text() + "\nprint('changed')\n")
    assert installed.run(script=script).stdout == "changed\nSourceFileLoader\n"
    installed.works()
    install_again(installed)
    assert installed.run(script=script).stdout in ("changed\nInstalled\n", "changed\nNoneType\n")
    os.utime(path, (1, 1))
    assert installed.run(script=script).stdout == "changed\nSourceFileLoader\n"


def test_another_python_imports_as_usual(tmp_path: Path) -> None:
    """What was made for another version is not for this one."""
    installed = Installed(tmp_path, sys.executable)
    assert installed.loaded()
    installed.form.rename(installed.form.with_name("installed.cpython-307.bin"))
    assert not installed.loaded()
    installed.works()


def test_under_every_python_of_this_machine(tmp_path: Path) -> None:
    """And under the next of them, in place of that which the launchers were made with."""
    there = [*pythons.installed().items()]
    for (version, python), (_, other) in zip(there, [*there[1:], there[0]], strict=True):
        (tmp_path / version).mkdir()
        installed = Installed(tmp_path / version, python)
        assert installed.form.name == f"installed.cpython-{version.replace('.', '')}.bin"
        assert installed.loaded()
        installed.works()
        for name in NAMES.split():
            path = installed.bin / name
            path.write_text(path.read_text().replace(python, other, 1))
        assert installed.loaded() == (other == python)
        installed.works()


@as_root
def test_on_a_file_system_that_cannot_be_written(sandbox: Sandbox) -> None:
    """In the sandbox root owns it, and its mount is read-only, as a container's may be."""
    (site,) = Path(sandbox.host(VENV)).glob("lib/python3*/site-packages")
    tag = sys.implementation.cache_tag
    assert (site / FORM.format(tag)).exists()
    sandbox.document({"command": "/bin/true"})
    sandbox.mark()
    done = sandbox.run(
        ["strace", "-f", "-e", "trace=openat", "-o", "/trace", "/usr/local/bin/kolla_start"],
        env={"KOLLA_CONFIG_STRATEGY": "COPY_ALWAYS"},
    )
    assert done.returncode == 0, done.stderr
    names = [line.split('"')[1] for line in sandbox.read("/trace").splitlines() if '"' in line]
    package = f"{VENV}/lib/{site.parent.name}/site-packages/kolla_start/"
    read = [name.removeprefix(package) for name in names if name.startswith(package)]
    assert read == [f"__pycache__/installed.{tag}.bin"]
