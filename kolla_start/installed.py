"""A start from one file: modules that were compiled when the commands were installed.

On the container-start path, and the first of ours to run: a launcher reads the file, and runs this
(install.py writes both). It imports nothing of ours, reads nothing but the sources' sizes and
times. Where one is not as it was when it was compiled nothing is made (Stale), and the launcher
goes on with ordinary imports.

Some thirty imports one by one cost a third of a bare interpreter's start, most of it in looking
for files.
"""

from __future__ import annotations

import sys
from marshal import loads
from posix import stat  # not os: kernel.py

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any

    # Name, path, whether it is a package, the source's mtime (s) and size (bytes), and the code,
    # of a module that a start imports only if it needs it as marshal has it.
    Module = tuple[str, str, bool, int, int, CodeType | bytes]


class Stale(Exception):
    """A source is not what was compiled: the package was changed, and not installed again."""


def load(modules: list[Module]) -> None:
    """Make the modules, each after those that it imports. Raises Stale and OSError before."""
    for name, path, _, mtime, size, _ in modules:
        status = stat(path)
        # As Python's own rule for bytecode has it, PEP 3147 and PEP 552.
        if int(status.st_mtime) != mtime or status.st_size != size:
            raise Stale(name)
    later = {}
    try:
        for module in modules:
            name, _, _, _, _, code = module
            if isinstance(code, bytes):
                later[name] = module
                continue
            made = sys.modules[name] = type(sys)(name)
            parent, _, own = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], own, made)
            _run(made, module)
    except BaseException:
        for name, *_ in modules:
            sys.modules.pop(name, None)
        raise
    sys.meta_path.insert(0, Later(later))


def _run(made: ModuleType, module: Module) -> None:
    name, path, package, _, _, code = module
    made.__file__ = path
    made.__package__ = name if package else name.rpartition(".")[0]
    if package:
        made.__path__ = [path.rpartition("/")[0]]
    exec(loads(code) if isinstance(code, bytes) else code, made.__dict__)  # noqa: S102, S302  (root's own)


class Later:
    """Finds and loads the modules that a start does not always need (importlib.abc)."""

    __slots__ = ("_modules",)

    def __init__(self, modules: dict[str, Module]) -> None:
        self._modules = modules

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        module = self._modules.get(name)
        if module is None:
            return None
        from _frozen_importlib import ModuleSpec

        loader: Any = self
        return ModuleSpec(name, loader, origin=module[1], is_package=module[2])

    def create_module(self, spec: Any) -> None:
        """As usual."""

    def exec_module(self, made: ModuleType) -> None:
        _run(made, self._modules[made.__name__])
