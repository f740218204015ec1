"""What a store holds: what its root may say of itself, and every array that follows from it.

Stores come from strangers. What a root says is judged before anything is computed from it, and
what is larger than a scan could ever have made is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from reprlib import Repr
from typing import Any

from ..errors import UserError
from ..layer import COORDINATES, UNITS, Layer
from ..spec import PRECISIONS
from ..variables import (
    EXTREMES,
    MEASURE_TYPES,
    MEASURES,
    MOMENTS,
    PROJECTIONS,
    ROOT_NAMES,
    SHUFFLED,
    STIMULUS_COLUMNS,
    STORE_DTYPES,
    VARIABLES,
)

# More than that no scan makes.
MOST = {
    "categories": 10_000,
    "folds": 10_000,
    "groups": 1_000_000,  # categories times folds
    "layers": 20_000,
    "units": 2**31 - 1,  # of a layer: their places are kept in 32 bits
    "stimuli": 2**31 - 1,
    "shuffles": 1_000_000,
    "saved": 1_000,
    "notes": 1_000,
}
_LONGEST_TEXT, _LONGEST_NAME = 100_000, 1_000
_DEEPEST = 8
_LARGEST = 1e300
# Texts among the attributes; those that are needed, and those that may be missing.
_NEEDED = ("model", "weights")
_TEXTS = (
    *("status", "created", "fingerprint", "device", "device_type"),
    *("stimuli", "stimuli_path", "weights_sha256", "modules_sha256", "configuration_sha256"),
)
_LAYER_DTYPES = ("float16", "bfloat16", "float32", "float64")
_AXIS = re.compile(r"axis_\d{1,2}")
_GENERATION = re.compile(r"[1-9][0-9]{0,8}")
_OTHER_NOTES = re.compile(r"and (\d+) more notes")
_shown = Repr()
_shown.maxstring = _shown.maxother = 60


@dataclass(frozen=True)
class Expected:
    """What an array has to be.

    ``shape`` has None where the number of chunks of a layer belongs; ``dtype`` is ``str``, ``int``
    of any width, or a type. Along the first ``split`` dimensions it may be cut into files; with
    ``slabs`` along the others, too, in their order.
    """

    dims: tuple[str, ...]
    shape: tuple[int | None, ...]
    dtype: str
    split: int = 0
    slabs: bool = False

    def __str__(self) -> str:
        return described(self.dtype, self.dims, self.shape)


@dataclass(frozen=True)
class RootSchema:
    """What the root of a store or recording says of its contents."""

    categories: tuple[str, ...]
    folds: int
    layers: tuple[Layer, ...]
    stimuli: int
    _layers: dict[str, Layer] = field(init=False, repr=False, compare=False)
    _known: dict[str, dict[str, Expected]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_layers", {layer.name: layer for layer in self.layers})
        object.__setattr__(self, "_known", {})

    def expected(self, key: str) -> Expected | None:
        """What the array called ``key`` has to be; None if there is none of that name."""
        parts = key.split("/")
        for length in range(len(parts)):
            name = "/".join(parts[:length])
            if name not in self._known and (not length or name in self._layers):
                arrays = self.of_layer(self._layers[name]) if length else self.of_root()
                self._known[name] = arrays
            if key in self._known.get(name, {}):
                return self._known[name][key]
        return None

    def of_layer(self, layer: Layer) -> dict[str, Expected]:
        """The arrays of a layer, by their keys."""
        raise NotImplementedError

    def of_root(self) -> dict[str, Expected]:
        """The coordinates, the counts, and the stimulus table."""
        sizes = self._leading
        columns = {
            name: "int" if name in ("stimulus_category", "stimulus_fold") else "str"
            for name in STIMULUS_COLUMNS
        }
        return {
            "category": Expected(("category",), (sizes["category"],), "str"),
            "fold": Expected(("fold",), (sizes["fold"],), "int64"),
            "count": Expected(tuple(sizes), tuple(sizes.values()), "int64"),
            **{
                name: Expected(("stimulus",), (self.stimuli,), dtype)
                for name, dtype in columns.items()
            },
        }

    @property
    def _leading(self) -> dict[str, int]:
        return {"category": len(self.categories), "fold": self.folds}


@dataclass(frozen=True)
class Schema(RootSchema):
    """What the root of a store says of its contents; see :func:`schema_of`."""

    store_dtype: str
    shuffles: int
    null_units: int
    saved: Mapping[str, Any]

    def of_layer(self, layer: Layer) -> dict[str, Expected]:
        """A layer's coordinates, moments and contrasts, its null, and what was saved of it."""
        found = {
            f"{layer.name}/{dim}": Expected((dim,), (size,), "int32")
            for dim, size in zip(layer.dims, layer.shape, strict=True)
        }
        scanned = {name: (one.leading, self.dtype(name)) for name, one in VARIABLES.items()}
        found |= self._variables(layer, "", scanned)
        if self.shuffles:
            drawn = min(self.null_units, layer.units)
            within = f"{layer.name}/{SHUFFLED}"
            found[f"{within}/drawn_unit"] = Expected(("drawn_unit",), (drawn,), "int64")
            sizes = {**self._leading, "shuffle": self.shuffles, "drawn_unit": drawn}
            for name in MOMENTS:
                found[f"{within}/{name}"] = Expected(
                    tuple(sizes), tuple(sizes.values()), "float64", split=2
                )
        for name in self.saved:
            found |= self._variables(layer, name, self.saved_variables(name), self.group_of(name))
        return found

    def group_of(self, name: str) -> str:
        """The group of every layer that holds a saved contrast: of its name, as a rule."""
        return str(self.saved[name].get("group", name))

    def compared(self, saved: str = "") -> list[str]:
        """The variables whose extremes are kept: of those saved under a name, or of the scan's."""
        if saved:
            typed = {name: dtype for name, (_, dtype) in self.saved_variables(saved).items()}
        else:
            typed = {name: self.dtype(name) for name in VARIABLES}
        return [n for n, dtype in typed.items() if dtype == "float32" and n not in MOMENTS]

    def saved_variables(self, name: str) -> dict[str, tuple[tuple[str, ...], str]]:
        """The leading dimensions and types of what a saved contrast holds."""
        record = self.saved[name]
        category = ("category",) if record["each_category"] else ()
        measures = {m: (category, MEASURE_TYPES.get(m, "float32")) for m in record["measures"]}
        masks = {"selective": (category, "bool"), "selective_fold": ((*category, "fold"), "bool")}
        return {**measures, **masks}

    def dtype(self, name: str) -> str:
        """The type of what a scan leaves of a layer."""
        return self.store_dtype if name in MOMENTS else VARIABLES[name].dtype

    def _variables(
        self,
        layer: Layer,
        within: str,
        variables: Mapping[str, tuple[tuple[str, ...], str]],
        group: str = "",
    ) -> dict[str, Expected]:
        folder = f"{layer.name}/{group}" if group else layer.name
        sizes = self._leading
        found = {
            f"{folder}/{name}": Expected(
                (*dims, *layer.dims),
                (*(sizes[dim] for dim in dims), *layer.shape),
                dtype,
                split=len(dims),
                slabs=name not in MOMENTS,
            )
            for name, (dims, dtype) in variables.items()
        }
        compared = self.compared(within)
        if compared:
            first = f"{within}_variable" if within else "variable"
            leading = {dim: sizes[dim] for dim in variables[compared[0]][0]}
            found[f"{folder}/{EXTREMES}"] = Expected(
                (first, "bound", *leading, "chunk"),
                (len(compared), 2, *leading.values(), None),
                "float32",
            )
        return found


