"""Imports of large libraries."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage inside the context.

    Imports make many objects and no garbage. Looking for it takes a sixth of the time of torch's.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            if not gc.get_freeze_count():  # move them to the oldest generation, without a look
                gc.freeze()
                gc.unfreeze()
            gc.enable()


@contextmanager
def postponed(module: str, function: str) -> Iterator[None]:
    """Import a module that is imported inside the context for one function when that is called.

    If anything else of the module or its package is used, it is imported at once.
    """
    if module in sys.modules:
        yield
        return

    def call(*arguments: Any) -> Any:
        return _used(module, function)(*arguments)

    package = module.rpartition(".")[0]
    if package not in sys.modules:
        sys.modules[package] = _StandIn(package, "__path__")
    sys.modules[module] = _StandIn(module)
    setattr(sys.modules[module], function, call)
    finder = _Imported()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _remove_stand_ins()


class _StandIn(ModuleType):
    """Stands for a module until something of it is used: of its special names, only ``used``."""

    def __init__(self, name: str, *used: str) -> None:
        super().__init__(name)
        self._used = used

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in self._used:  # many look at these of all modules
            raise AttributeError(name)
        return _used(self.__name__, name)


class _Imported(Loader):
    """Finds a module that its package has imported, when that took the place of its stand-in.

    The import of the module, which had asked the stand-in for the package's path, would import it
    a second time.
    """

    def find_spec(self, name: str, _path: object, target: object = None) -> ModuleSpec | None:
        if target is None and (module := sys.modules.get(name)):  # there is a target in a reload
            return ModuleSpec(name, self, loader_state=module.__spec__)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def _used(module: str, name: str) -> Any:
    """Something of a module, which is imported for it, with those that were postponed."""
    for other in _remove_stand_ins():
        import_module(other)
    return getattr(import_module(module), name)


def _remove_stand_ins() -> list[str]:
    names = [name for name, module in sys.modules.copy().items() if isinstance(module, _StandIn)]
    for name in names:
        del sys.modules[name]
    return names
