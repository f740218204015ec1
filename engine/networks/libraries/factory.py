"""A user's own factory, by ``package.module:factory``."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any

from ...errors import UserError, describe_failure, first_line
from .architecture import Architecture, forms

# The only weights that a factory's network has.
AS_BUILT = "as the factory built"


def factory(name: str, module: str, function: str) -> Architecture:
    """The network that a user's ``function`` of a ``module`` returns."""

    def build() -> Any:
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # as python -m does
        try:
            found = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            if describe_failure(error):
                raise
            valid = function.isidentifier()
            reason = first_line(error) if valid else "a factory has a Python name"
            raise UserError(
                f"a model is {forms()}; cannot import {name!r} ({reason})"
            ) from None  # its text may hold credentials
        if problem := _not_callable(found):
            raise UserError(f"a factory is a function without arguments; {name} {problem}")
        return found()

    return Architecture(name, build, tags=[AS_BUILT])


def _not_callable(factory: Any) -> str | None:
    """Reason why a factory cannot be called without arguments; None if it can."""
    if not callable(factory):
        return f"is a {type(factory).__name__}"
    try:
        inspect.signature(factory).bind()
    except TypeError as error:
        return f"takes some ({first_line(error)})"
    except ValueError:  # its signature is unknown
        pass
    return None
