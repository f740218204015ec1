"""The attributes of a root, validated and turned into a schema.

Stores come from strangers: attributes are checked before anything is computed from them, and
values larger than any scan could produce are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from reprlib import Repr
from typing import Any

from ..errors import UserError
from ..layer import COORDINATES, DTYPES, UNITS, Layer, is_function
from ..registry import (
    EXTREMES,
    FORMER_MEASURES,
    MEASURES,
    PLACED,
    PROJECTIONS,
    ROOT_NAMES,
    SHUFFLED,
    STORE_DTYPES,
    VARIABLES,
    is_coordinate_name,
)
from ..spec import PRECISIONS
from ..stimulus_groups import Groups
from .schema import RecordedLayer, RecordingSchema, RootSchema, StoreSchema

# No scan exceeds these.
LIMITS = {
    "categories": 10_000,
    "folds": 10_000,
    "groups": 1_000_000,  # categories times folds
    "layers": 20_000,
    "units": 2**31 - 1,  # per layer: coordinates are 32-bit
    "stimuli": 2**31 - 1,
    "shuffles": 1_000_000,
    "saved": 1_000,
    "notes": 1_000,
    "choices": 1_000,
    "seed": 2**63 - 1,
}
_MAX_TEXT, _MAX_NAME = 100_000, 1_000
_MAX_DEPTH = 8
_MAX_ANSWER = 1e300
# Text attributes: required, and optional.
_REQUIRED = ("model", "weights")
_TEXTS = (
    *("status", "created", "fingerprint", "device", "device_type"),
    *("stimuli", "stimuli_path", "weights_sha256", "modules_sha256", "configuration_sha256"),
    *("weights_path", "units_sha256"),
)
_LAYER_FIELDS = {"name": str, "kind": str, "dims": list, "shape": list, "dtype": str}
_AXIS = re.compile(r"axis_\d{1,2}")
_GENERATION = re.compile(r"[1-9][0-9]{0,8}")
_MORE_NOTES = re.compile(r"and (\d+) more notes")
_brief = Repr()
_brief.maxstring = _brief.maxother = 60


def root_schema(attributes: Mapping[str, Any]) -> RootSchema:
    """The categories, folds, layers and stimuli that any root declares.

    Raises
    ------
    UserError : the attributes are not what fusiform writes
    """
    if _is_too_deep(attributes):
        raise UserError(f"attributes are nested at most {_MAX_DEPTH} deep")
    for name in (*_REQUIRED, *_TEXTS):
        value = attributes.get(name)
        if value is not None or name in _REQUIRED:
            require(isinstance(value, str) and len(value) <= _MAX_TEXT, name, "a text", value)
    categories = _names(attributes.get("categories"), "categories")
    folds = _integer(attributes.get("folds"), "folds")
    groups = len(categories) * folds
    require(groups <= LIMITS["groups"], "categories times folds", _up_to("groups"), groups)
    value = attributes.get("precision", PRECISIONS[0])
    require(value in PRECISIONS, "precision", f"one of {', '.join(PRECISIONS)}", value)
    value = attributes.get("units", "all")
    known = _are_texts([value], _MAX_NAME) and (value in UNITS or is_function(value))
    require(known, "units", f"one of {', '.join(UNITS)}, or package.module:function", value)
    value = attributes.get("compiled", False)
    require(isinstance(value, bool), "compiled", "true or false", value)
    if (value := attributes.get("groups")) is not None:
        require(Groups.from_record(value) is not None, "groups", "folders by category", value)
    notes = attributes.get("notes", [])
    known = _are_texts(notes, _MAX_TEXT) and len(notes) <= LIMITS["notes"]
    require(known, "notes", "a list of texts", notes)
    _require_network(attributes.get("modules", []), attributes.get("answers", {}))
    layers = _layers(attributes.get("layers"))
    stimuli = _integer(attributes.get("n_stimuli"), "n_stimuli", "stimuli", least=0)
    return RootSchema(categories, folds, layers, stimuli)


def store_schema(attributes: Mapping[str, Any]) -> StoreSchema:
    """The contents that the root of a store declares.

    Raises
    ------
    UserError : the attributes are not what a scan writes
    """
    root = root_schema(attributes)
    dtype = attributes.get("store_dtype")
    require(dtype in STORE_DTYPES, "store_dtype", f"one of {', '.join(STORE_DTYPES)}", dtype)
    null = attributes.get("null", {"shuffles": 0, "units": 1})
    require(isinstance(null, dict), "null", "shuffles and units", null)
    return StoreSchema(
        root.categories,
        root.folds,
        root.layers,
        root.stimuli,
        str(dtype),
        _integer(null.get("shuffles"), "shuffles of the null", "shuffles", least=0),
        _integer(null.get("units"), "units of the null", "units"),
        _saved(attributes.get("saved", {})),
        _coordinates(attributes.get("coordinates", {}), root.layers),
    )


def recording_schema(attributes: Mapping[str, Any]) -> RecordingSchema:
    """The contents that the root of a recording declares.

    Raises
    ------
    UserError : the attributes are not what fusiform record writes
    """
    root = root_schema(attributes)
    dim, seed = _projection(attributes.get("projection"))
    choices: Any = attributes.get("choices")
    known = _are_texts(choices, _MAX_NAME) and 1 <= len(choices) <= LIMITS["choices"]
    require(known, "choices", "names of choices of units", choices)
    records: Any = attributes.get("recorded")
    known = isinstance(records, dict) and records.keys() == {layer.name for layer in root.layers}
    require(known, "recorded", "a record for every layer", records)
    recorded = {}
    for layer in root.layers:
        record = records[layer.name]
        require(isinstance(record, dict), f"recorded of {layer.name}", "a record", record)
        units = record.get("units")
        rule = f"an integer from 1 to {layer.units:,}"
        known = is_integer_in(units, 1, layer.units)
        require(known, f"recorded units of {layer.name}", rule, units)
        recorded[layer.name] = RecordedLayer(units, n_columns(units, dim))
    return RecordingSchema(
        root.categories, root.folds, root.layers, root.stimuli, recorded, tuple(choices), seed
    )


def n_columns(units: int, dim: int | None) -> int:
    """Number of recorded columns of a layer whose units are projected to at most ``dim``."""
    return units if dim is None else min(units, dim)


def limit_notes(notes: Sequence[str]) -> list[str]:
    """Cut notes to the longest text, and their list to the limit; the last note counts the rest.

    A count left by an earlier call is added to the new one.
    """
    most, texts = LIMITS["notes"], [note[:_MAX_TEXT] for note in notes]
    if len(texts) <= most:
        return texts
    earlier = [int(found[1]) for note in texts if (found := _MORE_NOTES.fullmatch(note))]
    texts = [note for note in texts if not _MORE_NOTES.fullmatch(note)]
    rest = len(texts) - (most - 1) + sum(earlier)
    return [*texts[: most - 1], f"and {rest} more notes"]


def is_free_name(name: str) -> bool:
    """Whether a contrast can be saved under this name, beside the scan's own variables."""
    taken = {*VARIABLES, *COORDINATES, SHUFFLED, PLACED, EXTREMES}
    return name.isidentifier() and name not in taken and not name.startswith("axis_")


