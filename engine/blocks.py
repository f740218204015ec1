"""Memory of a question: how much of an answer is computed at a time, within a budget.

A question is answered block by block: a slab of a layer, some categories, some rows. Blocks of tens
of MiB serve reading and computing; larger ones gain nothing. So memory does not depend on numbers
of layers, categories or rows, and a budget only makes blocks smaller, and fewer at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .errors import UserError
from .limits import bytes_of
from .machine import control_group_limits, memory, resident_memory
from .texts import in_bytes

# Bytes of the parts of a block that may be of any size, and of all blocks at a time, by default.
_BLOCK, _ALL_BLOCKS = 32 * 2**20, 512 * 2**20
# Threads of a question; the codecs and kernels have their own.
_MOST_WORKERS = min(4, os.cpu_count() or 1)
# Libraries and compiled code that are loaded while a question is answered, and their buffers.
_WORKSPACE = 192 * 2**20

# A slab of moments and what is computed from it, at most.
_SLAB = 192 * 2**20

_budget: int | None = None


class Blocks(NamedTuple):
    """How a question is divided: ``items`` per block, and the blocks worked on at a time."""

    items: int
    workers: int


@contextmanager
def memory_budget(size: int | str | None) -> Iterator[None]:
    """Answer within a number of bytes for the whole process, such as ``2GiB``; None for no limit.

    Raises
    ------
    UserError : it is not a size
    """
    global _budget
    earlier = _budget
    _budget = None if size is None else bytes_of(size)
    try:
        yield
    finally:
        _budget = earlier


def block_of(item: int, fixed: int = 0, most: int = 2**62) -> Blocks:
    """The size and number of blocks that fit the budget.

    Parameters
    ----------
    item : bytes per item: a row, a unit, a category
    fixed : bytes that every block takes, whatever its size, such as a slab that is read whole
    most : items of the largest block that makes sense

    Raises
    ------
    UserError : one block of one item does not fit
    """
    whole = fixed + max(item, min(_BLOCK, item * most))
    room = _ALL_BLOCKS if _budget is None else _room(_budget, fixed + item)
    workers = max(1, min(_MOST_WORKERS, room // whole))
    free = min(_BLOCK, room // workers - fixed)
    return Blocks(max(1, min(most, free // item)), workers)


def room(whole: bool = False) -> int:
    """Bytes for what a question keeps: those of blocks, or as many as are free if ``whole``.

    A budget takes the place of both.
    """
    if _budget is not None:
        return max(0, _budget - _program())
    free = memory(control_group_limits()) if whole else None
    return free.available if free else 2**62 if whole else _ALL_BLOCKS


def threads(each: int) -> int:
    """Number of threads that fit the budget, if each takes ``each`` bytes; at least one."""
    return max(1, min(_MOST_WORKERS, room() // each))


def whose() -> str:
    """Where :func:`room` comes from, to follow a size in a message."""
    if _budget is None:
        return ""
    return f", what the program leaves of `memory_budget` {in_bytes(_budget)}"


def require_slab() -> None:
    """Raise unless the budget holds the program and a slab of a layer, which is read whole.

    Raises
    ------
    UserError : it does not
    """
    if _budget is not None:
        _room(_budget, _SLAB)


def _program() -> int:
    return resident_memory("self").get("VmRSS", 0) + _WORKSPACE


def _room(budget: int, least: int) -> int:
    """Bytes for blocks, beside the program."""
    program = _program()
    if budget < program + least:
        raise UserError(
            f"an answer must fit its memory budget; the program takes {in_bytes(program)} and one "
            f"block {in_bytes(least)} of {in_bytes(budget)}: raise `memory_budget`"
        )
    return budget - program
