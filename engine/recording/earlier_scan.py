"""The scan that a recording follows: it shows the same network in the same way, or is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from posixpath import dirname
from typing import Any

import numpy as np

from ..errors import UserError, shortened
from ..preprocessing import Preprocessing
from ..scanning.setup import Setup
from ..stimuli.catalogue import Catalogue, catalogue_of
from ..store.identity import difference, not_compared
from ..store.places import name_of
from ..store.reading import Store
from ..store.schema import is_whole
from ..values import as_record

# Stimuli that a message names.
_NAMED = 3
_UNTRAINED = "untrained, seed "
# What determines a network's responses to an image, of what a root says.
_OTHERS = ("layers", "categories", "folds", "device_type", "store_dtype", "null")


def as_scanned(
    source: Store | None,
    *,
    weights: str | None,
    seed: int,
    units: str | None,
    precision: str | None,
    compile: bool | None,
    preprocessing: Preprocessing | Mapping[str, Any] | None,
    folds: int | None,
    batch_size: int | None,
    module: bool,
) -> dict[str, Any]:
    """How stimuli are shown: as the ``source`` was scanned, or as asked for; for ``set_up``.

    Raises
    ------
    UserError : something else is asked for than the source was scanned with; its weights were a
        file that is not named
    """
    if source is None:
        return {
            "weights": weights or "default",
            "seed": seed,
            "units": units or "all",
            "precision": precision,
            "compile": bool(compile),
            "preprocessing": preprocessing,
            "folds": 2 if folds is None else folds,
            "batch_size": batch_size,
        }
    root = source.provenance
    scanned: dict[str, Any] = {
        "units": source.units,
        "precision": root.get("precision"),
        "compile": bool(root.get("compiled", False)),
        "folds": source.folds,
        "batch_size": root.get("batch_size"),
    }
    given = {"units": units, "precision": precision, "compile": compile, "folds": folds,
             "batch_size": batch_size}  # fmt: skip
    for name, value in given.items():
        if value is not None and value != scanned[name]:
            raise UserError(
                f"a recording shows a network as its scan did; {source.path} was scanned with "
                f"{name.replace('_', ' ')} {scanned[name]}, and {value} is asked for: leave it out"
            )
    own = _preprocessing(source)
    wanted = (
        preprocessing if isinstance(preprocessing, Mapping) else as_record(preprocessing or own)
    )
    for name, value in wanted.items():
        known = as_record(own).get(name)
        if known != (tuple(value) if isinstance(value, list) else value):
            raise UserError(
                f"a recording shows images as its scan did; {source.path} was scanned with {name} "
                f"{known}, and {value} is asked for: leave it out"
            )
    return {**scanned, "preprocessing": own, **_weights(source, weights, seed, module)}


def dims_of_scan(source: Store | None) -> dict[str, Any]:
    """Layer -> names of the dimensions of its output, as a source has them."""
    if source is None or source.units == "all":
        return {layer.name: layer.dims for layer in source.layers} if source else {}
    found: Any = source.provenance.get("dims")
    known = {layer.name for layer in source.layers}
    return {
        name: [str(dim) for dim in dims]
        for name, dims in (found.items() if isinstance(found, dict) else ())
        if name in known and isinstance(dims, list)
    }


def _preprocessing(source: Store) -> Preprocessing:
    """How images were shown, by what a root says that a stranger may have written.

    Raises
    ------
    UserError : it does not say, or not how many at a time
    """
    record: Any = source.provenance.get("preprocessing")
    try:
        if not is_whole(source.provenance.get("batch_size"), 1, 2**31 - 1):
            raise TypeError
        both = {name: tuple(map(float, record[name])) for name in ("mean", "std")}
        return Preprocessing(**{**record, **both})
    except (TypeError, KeyError, ValueError):
        raise UserError(
            f"a recording shows images as its scan did; {source.path} does not say how that was: "
            "name a store that fusiform scan made"
        ) from None


def _weights(source: Store, weights: str | None, seed: int, module: bool) -> dict[str, Any]:
    """The weights of the source, by their name; a file has to be named again."""
    said = str(source.provenance["weights"])
    if weights is not None or module:
        return {"weights": weights or "default", "seed": seed}
    if said.startswith(_UNTRAINED) and said.removeprefix(_UNTRAINED).isdecimal():
        return {"weights": "none", "seed": int(said.removeprefix(_UNTRAINED))}
    if said.startswith("file "):
        raise UserError(
            f"a recording shows the network of its scan; {source.path} was scanned with weights "
            f"from a {said}: name it by --weights"
        )
    return {"weights": "default" if said.startswith("as ") else said, "seed": seed}


def scanned_stimuli(
    source: Store,
    stimuli: str | Path,
    root: str | Path | None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Catalogue:
    """The stimuli of a scan as they are now, in its categories and its order.

    They are found by their paths; where a set of another kind has other paths, by what they hold. A
    set that has none of them is another one, and is taken as it is, in the scan's groups of folders
    where it has these.

    Raises
    ------
    UserError : some are not in the set, or have changed; see also
        :func:`..stimuli.catalogue.read_catalogue`
    """
    labels = source.stimuli("stimulus_category").astype(np.int32)
    order = np.argsort(labels, kind="stable")
    names, hashes = (source.stimuli(f"stimulus_{n}")[order].tolist() for n in ("path", "sha256"))
    groups: dict[str, list[str]] = {category: [] for category in source.categories}
    for name, label in dict.fromkeys(zip(map(dirname, names), labels[order].tolist(), strict=True)):
        groups[source.categories[label]].append(name)
    found = catalogue_of(stimuli, groups, root)
    contents = found.look(progress)
    held = {contents.sha256(place): place for place in range(len(found))}
    if not (held.keys() & set(hashes)) - {""}:
        return found
    own = {name: place for place, name in enumerate(found.shown_names)}
    places = [own.get(name, held.get(sha, -1) if sha else -1)
              for name, sha in zip(names, hashes, strict=True)]  # fmt: skip
    _refuse(source, names, [at < 0 for at in places], f"are not in {stimuli}")
    changed = [contents.sha256(at) != sha and at not in contents.problems
               for at, sha in zip(places, hashes, strict=True)]  # fmt: skip
    _refuse(source, names, changed, f"have changed in {stimuli}")
    chosen = found.labelled(np.array(places), source.categories, labels[order])
    others = np.setdiff1d(np.arange(len(found)), places).tolist()
    if not others:
        return chosen
    listed = shortened((found.shown_names[place] for place in others), _NAMED)
    said = f"{len(others):,} that the scan did not show are left out ({listed})"
    return replace(chosen, notes=(*chosen.notes, said))


def _refuse(source: Store, names: Sequence[str], unfit: Sequence[bool], said: str) -> None:
    if any(unfit):
        listed = [name for name, is_unfit in zip(names, unfit, strict=True) if is_unfit]
        raise UserError(
            f"a recording shows the stimuli of its scan; {len(listed):,} of {len(names):,} of "
            f"{source.path} {said} ({shortened(listed, _NAMED)}): restore them, or name what is to "
            "be shown by --group"
        )


def others_than_scanned(source: Store, catalogue: Catalogue) -> str:
    """How the stimuli of a recording differ from those of its scan; "" if they do not."""
    known = set(source.stimuli("stimulus_sha256").tolist())
    contents, names = catalogue.contents, catalogue.shown_names
    new = [name for k, name in enumerate(names) if contents.sha256(k) not in known]
    said = []
    if new:
        said.append(f"{len(new):,} of {len(names):,} stimuli are none of the scan's "
                    f"({shortened(new, _NAMED)})")  # fmt: skip
    if catalogue.categories != source.categories:
        said.append(f"categories are {shortened(catalogue.categories)}; the scan had "
                    f"{shortened(source.categories)}")  # fmt: skip
    return "; ".join(said)


def refuse_other_network(source: Store, setup: Setup) -> str | None:
    """Refuse a network that is not the one that a source was scanned with.

    Returns
    -------
    what could not be compared, if anything

    Raises
    ------
    UserError : weights, modules, answers, preprocessing, layers or the way of showing differ
    """
    shown = {**setup.network, "batch_size": setup.plan.batch_size, "units": setup.units}
    names = ("recorded", "projection", "model", *_OTHERS)
    scanned_as = {**source.provenance, "units": source.units}
    differing = difference(scanned_as, shown, but=names)
    if differing:
        raise UserError(
            f"a recording shows the network of its scan; {source.path} and this one differ in "
            f"their {differing}: show the one that was scanned"
        )
    for layer in setup.layers:
        scanned = source.layer(layer.name)
        if (scanned.shape, scanned.dtype) != (layer.shape, layer.dtype):
            raise UserError(
                f"a recording shows the network of its scan; {layer.name} had {scanned.dtype} "
                f"{list(scanned.shape)} in {source.path}, and has {layer.dtype} "
                f"{list(layer.shape)}: show the one that was scanned"
            )
    return not_compared({name_of(source.path): source.provenance})