def is_group_of(name: str, group: str) -> bool:
    """Whether a saved contrast may use this group: NAME, or NAME.2 and so on."""
    base, _, number = group.partition(".")
    return base == name and (group == name or _GENERATION.fullmatch(number) is not None)


def brief(value: object) -> str:
    """A short representation of a value of unknown length and depth."""
    return _brief.repr(value)


def is_integer_in(value: object, least: int, most: int) -> bool:
    """Whether a value is an integer within bounds; True and 1.0 are not."""
    return type(value) is int and least <= value <= most


def require(holds: bool, name: str, rule: str, came: object) -> None:
    """Raise unless an attribute of a root follows the ``rule``."""
    if not holds:
        raise UserError(f"{name} must be {rule}; got {brief(came)}")


def _up_to(kind: str) -> str:
    return f"at most {LIMITS[kind]:,}"


def _are_texts(value: Any, longest: int) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, str) and len(one) <= longest for one in value
    )


def _integer(value: Any, name: str, kind: str = "", least: int = 1) -> int:
    """An integer attribute of at most ``LIMITS[kind]``."""
    most = LIMITS[kind or name]
    rule = f"an integer from {least} to {most:,}"
    require(is_integer_in(value, least, most), name, rule, value)
    return int(value)


def _names(value: Any, name: str) -> tuple[str, ...]:
    require(isinstance(value, list), name, "a list of names", value)
    fits = 1 <= len(value) <= LIMITS[name]
    require(fits, f"number of {name}", f"1 to {LIMITS[name]:,}", len(value))
    rule = f"texts of at most {_MAX_NAME:,} characters"
    require(_are_texts(value, _MAX_NAME), name, rule, value)
    require(len(set(value)) == len(value), name, "different names", value)
    return tuple(value)


def _layers(records: Any) -> tuple[Layer, ...]:
    require(isinstance(records, list), "layers", "a list of layers", records)
    require(len(records) <= LIMITS["layers"], "number of layers", _up_to("layers"), len(records))
    layers = tuple(_layer(record) for record in records)
    names = [layer.name for layer in layers]
    require(len(set(names)) == len(names), "layers", "of different names", names)
    return layers


