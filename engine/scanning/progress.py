"""Progress and notes of a scan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a stage of a scan is.

    Attributes
    ----------
    stage : str
        Name of the stage.
    done : int
        Steps that are done, those of an earlier run included.
    total : int
        Steps of the stage; 0 if it is not known.
    seconds : float
        Time since this run of the stage began.
    peak_bytes : int
        Peak resident memory of this process.
    before : int
        Steps that an earlier run had done.
    """

    stage: str
    done: int
    total: int
    seconds: float
    peak_bytes: int
    before: int = 0


@dataclass(frozen=True)
class Listener:
    """Functions that a scan calls with messages and with its progress.

    They may be called by the thread that writes as well as by your own.

    Parameters
    ----------
    note : callable, optional
        Called with every message to the user, a line each.
    progress : callable, optional
        Called with a :class:`~fusiform.engine.scanning.progress.Progress` after every batch.
    begin : callable, optional
        Called with the name of a stage when it begins, if its steps cannot be counted.

    Examples
    --------
    >>> import numpy as np, torch
    >>> module = torch.nn.Conv2d(3, 4, 5)
    >>> network = fusiform.Network(module, preprocessing={"resize": 32, "crop": 32})
    >>> rng = np.random.default_rng(0)
    >>> images = {name: rng.integers(0, 256, (8, 32, 32, 3), np.uint8) for name in ("a", "b")}
    >>> lines = []
    >>> listener = fusiform.Listener(note=lines.append)
    >>> store = fusiform.scan(network, images, progress=listener)
    >>> lines[-1]
    'preprocessing: resize 32 (bilinear), crop 32, mean 0.485 0.456 0.406, std 0.229 0.224 0.225'
    """

    note: Callable[[str], None] = lambda _: None
    progress: Callable[[Progress], None] = lambda _: None
    begin: Callable[[str], None] = lambda _: None

    def notes(self, lines: Iterable[str]) -> None:
        """Report several notes."""
        for line in lines:
            self.note(line)
