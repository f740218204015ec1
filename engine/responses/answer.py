"""One question to a recording, by its name: the answer as records and as a table."""

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
    """``head`` and ``lines`` of a table; ``records`` gives all there is, as plain JSON values.

    Columns named in ``words`` hold no numbers.
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
    """Ask a recording one of ``QUESTIONS``; what the others need is left aside.

    ``contrasts`` are by default those that units were chosen by, or every category.

    Raises
    ------
    UserError : there is no such question, or see what it asks
    """
    if question == "units":
        rows = tables.described(recording, layers)
        return Answer(*tables.table_of_layers(rows), lambda: rows)
    if question == "best":
        best = driven(recording, contrasts, layers, units, images)
        words = _WORDS | {"least"}
        return Answer(*tables.best_table(best), lambda: [asdict(one) for one in best], words)
    if question == "auc":
        named = contrasts_of(recording) if contrasts is None else contrasts
        told = list(discriminate(recording, named, layers, sides))
        return Answer(*tables.auc_table(told), lambda: [tables.auc_record(one) for one in told])
    if question == "tuning":
        tuned = list(tuning(recording, layers))
        table = tables.tuning_table(recording, tuned)
        return Answer(*table, lambda: [tables.tuning_record(one) for one in tuned])
    if question == "rdm":
        apart = geometry(recording, layers, distance)
        return Answer(*tables.geometry_table(apart), lambda: [asdict(one) for one in apart])
    if question == "ceiling":
        repeated = ceilings(recording, layers, distance)
        return Answer(*tables.ceiling_table(repeated), lambda: [asdict(one) for one in repeated])
    if question == "layers":
        alike = agreement(recording, layers, similarity, distance)
        return Answer(*tables.agreement_table(alike), lambda: [asdict(one) for one in alike])
    raise UserError(f"a recording is asked {', '.join(QUESTIONS)}; got {question!r}: "
                    f"{nearest(question, QUESTIONS)}")  # fmt: skip
