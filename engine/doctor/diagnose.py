"""All checks, one after the other; what cannot be made is a finding, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import UserError
from ..machine import control_group_limits
from .devices import check_devices
from .finding import Finding
from .pace import check_pace
from .places import check_cache, check_files, check_memory, check_output
from .threads import check_threads
from .versions import check_versions


def doctor(
    model: str = "resnet18",
    stimuli: str | Path | None = None,
    output: str | Path = ".",
    *,
    device: str | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[Finding]:
    """Look at what a scan needs of this machine, and measure what it would wait for.

    Parameters
    ----------
    model : whose forward pass is measured, untrained, which takes the same time
    stimuli : a set as :func:`fusiform.scan` takes it, of which some are decoded; by default drawn
        ones are
    output : the store that would be written, or the folder it would be in; 64 MiB are written there
        and removed
    device : as in :func:`fusiform.scan`
    note : hears which check begins

    Returns
    -------
    the findings, one by one as they are made. A scan works where none has the severity ``fault``

    Raises
    ------
    UserError : there is no such model, or no such stimuli
    """
    _refuse(model, stimuli)
    limits = control_group_limits()
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": check_versions,
        "devices": lambda: check_devices(device),
        "threads": lambda: check_threads(limits),
        "memory": lambda: check_memory(limits),
        "output": lambda: check_output(str(output)),
        "open files": check_files,
        "compiled kernels": check_cache,
        "pace": lambda: check_pace(model, stimuli, device, limits),
    }

    def made() -> Iterator[Finding]:
        for topic, check in checks.items():
            note(f"checking: {topic}")
            yield from guarded(topic, check)

    return made()


def guarded(topic: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check, the last of which says so where it could not be finished."""
    try:
        yield from check()
    except Exception as error:  # whatever a machine has in store: the other checks go on
        said = str(error).strip().partition("\n")[0]
        yield Finding(
            topic, f"cannot be checked: {type(error).__name__}: {said}"[:300], "", "unknown"
        )


def _refuse(model: str, stimuli: str | Path | None) -> None:
    """Refuse what a user got wrong, before anything is measured."""
    if stimuli is not None:
        from ..stimuli.catalogue import read_catalogue

        read_catalogue(stimuli)
    try:
        from ..networks.backbones import load_backbone
        from ..spec import Network

        load_backbone(Network(model, weights="none"))
    except UserError:
        raise
    except Exception:  # a library that does not load: the checks say which
        return
