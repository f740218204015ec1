"""Excerpts of long tables: leading contrasts, layers at even steps, and how many more there are."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest

from fusiform.commands.tables import PRINTED, excerpt_of, put_out
from fusiform.engine.analyses.analyse import Analysis
from fusiform.engine.analyses.consistency import Consistency
from fusiform.engine.analyses.overlap import Overlap
from fusiform.engine.analyses.shares import Share
from fusiform.engine.analyses.tables import tables
from fusiform.engine.excerpt import MOST_CONTRASTS, MOST_ROWS, at_steps, excerpt, leading, step_over
from fusiform.engine.responses.answer import Answer
from fusiform.engine.table import Table


def of(layers: int, contrasts: int, **more: float) -> dict[tuple[str, str], float]:
    """Shares that grow with the number of the contrast, and those in ``more``, in one layer."""
    shares = {(f"l{i}", f"c{k}"): k / 1e4 for i in range(layers) for k in range(contrasts)}
    peak = f"l{min(7, layers - 1)}"
    return shares | {(peak, name): value for name, value in more.items()}


@pytest.mark.parametrize(("layers", "contrasts"), [(1, 1), (1, 200), (18, 5), (40, 5), (200, 1)])
def test_a_table_that_fits_is_shown_whole(layers: int, contrasts: int) -> None:
    found = excerpt(of(layers, contrasts))
    assert (len(found.layers), len(found.contrasts), found.said) == (layers, contrasts, "")


def test_many_categories_are_cut_to_those_with_the_highest_peaks() -> None:
    found = excerpt(of(5, 5000, c3=0.9), noun="categories")
    assert len(found.layers) == 5
    assert len(found.contrasts) == MOST_ROWS // 5
    assert {"c3", "c4999", "c4961"} <= found.contrasts
    assert found.said == "40 of 5,000 categories (those that peak highest)"


def test_many_layers_are_shown_at_even_steps_with_the_last_and_the_peaks() -> None:
    found = excerpt(of(902, 5, c3=0.9))
    assert len(found.contrasts) == 5
    assert {"l0", "l7", "l901"} <= found.layers
    assert 30 < len(found.layers) <= MOST_ROWS // 5
    assert found.said == f"{len(found.layers)} of 902 layers (one in 25, and the peaks)"


def test_many_layers_of_many_categories_fit_too() -> None:
    found = excerpt(of(902, 1000))
    assert len(found.contrasts) == MOST_CONTRASTS
    assert len(found.layers) * len(found.contrasts) <= MOST_ROWS
    assert "layers" in found.said
    assert "10 of 1,000 contrasts" in found.said


def test_steps_keep_the_first_and_the_last_and_no_more_than_asked() -> None:
    for number in range(1, 300):
        for most in range(2, 40):
            kept = at_steps(range(number), step_over(number, most))
            assert len(kept) <= most
            assert (kept[0], kept[-1]) == (0, number - 1)


def test_ties_lead_in_their_order() -> None:
    assert leading({"a": 0.0, "b": 1.0, "c": 0.0, "d": 0.0}, 3) == ["a", "b", "c"]


def test_several_stores_share_an_excerpt_by_the_larger_share() -> None:
    def rows(shares: dict[tuple[str, str], float]) -> list[Any]:
        return [SimpleNamespace(layer=i, contrast=k, share=v) for (i, k), v in shares.items()]

    both = rows(of(5, 50)) + rows(of(5, 50, c3=0.9))
    assert "c3" in excerpt_of(both, every=False).contrasts
    assert len(excerpt_of(both, every=True).contrasts) == 50


@pytest.mark.parametrize("every", [False, True])
def test_a_printed_table_has_leading_rows_and_says_how_many_there_are(
    every: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = of(5, 5000)
    layers, contrasts = zip(*shares, strict=True)
    counts = Table({"layer": layers, "contrast": contrasts, "share": list(shares.values())})
    units = Table({"unit": list(range(10_000))})
    for table, shown, said in (
        (counts, 200, "... 40 of 5,000 contrasts (those that peak highest): --all shows all"),
        (units, 200, "... 200 of 10,000 rows: --all shows all, --format csv has all"),
    ):
        put_out(iter([table]), PRINTED, every)
        lines = capsys.readouterr().out.splitlines()[2:]
        assert len(lines) == (len(table) if every else shown + 1)
        assert lines[-1].startswith(said) != every


# Tables of analyses, comparisons and recordings


def analysed(layers: int, contrasts: int) -> Analysis:
    """Shares, overlap and consistency; the last contrasts have the largest shares."""
    names = [f"l{place}" for place in range(layers)]
    texts = [f"c{place}" for place in range(contrasts)]
    shares = [
        Share(layer, text, 10, 10, place, place / 100, None, None, None, None, None)
        for layer in names
        for place, text in enumerate(texts)
    ]
    pairs = [
        Overlap(layer, a, b, 1, 2, 0.5, None) for layer in names for a, b in combinations(texts, 2)
    ]
    matrix = tuple((0.5,) * layers for _ in names)
    compared = Consistency(
        "correlation", ("a", "b"), tuple(names), (), matrix, None, matrix, *[None] * 5
    )
    return Analysis(
        "s.zarr", {}, "t > 1", tuple(texts), ("a", "b"), 2, tuple(names), 10, 0, tuple(shares),
        (), (), (), (), tuple(pairs), (), compared,
    )  # fmt: skip


def test_tables_of_analyses_show_leading_contrasts_and_layers_at_steps() -> None:
    found = analysed(100, 40)
    shares, pairs, spearman, cka = tables(found, every=False)
    assert {row[1] for row in shares.rows} == {f"c{place}" for place in range(30, 40)}
    assert len(shares.rows) <= 200
    assert "10 of 40 contrasts" in shares.said
    assert {*(row[1] for row in pairs.rows), *(row[2] for row in pairs.rows)} <= {
        row[1] for row in shares.rows
    }
    assert len(pairs.rows) == 200
    assert pairs.said == "200 of 78,000 pairs (those that overlap most)"
    for matrix in (spearman, cka):
        assert len(matrix.rows) <= 20
        assert len(matrix.head) == 2 + len(matrix.rows)
        assert [str(row[0]) for row in matrix.rows] == matrix.head[2:]
        assert (matrix.rows[0][1], matrix.rows[-1][1]) == ("l0", "l99")
        assert "of 100 layers (one in 6)" in matrix.said
    whole = list(tables(found))
    assert [len(table.rows) for table in whole] == [4000, 78_000, 100, 100]
    assert not any(table.said for table in whole)


def test_tables_of_recordings_are_cut_by_rows_and_columns() -> None:
    names = [f"l{place}" for place in range(50)]
    cells = [[name, *(str(place) for place in range(50))] for name in names]
    head, lines, said = Answer(["layer", *names], cells, list, named=1).excerpt()
    assert head[1:] == [line[0] for line in lines]
    assert len(head) <= 21
    assert said == f"{len(lines)} of 50 columns"
    long = [["l", f"c{place}", "-" if place < 5 else str(place)] for place in range(300)]
    head, lines, said = Answer(["layer", "contrast", "AUC"], long, list, ranked="AUC").excerpt()
    assert lines == long[-len(lines) :]
    assert "of 300 contrasts" in said
    _, lines, said = Answer(["layer"], [["l"]] * 1000, list).excerpt()
    assert len(lines) <= 200
    assert said.endswith("of 1,000 rows")
