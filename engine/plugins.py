"""Code of others: plug-ins of installed packages by entry points, and functions a user names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError, describe_failure, first_line


@dataclass(frozen=True)
class Plugins:
    """Plug-ins of one kind: fusiform's own, and those of installed packages.

    Packages name theirs in the entry point ``group``. ``own`` says where fusiform's are, in the
    same words: name -> ``module:attribute``. They are not entry points themselves, so that a clone
    runs without being installed.
    """

    group: str
    own: Mapping[str, str]

    def names(self) -> list[str]:
        """Names of all plug-ins, fusiform's first."""
        from importlib.metadata import entry_points  # reads every installed package

        others = (point.name for point in entry_points(group=self.group))
        return list(dict.fromkeys((*self.own, *others)))

    def load(self, name: str) -> Any:
        """The plug-in of this name, which is imported; None if there is none.

        Raises
        ------
        UserError : several packages have a plug-in of this name, or it cannot be imported
        """
        from importlib.metadata import EntryPoint, entry_points

        found = [EntryPoint(name, self.own[name], self.group)] if name in self.own else []
        found += entry_points(group=self.group, name=name)
        if len(found) > 1:
            packages = " and ".join(one.dist.name if one.dist else "fusiform" for one in found)
            raise UserError(
                f"a plug-in of {self.group} has a name of its own; {name!r} is offered by "
                f"{packages}: uninstall one of them"
            )
        for point in found:
            try:
                return point.load()
            except (Exception, SystemExit) as error:
                if describe_failure(error):
                    raise
                raise UserError(
                    f"the plug-in {name!r} of {self.group} must be importable; {point.value} "
                    f"raised {type(error).__name__} ({first_line(error)}): repair or uninstall it"
                ) from error
        return None


def imported(name: str, rule: str) -> Callable[..., Any]:
    """The function that a user names as ``package.module:function``.

    Parameters
    ----------
    rule : what functions are for, as the beginning of an error: ``units are made by``

    Raises
    ------
    UserError : it cannot be imported, or is no function
    """
    module, _, attribute = name.partition(":")
    if module not in sys.modules and "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as python -m does
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        if describe_failure(error):
            raise
        raise UserError(
            f"{rule} package.module:function; cannot import {name!r} "
            f"({type(error).__name__}: {first_line(error)}): check its name"
        ) from None  # its text may hold credentials
    if not callable(found):
        raise UserError(f"{rule} a function; {name} is a {type(found).__name__}")
    function: Callable[..., Any] = found
    return function