def _layer(record: Any) -> Layer:
    known = (
        isinstance(record, dict)
        and record.keys() == _LAYER_FIELDS.keys()
        and all(isinstance(record[name], kind) for name, kind in _LAYER_FIELDS.items())
    )
    require(known, "layers", f"records of {', '.join(_LAYER_FIELDS)}", record)
    name, dims, shape = record["name"], record["dims"], record["shape"]
    what = f"layer {brief(name)}"
    require(_can_be_folder(name), "a layer's name", "printable, without /, no folder's", name)
    known = (
        1 <= len(dims) == len(shape) <= 30
        and all(isinstance(d, str) and (d in COORDINATES or _AXIS.fullmatch(d)) for d in dims)
        and len(set(dims)) == len(dims)
    )
    require(known, f"dims of {what}", "different dimensions, as many as the shape has", dims)
    most = LIMITS["units"]
    known = all(is_integer_in(size, 1, most) for size in shape)
    require(known, f"shape of {what}", "sizes from 1", shape)
    require(record["dtype"] in DTYPES, f"dtype of {what}", "a float", record["dtype"])
    require(len(record["kind"]) <= _MAX_NAME, f"kind of {what}", "short", record["kind"])
    layer = Layer(name, record["kind"], tuple(dims), tuple(shape), record["dtype"])
    require(layer.units <= most, f"units of {what}", _up_to("units"), layer.units)
    return layer


def _require_network(modules: Any, answers: Any) -> None:
    """Raise unless modules are texts and answers are numbers per layer."""
    known = _are_texts(modules, _MAX_NAME) and len(modules) <= LIMITS["layers"]
    require(known, "modules", "a list of texts", modules)
    known = (
        isinstance(answers, dict)
        and len(answers) <= 2 * LIMITS["layers"]
        and all(
            isinstance(own, list)
            and len(own) == PROJECTIONS + 2
            and all(type(x) in (int, float) and abs(x) < _MAX_ANSWER for x in own)
            for own in answers.values()
        )
    )
    require(known, "answers", f"{PROJECTIONS + 2} numbers for each layer", answers)


def _projection(record: Any) -> tuple[int | None, int]:
    if record is None:
        return None, 0
    require(isinstance(record, dict), "projection", "dim and seed", record)
    dim, seed = record.get("dim"), record.get("seed")
    known = is_integer_in(dim, 1, LIMITS["units"])
    require(known, "dim of the projection", "an integer from 1", dim)
    require(
        is_integer_in(seed, 0, LIMITS["seed"]), "seed of the projection", "an integer from 0", seed
    )
    return dim, seed


def _can_be_folder(name: str) -> bool:
    """Whether a layer's group can lie under its name, in the store and nowhere else."""
    odd = not name.isprintable() or "/" in name or "\\" in name or name.startswith((".", "__"))
    return bool(name) and not odd and name not in ROOT_NAMES and len(name.encode()) <= 255


def _coordinates(records: Any, layers: Sequence[Layer]) -> dict[str, tuple[str, ...]]:
    known = isinstance(records, dict) and records.keys() <= {layer.name for layer in layers}
    known = known and all(
        isinstance(own, dict)
        and 1 <= len(own) <= LIMITS["saved"]
        and all(is_coordinate_name(name) and isinstance(one, str) for name, one in own.items())
        for own in records.values()
    )
    require(known, "coordinates", "hashes by name, of layers", records)
    return {name: tuple(own) for name, own in records.items()}


def _saved(records: Any) -> dict[str, Any]:
    require(isinstance(records, dict), "saved", "contrasts by name", records)
    fits = len(records) <= LIMITS["saved"]
    require(fits, "number of saved contrasts", _up_to("saved"), records)
    for name, record in records.items():
        require(is_free_name(name), "name of a saved contrast", "letters, digits and _", name)
        _require_saved(name, f"saved contrast {brief(name)}", record)
    return dict(records)


def _require_saved(name: str, what: str, record: Any) -> None:
    require(isinstance(record, dict), what, "a record", record)
    measures, contrasts = record.get("measures"), record.get("contrasts")
    known = (
        isinstance(measures, list)
        and all(isinstance(m, str) and m in (*MEASURES, *FORMER_MEASURES) for m in measures)
        and len(set(measures)) == len(measures)
    )
    require(known, f"measures of {what}", "different measures", measures)
    known = _are_texts(contrasts, _MAX_TEXT) and bool(contrasts)
    require(known, f"contrasts of {what}", "texts", contrasts)
    each = record.get("each_category")
    require(isinstance(each, bool), f"each_category of {what}", "true or false", each)
    criterion = record.get("criterion")
    require(isinstance(criterion, dict), f"criterion of {what}", "a record", criterion)
    group = record.get("group", name)
    known = isinstance(group, str) and is_group_of(name, group)
    require(known, f"group of {what}", "its name, or NAME.2 and so on", group)


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)
