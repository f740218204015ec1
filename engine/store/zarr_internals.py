"""The private parts of zarr that fusiform uses, each with a plain path for releases without it.

Every other file imports zarr's public names only.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from functools import cache
from threading import Thread
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

import zarr
from zarrs import ZarrsCodecPipeline

T = TypeVar("T")


@cache
def _event_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="fusiform_store", daemon=True).start()
    return loop


def plain_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, run to its end by an event loop of its own thread."""
    return asyncio.run_coroutine_threadsafe(coroutine, _event_loop()).result()


try:
    # zarr's own event loop: one thread less, and a forked child gets a new one.
    from zarr.core.sync import sync as sync
except ImportError:
    sync = plain_sync  # type: ignore[assignment]


if not __debug__:  # python -O: of an assertion of zarr 3.1's that does work, this is the work
    from zarr.core.group import GroupMetadata

    _from_dict = GroupMetadata.from_dict.__func__  # type: ignore[attr-defined]

    def _of_a_group(cls: type[GroupMetadata], data: dict[str, Any]) -> GroupMetadata:
        if data.get("node_type") == "group":
            data = {key: value for key, value in data.items() if key != "node_type"}
        return cast("GroupMetadata", _from_dict(cls, data))

    GroupMetadata.from_dict = classmethod(_of_a_group)  # type: ignore[method-assign,assignment]


def read_with_zarrs(array: zarr.Array[Any]) -> None:
    """Have an array read by zarrs, in a third of the time, if zarr lets its codecs be replaced.

    Not by zarr's configuration: that is the program's, and arrays that are being written need
    zarr's own pipeline, which also writes chunks of nothing but fill values.
    """
    if hasattr(array.async_array, "codec_pipeline") and not _forked:
        pipeline = ZarrsCodecPipeline.from_array_metadata_and_store(array.metadata, array.store)
        pipeline.python_impl = array.async_array.codec_pipeline  # type: ignore[assignment]
        _pipelines[id(pipeline)] = pipeline
        object.__setattr__(array.async_array, "codec_pipeline", pipeline)


def _read_without_zarrs() -> None:
    """In a forked child: it has none of zarrs' threads, and would wait for them for ever."""
    global _forked
    _forked = True
    for pipeline in _pipelines.values():
        pipeline.impl = None
    _event_loop.cache_clear()


_forked = False
_pipelines: WeakValueDictionary[int, ZarrsCodecPipeline] = WeakValueDictionary()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_read_without_zarrs)
