"""Parameters as flags: the engine names ``on_error``, the command line ``--on-error``.

Messages of the engine write a parameter in backticks, alone or with a value: `batch_size`,
`on_error="skip"`, `overwrite=True`. On the command line they become ``--batch-size``,
``--on-error skip``, ``--overwrite``.
"""

from __future__ import annotations

import re

_PARAMETER = re.compile(r"`([a-z]\w*)(?:=([^`]+))?`")

_QUOTES = "\"'"
# Parameter -> flag, of every option that a command declares.
FLAGS: dict[str, str] = {}


def flagged(text: str) -> str:
    """``text`` with its parameters written as flags; a name that is no option stays as it is."""
    return _PARAMETER.sub(_flag, text)


def _flag(found: re.Match[str]) -> str:
    name, value = found.groups()
    if name not in FLAGS:
        return found[0]
    return FLAGS[name] if value in (None, "True") else f"{FLAGS[name]} {value.strip(_QUOTES)}"
