"""Contrasts that no unit can be selective for both of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fusiform import analyse
from fusiform.engine.analyses.tables import tables
from fusiform.engine.contrasts.language.contrast import parse_contrasts
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.language.exclusion import are_opposed, exceeds_each
from fusiform.engine.contrasts.language.presets import FLOC, MARGALIT2024, PRINCE2024
from fusiform.engine.querying.store import Store


@pytest.mark.parametrize(
    ("criterion", "excludes"),
    [
        (Criterion(), True),
        (Criterion(where="csi > 1/3 and log10_p < -2"), True),
        (Criterion(where="t > 0 or q <= 0.05"), True),
        (Criterion("each", "t > 3", sides=2), True),
        (PRINCE2024, True),
        # Rules that a unit may meet without a larger response to the target.
        (Criterion(where="csi > 1/3"), False),
        (Criterion(where="q <= 0.05 or csi > 0.5"), False),
        (Criterion(where="p < 0.6"), False),
        (Criterion(where="t > -1"), False),
        (Criterion(where="top 10 by t"), False),
        (Criterion("each", "q <= 0.05", sides=2), False),
        # The baseline pooled.
        (Criterion("rest"), False),
        (MARGALIT2024, False),
        (FLOC, False),
        (replace(FLOC, pairwise=True), True),
    ],
)
def test_criteria_exclude_if_units_exceed_each_baseline_category(
    criterion: Criterion, excludes: bool
) -> None:
    assert exceeds_each(criterion) == excludes


@pytest.mark.parametrize(
    ("one", "other", "excludes"),
    [
        ("a", "b", True),
        ("a > b", "b > a", True),
        ("a + b > c + d", "c > a + b", True),
        ("a > b + c", "b + d > a", False),  # d is not in the baseline of a
        ("a > c", "b > c", False),
        ("a", "a + b", False),
        ("a", "b + c > a + d", True),
        ("a - b/2 - c/2", "b - a", False),  # weighted sums are not tested category by category
    ],
)
def test_contrasts_exclude_each_other_if_each_has_the_others_target_in_its_baseline(
    one: str, other: str, excludes: bool
) -> None:
    first, second = parse_contrasts([one, other], ["a", "b", "c", "d"])
    assert are_opposed(first, second) == are_opposed(second, first) == excludes


def test_pairs_that_exclude_each_other_have_no_numbers_in_tables(store: Store) -> None:
    asked = ["faces", "bodies", "faces + bodies > scenes"]
    found = analyse(store, Criterion(where="t > 0"), contrasts=asked, analyses="overlap")
    pairs = {(row.contrast, row.other): row for row in found.overlap if row.layer == "layer1.0"}
    assert {names for names, row in pairs.items() if row.exclusive} == {("faces", "bodies")}
    assert pairs["faces", "bodies"].both == 0
    assert pairs["faces", "faces + bodies > scenes"].both > 0
    (table,) = tables(found)
    for row in table.rows:
        line = dict(zip(table.head, row, strict=True))
        known = [line[name] is not None for name in ("both", "if independent", "Jaccard")]
        assert known == [line["other"] != "bodies"] * 3
