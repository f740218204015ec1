"""Which units a recording holds, as a value. Imports neither torch nor NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..contrasts.language.criterion import DEFAULT, Criterion
from ..errors import UserError
from ..limits import refuse_numbers
from ..values import FrozenMapping, listed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Masks = Mapping[str, NDArray[np.bool_]]
else:
    Masks = Mapping[str, Any]  # as the command line reads it


@dataclass(frozen=True)
class UnitRequest:
    """Which units of a design's layers are recorded; all of them where nothing is chosen.

    A unit chosen in several ways is recorded once.

    Parameters
    ----------
    select : str or sequence of str, optional
        Units that the criterion selects for a contrast; ``*`` for all. The criterion is asked of
        the store; ``*`` stands for every category.
    criterion : Criterion, optional
        When a unit counts as selective.
    top : int, optional
        The N highest in a measure, by layer and contrast. They are taken from the selected units,
        or from all living units, for every category.
    by : str, default "t"
        Measure that ``top`` ranks units by.
    random : int, optional
        Units drawn at random from each layer. The seed is the network's.
    masks : mapping of str to array of bool, optional
        Layer -> the units to record, in the shape of the layer.
    project : int, optional
        Project layers with more chosen units to this many dimensions. The projection is random, and
        keeps distances between stimuli.

    Raises
    ------
    UserError
        A number is out of range.

    See Also
    --------
    record : Record the units.

    Examples
    --------
    >>> units = fusiform.UnitRequest(select="faces", top=50, random=10)
    >>> units.select
    ('faces',)
    """

    select: str | Sequence[str] | None = None
    criterion: Criterion = DEFAULT
    top: int | None = None
    by: str = "t"
    random: int | None = None
    masks: Masks | None = None
    project: int | None = None

    def __post_init__(self) -> None:
        if self.select is not None:
            object.__setattr__(self, "select", tuple(listed(self.select)))
        if self.masks is not None:
            object.__setattr__(self, "masks", FrozenMapping(self.masks))
        refuse_numbers(top=self.top, random=self.random, project=self.project)
        if self.project is not None and self.project < 1:
            raise UserError(f"a projection has at least 1 dimension; got {self.project}")