def root_of(attributes: Mapping[str, Any]) -> RootSchema:
    """What the attributes of any root say: its categories, folds, layers and stimuli.

    Raises
    ------
    UserError : they are not what fusiform writes
    """
    if _is_too_deep(attributes):
        raise UserError(f"attributes are at most {_DEEPEST} values inside each other")
    for name in (*_NEEDED, *_TEXTS):
        value = attributes.get(name)
        if value is not None or name in _NEEDED:
            require(isinstance(value, str) and len(value) <= _LONGEST_TEXT, name, "a text", value)
    categories = _names(attributes.get("categories"), "categories")
    folds = whole(attributes.get("folds"), "folds")
    groups = len(categories) * folds
    require(groups <= MOST["groups"], "categories times folds", _up_to("groups"), groups)
    for name, known in (("units", tuple(UNITS)), ("precision", PRECISIONS)):
        value = attributes.get(name, known[0])
        require(value in known, name, f"one of {', '.join(known)}", value)
    value = attributes.get("compiled", False)
    require(isinstance(value, bool), "compiled", "true or false", value)
    notes = attributes.get("notes", [])
    texts = isinstance(notes, list) and all(
        isinstance(note, str) and len(note) <= _LONGEST_TEXT for note in notes
    )
    require(texts and len(notes) <= MOST["notes"], "notes", "a list of texts", notes)
    _require_computed(attributes.get("modules", []), attributes.get("answers", {}))
    layers = _layers(attributes.get("layers"))
    stimuli = whole(attributes.get("n_stimuli"), "n_stimuli", "stimuli", least=0)
    return RootSchema(categories, folds, layers, stimuli)


