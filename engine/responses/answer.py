"""Questions to a recording by name, answered as records and as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UserError, nearest
from ..excerpt import MOST_COLUMNS, MOST_ROWS, at_steps, excerpt, step_over
from . import tables
from .ceiling import ceilings
from .discrimination import Discrimination, discriminate
from .driving import contrasts_of, driven
from .geometry import Distance, Similarity, agreement, geometry
from .recording import Recording
from .tuning import tuning

QUESTIONS = ("units", "best", "auc", "tuning", "rdm", "ceiling", "layers")
_WORDS = frozenset(("layer", "contrast", "distance", "most", "chosen by"))


@dataclass(frozen=True)
class Answer:
    """``head`` and ``lines`` of a table, and all ``records`` as plain JSON values.

    Columns named in ``words`` hold text. Long tables are cut: those with a ``ranked`` column to the
    contrasts with its largest values; those with more than ``named`` columns, whose other columns
    are categories or layers, to some of these.
    """

    head: list[str]
    lines: list[list[str]]
    records: Callable[[], list[dict[str, Any]]]
    words: frozenset[str] = _WORDS
    ranked: str = ""
    named: int = 0

    def excerpt(self) -> tuple[list[str], list[list[str]], str]:
        """Head and lines of a table that fits on a page or a few, and what it leaves out."""
        head, lines, said = self.head, self.lines, []
        columns = len(head) - self.named
        if self.named and columns > MOST_COLUMNS:
            shown = at_steps(range(columns), step_over(columns, MOST_COLUMNS))
            kept = [*range(self.named), *(self.named + place for place in shown)]
            said.append(f"{len(shown):,} of {columns:,} columns")
            if head[self.named :] == [line[0] for line in lines]:  # layers by layers
                lines = [lines[place] for place in shown]
            head, *lines = ([row[place] for place in kept] for row in [head, *lines])
        if len(lines) > MOST_ROWS and self.ranked:
            place = head.index(self.ranked)
            values: dict[tuple[str, str], float] = {}
            for layer, contrast, *rest in lines:
                value = rest[place - 2]
                own = -math.inf if value == "-" else float(value)
                values[layer, contrast] = max(values.get((layer, contrast), -math.inf), own)
            part = excerpt(values)
            lines = [line for line in lines if part.has(line[0], line[1])]
            said.append(part.said)
        elif len(lines) > MOST_ROWS:
            number = len(lines)
            lines = at_steps(lines, step_over(number, MOST_ROWS))
            said.append(f"{len(lines):,} of {number:,} rows")
        return head, lines, ", ".join(filter(None, said))


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
        table, words = tables.best_table(recording, best), _WORDS | {"least"}
        return Answer(*table, lambda: [asdict(one) for one in best], words, "AUC")
    if question == "auc":
        named = contrasts_of(recording) if contrasts is None else contrasts

        def found() -> Iterator[Discrimination]:
            return discriminate(recording, named, layers, sides)

        # Units by contrasts are many: the table reads them as they come, and keeps none.
        table = tables.auc_table(found(), recording.folds)
        return Answer(*table, lambda: [tables.auc_record(one) for one in found()], ranked="largest")
    if question == "tuning":
        tuned = list(tuning(recording, layers))
        table = tables.tuning_table(recording, tuned)
        return Answer(*table, lambda: [tables.tuning_record(one) for one in tuned], named=3)
    if question == "rdm":
        distances = geometry(recording, layers, distance)
        return Answer(*tables.geometry_table(distances), lambda: [asdict(one) for one in distances])
    if question == "ceiling":
        reliable = ceilings(recording, layers, distance)
        return Answer(*tables.ceiling_table(reliable), lambda: [asdict(one) for one in reliable])
    if question == "layers":
        similar = agreement(recording, layers, similarity, distance)
        table = tables.agreement_table(similar)
        return Answer(*table, lambda: [asdict(one) for one in similar], named=1)
    raise UserError(f"questions to a recording are {', '.join(QUESTIONS)}; got {question!r}: "
                    f"{nearest(question, QUESTIONS)}")  # fmt: skip
