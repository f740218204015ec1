"""Blocks of an answer fit the memory budget; without one their size is fixed."""

from __future__ import annotations

import pytest

from fusiform.engine import blocks
from fusiform.engine.blocks import block_of, memory_budget
from fusiform.engine.errors import UserError

MIB = 2**20


@pytest.fixture(autouse=True)
def program(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of 100 MiB that needs no more, with four cores."""
    monkeypatch.setattr(blocks, "resident_memory", lambda _: {"VmRSS": 100 * MIB})
    monkeypatch.setattr(blocks, "_WORKSPACE", 0)
    monkeypatch.setattr(blocks, "_MOST_WORKERS", 4)


def test_without_a_budget_blocks_have_a_fixed_size() -> None:
    assert block_of(MIB) == (32, 4)
    assert block_of(1, most=1000) == (1000, 4)
    assert block_of(MIB, fixed=200 * MIB) == (32, 2)
    assert block_of(100 * MIB, fixed=1000 * MIB) == (1, 1)


def test_a_budget_takes_workers_first_and_then_units() -> None:
    found = []
    for size in ("1GiB", "201MiB", "140MiB", "110MiB"):
        with memory_budget(size):
            found.append(block_of(MIB, fixed=8 * MIB))
    assert found == [(32, 4), (32, 2), (32, 1), (2, 1)]
    assert block_of(MIB, fixed=8 * MIB) == (32, 4)


def test_what_cannot_fit_is_refused_in_one_line() -> None:
    with memory_budget("104MiB"), pytest.raises(UserError, match="one block 9 MiB of 104 MiB"):
        block_of(MIB, fixed=8 * MIB)
    with pytest.raises(UserError, match="number of bytes"), memory_budget("some"):
        pass
