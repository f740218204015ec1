"""Run the command line and write when each stage of it began or ended, as JSON.

``python marked.py FILE scan ...``. The stages are found by name when their modules are imported, so
that this file can run another checkout of the project; a stage that it lacks has no mark.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

# When the import of a module is complete.
IMPORTED = {"torch": "torch is imported", "fusiform.engine.scanning.run": "the engine is imported"}
# When a function is first called, or first returns: module -> name -> mark.
BEGUN = {"fusiform.engine.decoding.ahead": {"normalise": "the first batch is in"}}
ENDED = {
    "fusiform.engine.stimuli.catalogue": {"Catalogue.look": "the stimuli are hashed"},
    "fusiform.engine.networks.backbones": {"load_backbone": "the network is built"},
    "fusiform.engine.networks.layers": {"trial": "its layers are known"},
    "fusiform.engine.networks.behaviour": {"network_of": "it is probed"},
    "fusiform.engine.store.writing.creating": {"StoreBlueprint.create": "the draft is created"},
    "fusiform.engine.scanning.work": {
        "Work.show": "the last batch is out",
        "Work.contrast": "contrasts are computed",
    },
    "fusiform.engine.scanning.run": {"run": "the store is published"},
}
marks: dict[str, float] = {}


def mark(name: str) -> None:
    """Note the time of a mark, the first time."""
    marks.setdefault(name, time.monotonic())


def follow(file: str, *command: str) -> None:
    """Run a command of fusiform, and write the marks to ``file``."""
    mark("Python is up")
    sys.meta_path.insert(0, _Watching())
    from fusiform.cli import program

    sys.argv = ["fusiform", *command]
    try:
        program()
    finally:
        Path(file).write_text(json.dumps(marks))


class _Watching(MetaPathFinder):
    """Finds the modules that hold a mark, and sets it once they are imported."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in {*IMPORTED, *BEGUN, *ENDED}:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            _mark_after(spec.loader, name)
        return spec


def _mark_after(loader: Loader, name: str) -> None:
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        execute(module)
        for function, text in BEGUN.get(name, {}).items():
            _wrap(module, function, lambda do, text=text: _marking(do, text, None))
        for function, text in ENDED.get(name, {}).items():
            _wrap(module, function, lambda do, text=text: _marking(do, None, text))
        if name in IMPORTED:
            mark(IMPORTED[name])

    loader.exec_module = exec_module  # type: ignore[method-assign]


def _wrap(owner: Any, name: str, wrapped: Callable[[Any], Any]) -> None:
    """Replace a function, or the method of a class, if it is there."""
    *classes, name = name.split(".")
    for one in classes:
        owner = getattr(owner, one, None)
    if hasattr(owner, name):
        setattr(owner, name, wrapped(getattr(owner, name)))


def _marking(do: Callable[..., Any], begun: str | None, ended: str | None) -> Callable[..., Any]:
    @wraps(do)
    def marked(*arguments: Any, **options: Any) -> Any:
        if begun:
            mark(begun)
        found = do(*arguments, **options)
        if ended:
            mark(ended)
        return found

    return marked


if __name__ == "__main__":
    follow(*sys.argv[1:])
