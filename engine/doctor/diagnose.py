"""All checks of ``fusiform doctor``, one after the other."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ..errors import first_line
from . import checks, half_precision, pace


def doctor(
    output: str | Path = ".",
    *,
    device: str | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[checks.Finding]:
    """Check versions, devices, threads, memory and disk of this machine.

    A ResNet-18 and decoding are timed, the network in bfloat16 too where a CPU has instructions for
    it.

    Parameters
    ----------
    output : str or path, default "."
        A store to be written, or its folder; 64 MiB are written there and removed.
    device : str, optional
        As in :class:`fusiform.Resources`.
    note : callable, optional
        Called with the name of each check that begins.

    Yields
    ------
    Finding
        A finding after the other; a scan works if none has the severity ``fault``.

    See Also
    --------
    plan : Memory, disk and time of a particular scan.

    Examples
    --------
    >>> first = next(fusiform.doctor())
    >>> first.topic
    'fusiform'
    """
    steps: dict[str, Callable[[], Iterator[checks.Finding]]] = {
        "versions": checks.check_versions,
        "devices": lambda: checks.check_devices(device),
        "threads": checks.check_threads,
        "memory": checks.check_memory,
        "output": lambda: checks.check_output(str(output)),
        "compiled kernels": checks.check_cache,
        "pace": lambda: pace.check_pace(device),
        "bfloat16": lambda: half_precision.check_bfloat16(device),
    }
    for topic, check in steps.items():
        note(f"checking: {topic}")
        yield from map(without_home, guarded(topic, check))


def guarded(topic: str, check: Callable[[], Iterator[checks.Finding]]) -> Iterator[checks.Finding]:
    """Findings of a check; an error becomes the last one, and other checks continue."""
    try:
        yield from check()
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        yield checks.Finding(topic, f"cannot be checked: {said}"[:300], severity="unknown")


def without_home(finding: checks.Finding) -> checks.Finding:
    """A finding with ``~`` for the home folder, which names a user: findings are made public."""
    home = os.path.expanduser("~")  # noqa: PTH111
    if len(home) < 2:  # unknown, or the root
        return finding
    folder = re.compile(rf"(?<!\S){re.escape(home)}(?=[/\s:;,)]|$)")
    found, advice = folder.sub("~", finding.found), folder.sub("~", finding.advice)
    return replace(finding, found=found, advice=advice)
