"""Which units a lesion silences, and its controls, as a value. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UserError, nearest
from ..limits import refuse_numbers, refuse_seed
from ..values import listed
from .language.criterion import DEFAULT, Criterion, require_criterion

SELECTIVE = "selective"
# Controls, and whether they are drawn at random.
CONTROLS = {"matched": True, "random": True, "least": False}


@dataclass(frozen=True)
class LesionRequest:
    """Which units are silenced together, and the controls: as many other units of each layer.

    Parameters
    ----------
    contrast : str
        The contrast whose selective units are silenced, as ``faces`` or ``faces > bodies``.
    layers : str or sequence of str
        Layers in which units are silenced, all at once: names or globs.
    criterion : Criterion, optional
        When a unit counts as selective.
    controls : str or sequence of str, optional
        Some of ``matched``, ``random``, ``least``; by default all. Controls are living units that
        are not selective: drawn with the same distribution of mean responses, drawn at random, or
        those that prefer neither side of the contrast.
    draws : int, default 5
        Draws of each control that is random, by default 5.
    seed : int, default 0
        Seed of the draws, and of intervals.

    Raises
    ------
    UserError
        A control is unknown, or a number is out of range.

    See Also
    --------
    measure_lesions : Measure what the lesion changes.

    Examples
    --------
    >>> top = fusiform.Criterion("rest", "top 1%")
    >>> request = fusiform.LesionRequest("faces", "layer4.*", top, controls="matched", draws=2)
    >>> request.controls
    ('matched',)
    """

    contrast: str
    layers: str | Sequence[str]
    criterion: Criterion = DEFAULT
    controls: str | Sequence[str] = tuple(CONTROLS)
    draws: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(listed(self.layers)))
        object.__setattr__(self, "controls", tuple(dict.fromkeys(listed(self.controls))))
        require_criterion(self.criterion)
        for name in self.controls:
            if name not in CONTROLS:
                raise UserError(f"a lesion has no control {name!r}: {nearest(name, CONTROLS)}")
        refuse_numbers(draws=self.draws)
        refuse_seed(self.seed)
        if self.draws < 1:
            raise UserError(f"controls are drawn at least once; got {self.draws} draws")

    def draws_of(self, lesion: str) -> int:
        """Number of draws of a control, or of the selective units; 1 if nothing is random."""
        return self.draws if CONTROLS.get(lesion) else 1
