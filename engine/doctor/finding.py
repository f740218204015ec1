"""What a check gives: a finding, with advice where it needs some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# fault: a scan cannot work; advice: it can, and would be better off; unknown: not to be checked.
Severity = Literal["ok", "advice", "fault", "unknown"]


@dataclass(frozen=True)
class Finding:
    """What was ``found`` of a ``topic``; ``advice`` is one line, and nothing where all is well."""

    topic: str
    found: str
    advice: str = ""
    severity: Severity = "ok"


def found(topic: str, text: str, advice: str = "") -> Finding:
    """A finding that is well where there is no ``advice``."""
    return Finding(topic, text, advice, "advice" if advice else "ok")


def size(count: float) -> str:
    """Bytes as a user reads them."""
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.1f} GiB"
