"""A start from one file: modules that were compiled when the commands were installed.

On the container-start path, and the first of ours to run: a launcher reads the file, and runs this
(install.py writes both). It imports nothing of ours, reads nothing but the sources' sizes and
times. A module whose source is not as it was when it was compiled is imported from that source, as
Python does with its own bytecode (PEP 3147 and PEP 552).

Some thirty imports one by one cost a third of a bare interpreter's start, most of it in looking
for files. So a module that is imported has all that it needs made before it; one that is imported
inside a function costs nothing until then.
"""

from __future__ import annotations

import sys
from marshal import loads
from posix import stat  # not os: kernel.py

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any

    # Name, path, whether it is a package, the source's mtime (s) and size (bytes), the modules of
    # ours that it imports at once, and how far before the file's end the codes begin that its own
    # is one of.
    Module = tuple[str, str, bool, int, int, list[str], int]


def load(form: memoryview, modules: list[Module], first: str) -> None:
    """Make the first module of the file and what it needs, and the others when they are imported.

    Raises whatever they raise; ordinary imports can then go on.
    """
    installed = Installed(form, {module[0]: module for module in modules})
    installed.make(first)
    sys.meta_path.insert(0, installed)


class Installed:
    """The modules of the file, as the import system finds and loads them (importlib.abc)."""

    __slots__ = ("_codes", "_form", "_modules")

    def __init__(self, form: memoryview, modules: dict[str, Module]) -> None:
        self._form = form
        self._modules = modules
        self._codes: dict[str, CodeType] = {}

    def make(self, name: str) -> None:
        """Make a module, if it is not there yet, without the import system."""
        if name in sys.modules:
            return
        if self._current(name) is None:
            __import__(name)
            return
        made = sys.modules[name] = type(sys)(name)
        try:
            self.exec_module(made)
        except BaseException:
            del sys.modules[name]
            raise
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, made)

    def _current(self, name: str) -> Module | None:
        """What was compiled of a module, if its source is still the same."""
        module = self._modules.get(name)
        if module is None:
            return None
        _, path, _, mtime, size, _, _ = module
        try:
            status = stat(path)
        except OSError:
            return None
        return module if int(status.st_mtime) == mtime and status.st_size == size else None

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        module = self._current(name)
        if module is None:
            return None
        from _frozen_importlib import ModuleSpec

        loader: Any = self
        return ModuleSpec(name, loader, origin=module[1], is_package=module[2])

    def create_module(self, spec: Any) -> None:
        """As usual."""

    def exec_module(self, made: ModuleType) -> None:
        name, path, package, _, _, needs, place = self._modules[made.__name__]
        for need in needs:
            self.make(need)
        made.__file__ = path
        made.__package__ = name if package else name.rpartition(".")[0]
        if package:
            made.__path__ = [path.rpartition("/")[0]]
        if name not in self._codes:
            self._codes.update(loads(self._form[-place:]))  # noqa: S302  (root's own)
        exec(self._codes.pop(name), made.__dict__)  # noqa: S102