def schema_of(attributes: Mapping[str, Any]) -> Schema:
    """What the attributes of a root say a store holds.

    Raises
    ------
    UserError : they are not what a scan writes
    """
    root = root_of(attributes)
    dtype = attributes.get("store_dtype")
    require(dtype in STORE_DTYPES, "store_dtype", f"one of {', '.join(STORE_DTYPES)}", dtype)
    null = attributes.get("null", {"shuffles": 0, "units": 1})
    require(isinstance(null, dict), "null", "shuffles and units", null)
    return Schema(
        root.categories,
        root.folds,
        root.layers,
        root.stimuli,
        str(dtype),
        whole(null.get("shuffles"), "shuffles of the null", "shuffles", least=0),
        whole(null.get("units"), "units of the null", "units"),
        _saved(attributes.get("saved", {})),
    )


def limited(notes: Sequence[str]) -> list[str]:
    """At most ``MOST["notes"]`` notes, each no longer than a text may be; the last counts the rest.

    Notes that were limited before are counted on.
    """
    most, texts = MOST["notes"], [note[:_LONGEST_TEXT] for note in notes]
    if len(texts) <= most:
        return texts
    earlier = [int(found[1]) for note in texts if (found := _OTHER_NOTES.fullmatch(note))]
    texts = [note for note in texts if not _OTHER_NOTES.fullmatch(note)]
    rest = len(texts) - (most - 1) + sum(earlier)
    return [*texts[: most - 1], f"and {rest} more notes"]


def is_free(name: str) -> bool:
    """Whether a group of a layer may be called so: a contrast can be saved under this name."""
    taken = {*VARIABLES, *COORDINATES, SHUFFLED, EXTREMES}
    return name.isidentifier() and name not in taken and not name.startswith("axis_")


def is_group_of(name: str, group: str) -> bool:
    """Whether a contrast's variables may lie in a group called so: NAME, or NAME.2 and so on."""
    base, _, number = group.partition(".")
    return base == name and (group == name or _GENERATION.fullmatch(number) is not None)


def described(dtype: str, dims: tuple[Any, ...], shape: tuple[Any, ...]) -> str:
    """An array in a few words."""
    sizes = ", ".join(
        f"{dim} {'chunks' if size is None else size}"
        for dim, size in zip(dims, shape, strict=False)
    )
    return f"{dtype} [{sizes}]"


def shown(value: object) -> str:
    """A value of unknown length and depth, in short."""
    return _shown.repr(value)


def is_whole(value: object, least: int, most: int) -> bool:
    """Whether a value is a whole number within bounds; True and 1.0 are none."""
    return type(value) is int and least <= value <= most


def require(holds: bool, name: str, rule: str, came: object) -> None:
    """Refuse an attribute of a root that is not as the ``rule`` says."""
    if not holds:
        raise UserError(f"{name}: has to be {rule}; it is {shown(came)}")


def _up_to(kind: str) -> str:
    return f"at most {MOST[kind]:,}"


def whole(value: Any, name: str, kind: str = "", least: int = 1) -> int:
    """A whole number among the attributes, of at most ``MOST[kind]``."""
    kind = kind or name
    rule = f"a whole number from {least} to {MOST[kind]:,}"
    require(is_whole(value, least, MOST[kind]), name, rule, value)
    return int(value)


def _names(value: Any, name: str) -> tuple[str, ...]:
    require(isinstance(value, list), name, "a list of names", value)
    require(1 <= len(value) <= MOST[name], f"number of {name}", f"1 to {MOST[name]:,}", len(value))
    texts = all(isinstance(one, str) and len(one) <= _LONGEST_NAME for one in value)
    require(texts, name, f"texts of at most {_LONGEST_NAME:,} characters", value)
    require(len(set(value)) == len(value), name, "different names", value)
    return tuple(value)


