"""Hugging Face datasets on disk (``save_to_disk``), read in place.

The image column holds files, and their categories are the names of a ClassLabel. The bytes of an
image are found once, by a separate process (see :mod:`.arrow_tables`), and then read from the file.
"""

from __future__ import annotations

import json
import stat
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UserError, nearest, shortened
from .arrow_tables import places_of
from .columns import LONGEST_TEXT, Texts
from .images import natural_key
from .listing import Listing, Source, refuse_repeated, rows_by_category
from .paths import refuse_outside
from .shards import Members

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
_MOST_METADATA = 2**26
# Columns that hold categories although their type does not say so, in order of precedence.
_LABELS = ("label", "labels", "category", "class")
_TEXT_OR_NUMBER = (
    *("string", "large_string", "int8", "int16", "int32", "int64"),
    *("uint8", "uint16", "uint32", "uint64"),
)


class _Columns(NamedTuple):
    """Columns of images and categories, and the names of the classes (none: the values)."""

    image: str
    label: str
    classes: Sequence[str] | None


def list_dataset(source: Source) -> Listing | None:
    """Images of a dataset folder, or of ``FOLDER:COLUMN`` with the column of its categories.

    Categories are in the order of the ClassLabel, or else natural.

    Raises
    ------
    UserError : several splits; no column of images or of categories, or several; a missing,
        damaged or compressed file; a row without image or category
    """
    folder, column = source.path, ""
    if not folder.exists() and ":" in folder.name:
        name, _, column = folder.name.rpartition(":")
        folder = folder.with_name(name) if name else folder
    if (folder / _SPLITS).is_file():
        splits = _document(folder / _SPLITS).get("splits")
        named = shortened(map(str, splits), 5) if isinstance(splits, list) else "none"
        raise UserError(f"a stimulus set is one split of a dataset; {folder} has {named}: name one")
    lacking = [name for name in (_STATE, _INFO) if not (folder / name).is_file()]
    if len(lacking) == 1 and any(folder.glob("*.arrow")):
        raise UserError(
            f"a dataset is a folder that save_to_disk wrote, with {_STATE} and {_INFO}; {folder} "
            f"lacks {lacking[0]}: restore it, or save the dataset again"
        )
    if lacking:
        return None
    columns = _columns(_document(folder / _INFO).get("features"), column, folder)
    return _listing(folder, _files(folder, source.root), columns)


def _listing(folder: Path, files: Sequence[str], columns: _Columns) -> Listing:
    known = {name: number for number, name in enumerate(columns.classes or ())}
    numbers, marks, places = array("i"), array("q"), array("q")

    def names() -> Iterator[str]:
        found = places_of([folder / file for file in files], columns.image, columns.label)
        row = before = -1
        for number, start, size, path, label in found:
            row, before = row + 1 if number == before else 0, number
            where = f"row {row} of {folder / files[number]}"
            category = _category(label, columns, where)
            numbers.append(known.setdefault(category, len(known)))
            places.extend((number if start >= 0 else -1, start, size))
            if start < 0 and not path:
                raise UserError(
                    f"every row of a dataset has an image; {where} has none: leave the row out "
                    "(filter)"
                )
            if len(path or "") > LONGEST_TEXT:
                raise UserError(f"a path has at most {LONGEST_TEXT:,} characters; {where} has more")
            name = path if start < 0 and path else f"{files[number]}/{row}"
            marks.append(hash(name))
            yield name

    listed = Texts.of(names())
    refuse_repeated(listed, marks, "a dataset holds a file once")
    found = rows_by_category(known, np.frombuffer(numbers, np.int32))
    used = {category: rows for category, rows in found.items() if len(rows)}
    notes: tuple[str, ...] = ()
    if lacking := [category for category in found if category not in used]:
        notes = (f"passed over classes without images: {shortened(lacking)}",)
    if columns.classes is None:
        used = {category: used[category] for category in sorted(used, key=natural_key)}
    file, start, size = np.frombuffer(places, np.int64).reshape(-1, 3).T
    shards = tuple(folder / name for name in files)
    images = Members(shards, file.astype(np.int32), start.copy(), size.copy())
    return Listing(folder, listed, used, notes, images=images, confined=True)


