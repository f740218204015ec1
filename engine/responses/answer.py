"""Questions to a recording by name, answered as a table for people and in long form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import UserError, nearest
from ..excerpt import MOST_COLUMNS, MOST_ROWS, at_steps, excerpt, step_over
from ..results import Result
from ..table import Table, of_rows
from . import frames, tables
from .ceiling import ceilings
from .discrimination import Discrimination, discriminate
from .driving import contrasts_of, driven
from .geometry import Distance, Similarity, agreement, geometry
from .recording import Recording
from .tuning import tuning

Parts = Callable[[], Iterator[Table]]
_WORDS = frozenset(("layer", "contrast", "distance", "most", "chosen by"))


@dataclass(frozen=True, repr=False)
class Answer(Result):
    """``head`` and ``lines`` of a table, and all values in long form, made by ``parts``.

    Columns named in ``words`` hold text. Long tables are cut: those with a ``ranked`` column to the
    contrasts with its largest values; those with more than ``named`` columns, whose other columns
    are categories or layers, to some of these.
    """

    head: list[str]
    lines: list[list[str]]
    parts: Parts
    words: frozenset[str] = _WORDS
    ranked: str = ""
    named: int = 0

    def tables(self) -> Iterator[Table]:
        """All values in long form, see :mod:`.frames`."""
        return self.parts()

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
    asked = _Asked(recording, contrasts, layers, units, images, sides, distance, similarity)
    if question not in _ANSWERS:
        raise UserError(f"questions to a recording are {', '.join(QUESTIONS)}; got {question!r}: "
                        f"{nearest(question, QUESTIONS)}")  # fmt: skip
    return _ANSWERS[question](asked)


@dataclass(frozen=True)
class _Asked:
    """The parameters of :func:`answer`."""

    recording: Recording
    contrasts: str | Sequence[str] | None
    layers: str | Sequence[str]
    units: int
    images: int
    sides: int
    distance: Distance
    similarity: Similarity

    def long(self, make: Callable[[], Iterable[Table]], *names: str) -> Parts:
        """The tables that ``make`` returns, in long form; ``names`` are columns beside layers."""
        return lambda: frames.in_long_form(self.recording, make(), ("layer", *names))


def _units(asked: _Asked) -> Answer:
    rows = tables.layer_records(asked.recording, asked.layers)
    long = asked.long(lambda: frames.counted(rows), "choice")
    return Answer(*tables.table_of_layers(rows), long)


def _best(asked: _Asked) -> Answer:
    recording = asked.recording
    best = driven(recording, asked.contrasts, asked.layers, asked.units, asked.images)
    names = ("contrast", "unit", "fold", "rank", "stimulus", "row", "category")
    long = asked.long(lambda: frames.driving(recording, best), *names)
    return Answer(*tables.best_table(recording, best), long, _WORDS | {"least"}, "AUC")


def _auc(asked: _Asked) -> Answer:
    recording = asked.recording
    named = contrasts_of(recording) if asked.contrasts is None else asked.contrasts

    def found() -> Iterator[Discrimination]:
        return discriminate(recording, named, asked.layers, asked.sides)

    # Units by contrasts are many: the table reads them as they come, and keeps none.
    table = tables.auc_table(found(), recording.folds)
    long = asked.long(lambda: frames.discriminated(recording, found()), "contrast", "unit", "fold")
    return Answer(*table, long, ranked="largest")


def _tuning(asked: _Asked) -> Answer:
    found = list(tuning(asked.recording, asked.layers))
    table = tables.tuning_table(asked.recording, found)
    long = asked.long(lambda: frames.tuned(asked.recording, found), "unit", "category", "fold")
    return Answer(*table, long, named=4)


def _rdm(asked: _Asked) -> Answer:
    found = geometry(asked.recording, asked.layers, asked.distance)
    return Answer(*tables.geometry_table(found), asked.long(lambda: [of_rows(found)], "distance"))


def _ceiling(asked: _Asked) -> Answer:
    found = ceilings(asked.recording, asked.layers, asked.distance)
    return Answer(*tables.ceiling_table(found), asked.long(lambda: [of_rows(found)], "distance"))


def _layers(asked: _Asked) -> Answer:
    found = agreement(asked.recording, asked.layers, asked.similarity, asked.distance)
    long = asked.long(lambda: [frames.agreeing(found, asked.similarity)], "other")
    return Answer(*tables.agreement_table(found), long, named=1)


_ANSWERS: dict[str, Callable[[_Asked], Answer]] = {
    "units": _units, "best": _best, "auc": _auc, "tuning": _tuning, "rdm": _rdm,
    "ceiling": _ceiling, "layers": _layers,
}  # fmt: skip
QUESTIONS = tuple(_ANSWERS)
