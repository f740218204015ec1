"""Commands for stores as files: info, check, archive, merge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fusiform.engine.texts import in_bytes

from .fields import command
from .notes import note, put, tell
from .shared_options import AsJson, Output, Overwrite, StoreOrRecording, Stores, tabled
from .tables import DESCRIPTION, cut, description_of, print_json, print_rest, print_table

if TYPE_CHECKING:
    from fusiform.engine.querying.info import StoreInfo

ArchiveFile = Annotated[
    str,
    typer.Option(
        "--output", "-o", help="The file to create: NAME.zarr.zip.", rich_help_panel="Output"
    ),
]
_NAME_WIDTH, _MOST_LAYERS = 15, 30


@command
@tabled
def info(path: StoreOrRecording, as_json: AsJson = False) -> None:
    """Describe a store or recording: network, layers, stimuli, settings.

    Reads only the metadata, and does not trust them: nothing in a store from a stranger is run, and
    sizes that no scan could produce are refused. check tells whether the store is intact.

    Example: fusiform info r50.zarr
    """
    import fusiform

    found = fusiform.info(path)
    if as_json:
        described = asdict(found) | {"units": found.units, "criterion": found.criterion}
        print_json(described)
        return
    for name, value in _info_lines(found):
        tell(f"{name + ':':<{_NAME_WIDTH}} {cut(value)}", indent=_NAME_WIDTH + 1)
    print()
    recorded = found.recorded or {}
    print_table(
        ["layer", "units", *(["recorded"] if recorded else []), *DESCRIPTION],
        [
            [
                cut(layer.name),
                f"{layer.units:,}",
                *([f"{recorded[layer.name]:,}"] if recorded else []),
                *description_of(layer),
            ]
            for layer in found.layers[:_MOST_LAYERS]
        ],
        right={1, 2} if recorded else {1},
    )
    if len(found.layers) > _MOST_LAYERS:
        print_rest(f"and {len(found.layers) - _MOST_LAYERS:,} more", "--json lists them")


@command
def check(
    stores: Annotated[list[str], typer.Argument(metavar="STORE", help="Stores and recordings.")],
) -> None:
    """Verify that stores and recordings are intact.

    Reads everything: structure, checksum of every chunk, counts, fingerprint. Prints the damage, or
    the progress of an unfinished scan and its damage; exits with code 1 if a store is damaged or
    unfinished.

    Example: fusiform check r50.zarr
    """
    import fusiform

    damaged = False
    for path in stores:
        found = fusiform.check(path)
        damaged |= bool(found.problems)
        whole = f"whole ({found.arrays} arrays, {in_bytes(found.bytes_read)} read)"
        state = "not finished" if found.unfinished else "damaged" if found.problems else whole
        put(f"{path}: {state}")
        for problem in found.problems:
            tell(f"  {problem}")
    if damaged:
        raise typer.Exit(1)


@command
def archive(path: StoreOrRecording, output: ArchiveFile, overwrite: Overwrite = False) -> None:
    """Copy a store or recording into one file, to hand on.

    A zip archive, whose members are not compressed: every command that reads a store takes it in
    place, and check verifies each byte of it. The same store gives the same file. For limits on
    the number of files, for sharing, for a paper's supplement.

    Example: fusiform archive r50.zarr -o r50.zarr.zip
    """
    import fusiform

    written = fusiform.archive(path, output, overwrite=overwrite)
    note(f"wrote {written}: {in_bytes(written.stat().st_size)}, checked")


@command
def merge(stores: Stores, output: Output, overwrite: Overwrite = False) -> None:
    """Merge stores of one network into one.

    They hold other stimuli, other categories, or other layers. Moments are combined exactly, and
    contrasts are computed from them. Stores that differ in anything else are refused.

    Example: fusiform merge half1.zarr half2.zarr -o whole.zarr
    """
    import fusiform

    merged = fusiform.merge(stores, output, overwrite=overwrite, note=note)
    categories, stimuli = len(merged.categories), int(merged.counts.sum())
    note(f"wrote {output}: {len(merged.layers)} layers, {categories} categories, {stimuli} stimuli")


def _info_lines(found: StoreInfo) -> Iterator[tuple[str, str]]:
    """Names and values that describe a store, and its size."""
    from fusiform.engine.querying.info import facts

    yield from facts(found)
    if found.files is not None:
        least = "" if found.all_counted else "at least "
        yield "size", f"{least}{in_bytes(found.bytes or 0)} in {least}{found.files:,} files"
