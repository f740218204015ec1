"""Questions to a recording by name, answered as records and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UserError, nearest
from . import tables
from .ceiling import ceilings
from .discrimination import discriminate
from .driving import contrasts_of, driven
from .geometry import Distance, Similarity, agreement, geometry
from .recording import Recording
from .tuning import tuning

QUESTIONS = ("units", "best", "auc", "tuning", "rdm", "ceiling", "layers")
_WORDS = frozenset(("layer", "contrast", "unit", "distance", "most", "chosen by"))


@dataclass(frozen=True)
class Answer:
    """``head`` and ``lines`` of a table, and all ``records`` as plain JSON values.

    Columns named in ``words`` hold text.
    """

    head: list[str]
    lines: list[list[str]]
    records: Callable[[], list[dict[str, Any]]]
    words: frozenset[str] = _WORDS


def answer(
    recording: Recording,
    question: str,
    *,
    contrasts: str | Sequence[str] | None = None,
    layers: str | Sequence[str] = "*",
    units: int = 3,
    images: int = 5,
    sides: int = 1,
    distance: Distance = "correlation",
    similarity: Similarity = "spearman",
) -> Answer:
    """Ask a recording one of ``QUESTIONS``; parameters of other questions are ignored.

    ``contrasts`` are by default those that units were chosen by, or every category.

    Raises
    ------
    UserError : the question is unknown, or as raised by the function that answers it
    """
    if question == "units":
        rows = tables.layer_records(recording, layers)
        return Answer(*tables.table_of_layers(rows), lambda: rows)
    if question == "best":
        best = driven(recording, contrasts, layers, units, images)
        words = _WORDS | {"least"}
        return Answer(*tables.best_table(best), lambda: [asdict(one) for one in best], words)
    if question == "auc":
        named = contrasts_of(recording) if contrasts is None else contrasts
        found = list(discriminate(recording, named, layers, sides))
        return Answer(*tables.auc_table(found), lambda: [tables.auc_record(one) for one in found])
    if question == "tuning":
        tuned = list(tuning(recording, layers))
        table = tables.tuning_table(recording, tuned)
        return Answer(*table, lambda: [tables.tuning_record(one) for one in tuned])
    if question == "rdm":
        distances = geometry(recording, layers, distance)
        return Answer(*tables.geometry_table(distances), lambda: [asdict(one) for one in distances])
    if question == "ceiling":
        reliable = ceilings(recording, layers, distance)
        return Answer(*tables.ceiling_table(reliable), lambda: [asdict(one) for one in reliable])
    if question == "layers":
        similar = agreement(recording, layers, similarity, distance)
        return Answer(*tables.agreement_table(similar), lambda: [asdict(one) for one in similar])
    raise UserError(f"questions to a recording are {', '.join(QUESTIONS)}; got {question!r}: "
                    f"{nearest(question, QUESTIONS)}")  # fmt: skip
