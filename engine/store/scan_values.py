"""The network, stimuli and design that a store or recording was made with, from its root."""

from __future__ import annotations

from pathlib import Path
from posixpath import dirname
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..preprocessing import Preprocessing
from ..registry import AS_GIVEN, SHOWN, UNTRAINED
from ..spec import Design, Network, Stimuli
from ..stimulus_groups import Folders, Groups
from .attributes import is_integer_in

if TYPE_CHECKING:
    from .reader import Reader


def network_of(root: Reader) -> Network:
    """The network of a scan. A module stands by the name of its class, and must be given again.

    Raises
    ------
    UserError : the root does not say how images were shown
    """
    weights, seed = str(root.provenance["weights"]), _null(root).get("seed", 0)
    if (own := weights.removeprefix(UNTRAINED)) != weights and own.isdecimal():
        weights, seed = "none", int(own)
    elif weights.startswith("as "):  # given, or as a factory built it
        weights = "default"
    return Network(
        str(root.provenance["model"]),
        weights.removeprefix("file "),
        seed,
        _preprocessing(root),
        root.provenance.get("precision"),
        bool(root.provenance.get("compiled", False)),
    )


def stimuli_of(root: Reader) -> Stimuli:
    """The stimuli of a scan, where they are now.

    Groups are those that the scan was given; without any, the folders of its categories.

    Raises
    ------
    UserError : the root does not say where the stimuli are
    """
    place = root.stimuli_place
    if place is None:
        raise UserError(
            f"stimuli are found where a scan found them; {root.path} does not say where: name them"
        )
    skipped = (root.stimulus_column("stimulus_status") != SHOWN).any()
    groups: Any = groups_of(root) or _folders(root, place)
    return Stimuli(place, groups, on_error="skip" if skipped else "stop")


def groups_of(root: Reader) -> Groups | None:
    """The groups that a scan was given; None without any."""
    return Groups.from_record(root.provenance.get("groups"))


def folders_of(root: Reader) -> dict[str, list[str]]:
    """Category -> the folders in which its stimuli lay."""
    names = root.stimulus_column("stimulus_path").tolist()
    labels = root.stimulus_column("stimulus_category").tolist()
    found: dict[str, list[str]] = {category: [] for category in root.categories}
    for folder, label in dict.fromkeys(zip(map(dirname, names), labels, strict=True)):
        found[root.categories[label]].append(folder)
    return found


def design_of(root: Reader) -> Design:
    """The design of a scan, its layers by name."""
    null, size = _null(root), root.provenance.get("batch_size")
    return Design(
        layers=[layer.name for layer in root.layers],
        units=str(root.provenance.get("units", "all")),
        dims=_dims(root),
        folds=root.folds,
        null=null.get("shuffles", 0),
        null_units=null.get("units", 1000),
        batch_size=size if is_integer_in(size, 1, 1_000_000) else None,
        store_dtype=str(root.provenance.get("store_dtype", "float64")),
    )


def _null(root: Reader) -> dict[str, Any]:
    found = root.provenance.get("null")
    known = found if isinstance(found, dict) else {}
    return {name: one for name, one in known.items() if is_integer_in(one, 0, 2**31 - 1)}


def _folders(root: Reader, place: Path) -> Folders | None:
    """Category -> folders of its stimuli; None where stimuli do not lie in folders."""
    if place.is_file():
        return None
    groups = folders_of(root)
    folders = [folder for own in groups.values() for folder in own]
    are_there = all(folder and (place / folder).is_dir() for folder in folders)
    return groups if are_there or not place.exists() else None


def _dims(root: Reader) -> dict[str, list[str]]:
    """Layer -> names of the dimensions of its output, before it was reduced."""
    if root.provenance.get("units", "all") == "all":
        return {layer.name: list(layer.dims) for layer in root.layers}
    found: Any = root.provenance.get("dims")
    known = {layer.name for layer in root.layers}
    return {
        name: [str(dim) for dim in dims]
        for name, dims in (found.items() if isinstance(found, dict) else ())
        if name in known and isinstance(dims, list)
    }


def _preprocessing(root: Reader) -> Preprocessing | None:
    """How images were shown, None for stimuli as they were; the root may come from a stranger."""
    record: Any = root.provenance.get("preprocessing")
    if record == AS_GIVEN:
        return None
    try:
        if not is_integer_in(root.provenance.get("batch_size"), 1, 2**31 - 1):
            raise TypeError
        both = {name: tuple(map(float, record[name])) for name in ("mean", "std")}
        return Preprocessing(**{**record, **both})
    except (TypeError, KeyError, ValueError):
        raise UserError(
            f"recordings and lesions show images as the scan did; {root.path} does not say how "
            "that was: name a store that fusiform scan made"
        ) from None
