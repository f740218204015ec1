"""Effects of lesions as tables for people, their columns in the order of importance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..analyses.tables import Printed, span
from ..excerpt import MOST_ROWS
from .result import QUANTITIES, Effect, LesionEffects


def tables(found: LesionEffects, every: bool = True) -> Iterator[Printed]:
    """The silenced units; then, for each quantity, changes and differences from controls.

    Only the first quantity unless ``every`` one is wanted; ``*`` marks a difference whose interval
    excludes 0.
    """
    rows = [[one.lesion, one.layer, _whole(one.units), _whole(one.living), one.response]
            for one in found.silenced]  # fmt: skip
    head = ["lesion", "layer", "units", "living units", "mean response"]
    yield _printed("silenced units", head, rows, every)
    shown = found.quantities if every else found.quantities[:1]
    others = ", ".join(name for name in found.quantities if name not in shown)
    for quantity in shown:
        said = f", {QUANTITIES[quantity]}" if quantity in QUANTITIES else ""
        title = f"{quantity}{said}: change by each lesion"
        yield _printed(title, *_changes(found, quantity), every)
        if len(found.lesions) > 1:
            title = f"{quantity}: change by the selective units less that by a control"
            table = _printed(title, *_differences(found, quantity), every)
            yield table._replace(said=table.said or (others and f"also measured: {others}"))


def _changes(found: LesionEffects, quantity: str) -> tuple[list[str], list[list[Any]]]:
    """A row per category: the intact value, and the change by every lesion."""
    lines: dict[str, list[Effect]] = {}
    for row in found.effects:
        if row.quantity == quantity:
            lines.setdefault(row.category, []).append(row)
    drawn = [row.lesion for row in found.effects if row.draw_low is not None]
    drawn = [name for name in found.lesions if name in drawn]
    head = ["category", "intact", *found.lesions]
    head += [f"{name} 95 %" for name in found.lesions] + [f"{name} draws" for name in drawn]
    rows = [
        [category, own[0].intact, *(row.change for row in own)]
        + [span(row.low, row.high) for row in own]
        + [span(row.draw_low, row.draw_high) for row in own if row.lesion in drawn]
        for category, own in lines.items()
    ]
    return head, rows


def _differences(found: LesionEffects, quantity: str) -> tuple[list[str], list[list[Any]]]:
    """A row per category: how much more the selective units change than every control."""
    lines: dict[str, list[Any]] = {}
    for row in found.differences:
        if row.quantity == quantity:
            mark = "*" if row.low * row.high > 0 else " "
            cells = [f"{row.difference:.4g}{mark}", span(row.low, row.high)]
            lines.setdefault(row.category, [row.category]).extend(cells)
    head = [f"less {name}{of}" for name in found.lesions[1:] for of in ("", " 95 %")]
    return ["category", *head], list(lines.values())


def _printed(title: str, head: list[str], rows: list[list[Any]], every: bool) -> Printed:
    said = ""
    if len(rows) > MOST_ROWS and not every:
        said, rows = f"{MOST_ROWS:,} of {len(rows):,} rows", rows[:MOST_ROWS]
    return Printed(title, head, rows, said)


def _whole(number: float) -> float:
    """A mean of counts, as a whole number where it is one."""
    return int(number) if number.is_integer() else round(number, 1)
