"""Text of the report of :func:`.check.check_stimuli`."""

from __future__ import annotations

import math

from .check import CategoryRow, StimuliReport
from .images import INVISIBLE
from .lowlevel import THRESHOLDS, Difference

# Remedies for large differences.
_REMEDY = {
    "luma": "match mean luminance, or use controls that share it (stimuli scramble)",
    "contrast": "match contrast, or use controls that share it (stimuli scramble)",
    "slope": 'use controls with the same spectrum (scrambled by `method="phase"`)',
    "side": "resize all images the same way beforehand",
    "colour": "use only colour or only grey images",
}
# Of the side, and of all images.
_SHARES = ("side", "colour")


def lines(report: StimuliReport) -> list[str]:
    """Summary, then findings about single stimuli."""
    across = sum(same.across for same in report.duplicates)
    return [
        f"{report.stimuli:,} stimuli, {len(report.categories):,} categories; "
        f"{len(report.refused):,} cannot be shown, {across:,} are in several categories",
        *(f"note: {note}" for note in report.notes),
        *(f"cannot be shown: {one.name} {one.reason}" for one in report.refused),
        *(
            f"in several categories (same {same.same}): {', '.join(same.names)}"
            for same in report.duplicates
            if same.across
        ),
        *(
            f"note: in {same.categories[0]} twice (same {same.same}): {', '.join(same.names)}"
            for same in report.duplicates
            if not same.across
        ),
        *(f"note: nothing is visible in {name}: {INVISIBLE}" for name in report.invisible),
        *(f"note: {one.name} is {one.kind}; it is shown anyway" for one in report.misnamed),
    ]


def table(report: StimuliReport) -> list[list[str]]:
    """Header, a row per category, and a last row with the differences between categories."""
    compared = {one.measure: _compared(one) for one in report.differences}
    head = ["category", "shown", "sizes", "modes", "luma (sd)", "contrast (sd)", "slope (sd)"]
    rows = [
        [
            row.category,
            f"{row.stimuli:,}",
            _sizes(row),
            ", ".join(f"{count:,} {mode}" for mode, count in row.modes.items()),
            *(
                f"{_number(row.means[measure])} ({_number(row.sds[measure])})"
                for measure in ("luma", "contrast", "slope")
            ),
        ]
        for row in report.categories
    ]
    last = [compared[m] for m in ("side", "colour", "luma", "contrast", "slope")]
    return [head, *rows, ["eta squared", "", *last]]


def advice(report: StimuliReport) -> list[str]:
    """A line for every measure with a large difference between categories, and what is large."""
    found = []
    for one in report.differences:
        if not one.large:
            continue
        rows = [row for row in report.categories if math.isfinite(row.means[one.measure])]
        low = min(rows, key=lambda row: row.means[one.measure])
        high = max(rows, key=lambda row: row.means[one.measure])
        found.append(
            f"* {one.measure} differs between categories ({_number(low.means[one.measure])} in "
            f"{low.category}, {_number(high.means[one.measure])} in {high.category}): a contrast "
            f"between them may reflect {one.measure}; {_REMEDY[one.measure]}"
        )
    if found:
        sizes = ", ".join(
            f"{name} by {f'{100 * least:.0f} %' if name in _SHARES else least}"
            for name, least in THRESHOLDS.items()
        )
        found.append(f"* {sizes} or more; and eta squared of 0.14 or more, with p of 0.05 or less")
    return found


def _compared(one: Difference) -> str:
    if math.isnan(one.eta_squared):
        return ""
    p = f"p {one.p:.2g}" if one.p >= 1e-99 else "p < 1e-99"
    return f"{one.eta_squared:.2f} ({p}){' *' if one.large else ''}"


def _sizes(row: CategoryRow) -> str:
    if not row.sizes:
        return ""
    smallest, largest = (f"{width} x {height}" for width, height in (row.smallest, row.largest))
    return smallest if row.sizes == 1 else f"{row.sizes:,}: {smallest} .. {largest}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