def _layers(records: Any) -> tuple[Layer, ...]:
    require(isinstance(records, list), "layers", "a list of layers", records)
    require(len(records) <= MOST["layers"], "number of layers", _up_to("layers"), len(records))
    layers = tuple(_layer(record) for record in records)
    names = [layer.name for layer in layers]
    require(len(set(names)) == len(names), "layers", "of different names", names)
    return layers


def _layer(record: Any) -> Layer:
    fields = {"name": str, "kind": str, "dims": list, "shape": list, "dtype": str}
    require(
        isinstance(record, dict)
        and record.keys() == fields.keys()
        and all(isinstance(record[name], kind) for name, kind in fields.items()),
        "layers",
        f"each of {', '.join(fields)}",
        record,
    )
    name, dims, shape = record["name"], record["dims"], record["shape"]
    what = f"layer {shown(name)}"
    require(_can_be_folder(name), "a layer's name", "printable, without / and no folder's", name)
    require(
        1 <= len(dims) == len(shape) <= 30
        and all(
            isinstance(dim, str) and (dim in COORDINATES or _AXIS.fullmatch(dim)) for dim in dims
        )
        and len(set(dims)) == len(dims),
        f"dims of {what}",
        "different dimensions of a layer, as many as its shape has",
        dims,
    )
    most = MOST["units"]
    require(
        all(is_whole(size, 1, most) for size in shape), f"shape of {what}", "sizes from 1", shape
    )
    require(record["dtype"] in _LAYER_DTYPES, f"dtype of {what}", "a float", record["dtype"])
    require(len(record["kind"]) <= _LONGEST_NAME, f"kind of {what}", "short", record["kind"])
    layer = Layer(name, record["kind"], tuple(dims), tuple(shape), record["dtype"])
    require(layer.units <= most, f"units of {what}", _up_to("units"), layer.units)
    return layer


def _require_computed(modules: Any, answers: Any) -> None:
    """Refuse what does not say how modules are set up, and what layers answer."""
    texts = isinstance(modules, list) and all(
        isinstance(one, str) and len(one) <= _LONGEST_NAME for one in modules
    )
    require(texts and len(modules) <= MOST["layers"], "modules", "a list of texts", modules)
    known = isinstance(answers, dict) and len(answers) <= 2 * MOST["layers"]
    require(
        known
        and all(
            isinstance(own, list)
            and len(own) == PROJECTIONS + 2
            and all(type(x) in (int, float) and abs(x) < _LARGEST for x in own)
            for own in answers.values()
        ),
        "answers",
        f"{PROJECTIONS + 2} numbers of each layer",
        answers,
    )


def _can_be_folder(name: str) -> bool:
    """Whether a layer's group can lie under its name, in the store and nowhere else."""
    odd = not name.isprintable() or "/" in name or "\\" in name or name.startswith((".", "__"))
    return bool(name) and not odd and name not in ROOT_NAMES and len(name.encode()) <= 255


def _saved(records: Any) -> dict[str, Any]:
    require(isinstance(records, dict), "saved", "contrasts by name", records)
    require(len(records) <= MOST["saved"], "number of saved contrasts", _up_to("saved"), records)
    for name, record in records.items():
        what = f"saved contrast {shown(name)}"
        require(is_free(name), "name of a saved contrast", "letters, digits and _", name)
        require(isinstance(record, dict), what, "a record", record)
        measures, contrasts = record.get("measures"), record.get("contrasts")
        require(
            isinstance(measures, list)
            and all(isinstance(m, str) and m in MEASURES for m in measures)
            and len(set(measures)) == len(measures),
            f"measures of {what}",
            "different measures",
            measures,
        )
        require(
            isinstance(contrasts, list)
            and bool(contrasts)
            and all(isinstance(c, str) and len(c) <= _LONGEST_TEXT for c in contrasts),
            f"contrasts of {what}",
            "texts",
            contrasts,
        )
        each = record.get("each_category")
        require(isinstance(each, bool), f"each_category of {what}", "true or false", each)
        criterion = record.get("criterion")
        require(isinstance(criterion, dict), f"criterion of {what}", "a record", criterion)
        group = record.get("group", name)
        known = isinstance(group, str) and is_group_of(name, group)
        require(known, f"group of {what}", "its name, or NAME.2 and so on", group)
    return dict(records)


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)
