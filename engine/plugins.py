"""Plug-ins: what installed packages add to fusiform by entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
