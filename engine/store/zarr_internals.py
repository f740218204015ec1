"""Private parts of zarr that fusiform uses, each with a fallback for releases without it.

All other files import public names of zarr only.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from threading import Thread
from typing import Any, TypeVar, cast

T = TypeVar("T")
# Seconds to wait for writes, which may hang with their disk.
_PATIENCE = 10


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="fusiform_store", daemon=True).start()
    return loop


def plain_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on an event loop in a thread of its own; return its result."""
    return asyncio.run_coroutine_threadsafe(coroutine, _event_loop()).result()


try:
    # zarr's own event loop saves a thread, and a forked child gets a new one.
    from zarr.core.sync import sync as sync
except ImportError:
    sync = plain_sync  # type: ignore[assignment]


def await_writes() -> None:
    """Wait until zarr's tasks have ended. After an error, others of the same call still write."""

    async def wait() -> None:
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=_PATIENCE)

    with suppress(Exception):  # no thread can be started for zarr: then nothing is written either
        sync(wait())


if not __debug__:  # python -O skips an assertion of zarr 3.1 that has a side effect: replace it
    from zarr.core.group import GroupMetadata

    _from_dict = GroupMetadata.from_dict.__func__  # type: ignore[attr-defined]

    def _of_a_group(cls: type[GroupMetadata], data: dict[str, Any]) -> GroupMetadata:
        if data.get("node_type") == "group":
            data = {key: value for key, value in data.items() if key != "node_type"}
        return cast("GroupMetadata", _from_dict(cls, data))

    GroupMetadata.from_dict = classmethod(_of_a_group)  # type: ignore[method-assign,assignment]


if hasattr(os, "register_at_fork"):  # a child lacks the loop's thread
    os.register_at_fork(after_in_child=_event_loop.cache_clear)
