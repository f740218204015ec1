"""The private parts of zarr that fusiform uses, each with a plain path for releases without it.

Every other file imports zarr's public names only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import cache
from threading import Thread
from typing import Any, TypeVar

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


def read_with_zarrs(array: zarr.Array[Any]) -> None:
    """Have an array read by zarrs, in a third of the time, if zarr lets its codecs be replaced.

    Not by zarr's configuration: that is the program's, and arrays that are being written need
    zarr's own pipeline, which also writes chunks of nothing but fill values.
    """
    if hasattr(array.async_array, "codec_pipeline"):
        pipeline = ZarrsCodecPipeline.from_array_metadata_and_store(array.metadata, array.store)
        object.__setattr__(array.async_array, "codec_pipeline", pipeline)