def _category(label: str | None, columns: _Columns, where: str) -> str:
    if columns.classes is None:
        category = (label or "").strip()
        if 0 < len(category) <= LONGEST_TEXT:
            return category
    elif label and label.isdecimal() and int(label) < len(columns.classes):
        return columns.classes[int(label)]
    given = "none" if label is None else repr(label[:80])
    raise UserError(
        f"every row of a dataset has a category; {columns.label} in {where} is {given}: correct "
        "it, or leave the row out (filter)"
    )


def _columns(features: Any, column: str, folder: Path) -> _Columns:
    """Columns of images and categories, by their types."""
    known: dict[str, Mapping[str, Any]] = {
        name: feature if isinstance(feature, dict) else {}
        for name, feature in (features if isinstance(features, dict) else {}).items()
    }
    kinds = {name: feature.get("_type") for name, feature in known.items()}
    images = [name for name, kind in kinds.items() if kind == "Image"]
    if len(images) != 1:
        raise UserError(
            f"a dataset has one column of images; {folder} has {shortened(images) or 'none'} "
            f"(columns: {shortened(known) or 'none'}): keep one (select_columns, cast_column)"
        )
    classes = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    plain = [name for name in known if known[name].get("dtype") in _TEXT_OR_NUMBER]
    if column and column not in (*classes, *plain):
        raise UserError(
            f"categories are a column of classes, texts or whole numbers; {folder} has no such "
            f"{column!r}: {nearest(column, (*classes, *plain))}"
        )
    chosen = [column] if column else classes or [name for name in _LABELS if name in plain][:1]
    if len(chosen) != 1:
        raise UserError(
            "a dataset has one column of categories (classes, texts or whole numbers); "
            f"{folder} has {shortened(chosen) or 'none'} (columns: {shortened(known)}): name one, "
            f"as {folder}:COLUMN"
        )
    (label,) = chosen
    return _Columns(images[0], label, _classes(known[label], label, folder))


def _classes(feature: Mapping[str, Any], label: str, folder: Path) -> list[str] | None:
    if feature.get("_type") != "ClassLabel":
        return None
    names: Any = feature.get("names")
    texts = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not texts or len(set(names)) < len(names) or max(map(len, names), default=0) > LONGEST_TEXT:
        raise UserError(
            f"classes have different names, none empty; those of {label} in {folder} do not: "
            "rename them"
        )
    return list(names)


def _files(folder: Path, root: Path | None) -> list[str]:
    """Arrow files of a dataset."""
    state = _document(folder / _STATE)
    listed = state.get("_data_files")
    files = [
        one.get("filename") if isinstance(one, dict) else None
        for one in (listed if isinstance(listed, list) else ())
    ]
    if not files or not all(isinstance(name, str) and name for name in files):
        raise UserError(
            f"a dataset names the files of its rows; {folder / _STATE} names none: save it again, "
            "with rows"
        )
    if state.get("_indices_data_files"):
        raise UserError(
            f"rows of a dataset are all shown; {folder} chooses some by an index file: save it "
            "again after flatten_indices()"
        )
    names = [str(name) for name in files]
    refuse_outside(folder, Texts.of(names), root)
    if lost := [name for name in names if not (folder / name).is_file()]:
        raise UserError(
            f"a dataset has the files that {_STATE} names; {folder} lacks {shortened(lost)}: "
            "restore them"
        )
    return names


def _document(path: Path) -> dict[str, Any]:
    """Metadata of a dataset."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_METADATA:
            raise ValueError(f"it has {found.st_size:,} bytes")
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise ValueError("it holds no names")
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"a dataset's metadata are JSON; {path} is not ({str(error)[:200]}): save the "
            "dataset again"
        ) from None
    return document
