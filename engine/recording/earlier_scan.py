"""The scan that a recording or lesion follows: the same network, shown the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, shortened
from ..networks.checkpoints import local_file
from ..networks.libraries.architecture import LIBRARIES
from ..networks.units.reduction import attributes_of
from ..preprocessing import Preprocessing
from ..querying.store import Store
from ..scanning.progress import Listener
from ..scanning.setup import Setup
from ..scanning.stimulus_set import listed_stimuli, reporting
from ..spec import Design, Network, Request, Stimuli
from ..stimuli.catalogue import Catalogue, catalogue_of
from ..store.identity import difference, not_compared
from ..store.location import name_of
from ..store.scan_values import folders_of
from ..values import as_record, listed

# Patterns that mean groups of a network's layers.
GROUPS = {"blocks", "all", "leaf"}
# Stimuli that a message names.
_NAMED = 3
# Attributes of a root that do not determine a network's responses to an image.
_OTHERS = ("layers", "categories", "folds", "device_type", "store_dtype", "null", "coordinates")


def as_scanned(source: Store, network: Network, design: Design) -> tuple[Network, Design]:
    """Network and design of the source; what is asked for and left at its default follows it.

    Raises
    ------
    UserError : something else is asked for than the source was scanned with; its weights were a
        file that is not named
    """
    own, scanned = source.network, source.design
    asked, defaults = _compared(network, design), _compared(Network(""), Design())
    refuse_other_settings(source, {n: v for n, v in asked.items() if v != defaults[n]})
    assert isinstance(own.preprocessing, Preprocessing | None)
    known = as_record(own.preprocessing) if own.preprocessing else {}
    for name, value in _asked_preprocessing(network).items():
        if known.get(name) != value:
            raise UserError(
                f"recordings and lesions show images as the scan did; {source.path} was scanned "
                f"with {name} {known.get(name)}, and {value} is asked for: leave it out"
            )
    weights, seed = _weights(source, network)
    network = replace(
        own,
        model=network.model,
        weights=weights,
        seed=seed,
        on_nondeterminism=network.on_nondeterminism,
    )
    layers = _layers(source, design)
    dims = {name: own for name, own in (scanned.dims or {}).items() if name in layers}
    return network, replace(scanned, layers=layers, dims=dims)


def network_again(source: Store) -> Network:
    """The network of the source by its name; its other fields are left to :func:`as_scanned`.

    Raises
    ------
    UserError : it was given as a module, or comes from a function of the user's, whose code runs
        only where they name it
    """
    name = source.network.model
    assert isinstance(name, str)
    if LIBRARIES.load(name.partition(":")[0]) is None:
        raise UserError(
            f"a network of your own is named again; {source.path} was scanned with {name}: name "
            "it, as in the scan"
        )
    return Network(name)


def stimuli_again(source: Store) -> Stimuli:
    """The stimuli of the source, which must lie where they lay.

    Raises
    ------
    UserError : they do not
    """
    found = source.stimuli
    if not Path(found.source).exists():
        raise UserError(
            f"recordings and lesions show the stimuli of a scan; those of {source.path} were in "
            f"{found.source}, which does not exist: name the network and its stimuli"
        )
    return found


def refuse_other_settings(source: Store, given: Mapping[str, Any]) -> None:
    """Raise if a setting of a network or design, by its name, differs from the scan's.

    Raises
    ------
    UserError : a setting differs
    """
    scanned = _compared(source.network, source.design)
    if given.get("weights") == "default" and source.network.weights == "none":
        scanned["weights"] = "none"
    for name, value in scanned.items():
        if name in given and given[name] != value:
            raise UserError(
                f"recordings and lesions show a network as its scan did; {source.path} was scanned "
                f"with {name.replace('_', ' ')} {value}, and {given[name]} is asked for: leave it "
                "out"
            )


def _compared(network: Network, design: Design) -> dict[str, Any]:
    """Settings that must equal those of the scan."""
    own = {name: getattr(design, name) for name in ("units", "folds", "batch_size")}
    return {**own, "precision": network.precision, "compile": network.compile}


def _asked_preprocessing(network: Network) -> Mapping[str, Any]:
    given = network.preprocessing
    return given if isinstance(given, Mapping) else as_record(given) if given else {}


def _layers(source: Store, design: Design) -> list[str]:
    """Layers of the source that a design names; all of them for a group such as ``blocks``."""
    asked = listed(design.layers)
    if GROUPS & set(asked):
        return [layer.name for layer in source.layers]
    return [layer.name for layer in source.layers_named(asked)]


def _weights(source: Store, network: Network) -> tuple[str, int]:
    """Weights and seed of the source, whose file must lie where it lay."""
    if network.weights != "default" or not isinstance(network.model, str):
        return network.weights, network.seed
    said = str(source.provenance["weights"])
    if said.startswith("file "):
        path = str(source.provenance.get("weights_path", ""))
        file = local_file(path)
        if file is None or not file[0].is_file():
            raise UserError(
                f"recordings and lesions show the network of a scan; {source.path} was scanned "
                f"with weights from a {said}, which is not where it was: name it with `weights`"
            )
        return path, network.seed
    scanned = source.network
    return scanned.weights, scanned.seed if scanned.weights == "none" else network.seed


def scanned_stimuli(source: Store, stimuli: Stimuli, listener: Listener) -> Catalogue:
    """The stimuli of a scan as they are now, in its categories and its order.

    They are found by their paths; in a set with other paths, such as a packed one, by content. A
    set without any of them is taken as it is, in the scan's groups where it has their folders.

    Raises
    ------
    UserError : some are not in the set, or have changed; see also
        :func:`..stimuli.catalogue.read_catalogue`
    """
    labels = source.stimulus_column("stimulus_category").astype(np.int32)
    order = np.argsort(labels, kind="stable")
    names, hashes = (
        source.stimulus_column(f"stimulus_{n}")[order].tolist() for n in ("path", "sha256")
    )
    if stimuli.are_objects:
        found = listed_stimuli(stimuli, listener).catalogue
    else:
        # Folders may lie deeper than the groups say, and other sets have none.
        choices = filter(None, (folders_of(source), source.groups))
        found = catalogue_of(stimuli.source, choices, stimuli.root)
    contents = found.look(reporting(listener))
    held = {contents.sha256(place): place for place in range(len(found))}
    if not (held.keys() & set(hashes)) - {""}:
        return found
    # A number in a mapping or Dataset is no name of a stimulus: it may be another's by now.
    named = () if stimuli.are_objects else found.shown_names
    own = {name: at for at, name in enumerate(named)}
    places = [own.get(name, held.get(sha, -1) if sha else -1)
              for name, sha in zip(names, hashes, strict=True)]  # fmt: skip
    place = "these objects" if stimuli.are_objects else stimuli.source
    _refuse(source, names, [at < 0 for at in places], f"are not in {place}")
    changed = [contents.sha256(at) != sha and at not in contents.problems
               for at, sha in zip(places, hashes, strict=True)]  # fmt: skip
    _refuse(source, names, changed, f"have changed in {place}")
    chosen = found.labelled(np.array(places), source.categories, labels[order])
    others = np.setdiff1d(np.arange(len(found)), places).tolist()
    if not others:
        return chosen
    listed = shortened((found.shown_names[place] for place in others), _NAMED)
    said = f"{len(others):,} that the scan did not show are left out ({listed})"
    return replace(chosen, notes=(*chosen.notes, said))


def asked_again(
    source: Store, request: Request, listener: Listener
) -> tuple[Request, Catalogue | None]:
    """A request with the scan's groups, and the scan's stimuli; None where others are asked for.

    Raises
    ------
    UserError : some of the scan's stimuli are not in the set, or have changed
    """
    stimuli = request.stimuli
    if stimuli.groups not in (None, source.groups) and stimuli != source.stimuli:
        return request, None
    own = scanned_stimuli(source, stimuli, listener)
    if own.categories == source.categories and not stimuli.are_objects:
        request = replace(request, stimuli=replace(stimuli, groups=source.groups))
    return request, own


def _refuse(source: Store, names: Sequence[str], unfit: Sequence[bool], said: str) -> None:
    if any(unfit):
        listed = [name for name, is_unfit in zip(names, unfit, strict=True) if is_unfit]
        raise UserError(
            f"recordings and lesions show the stimuli of a scan; {len(listed):,} of "
            f"{len(names):,} of {source.path} {said} ({shortened(listed, _NAMED)}): restore them, "
            "or choose what is shown with `groups`"
        )


def compared(source: Store, setup: Setup, listener: Listener, but: Sequence[str] = ()) -> Setup:
    """The setup, with notes on other stimuli and on what could not be compared with the scan.

    Raises
    ------
    UserError : the network is not the one that was scanned, or is shown in another way; ``but`` are
        attributes that may differ
    """
    unknown = _refuse_other_network(source, setup, but)
    for said in filter(None, (unknown, _others_than_scanned(source, setup.catalogue))):
        listener.note(said)
        setup = replace(setup, notes=(*setup.notes, said))
    return setup


def _others_than_scanned(source: Store, catalogue: Catalogue) -> str:
    """Differences between the stimuli shown and those of the scan, in words; empty for none."""
    known = set(source.stimulus_column("stimulus_sha256").tolist())
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


def _refuse_other_network(source: Store, setup: Setup, but: Sequence[str]) -> str | None:
    """Raise if the network is not the one that the source was scanned with.

    Returns
    -------
    a note on attributes that could not be compared, or None

    Raises
    ------
    UserError : weights, modules, answers, preprocessing, layers or the way of showing differ
    """
    shown = {
        **setup.attributes,
        "batch_size": setup.plan.batch_size,
        "units": setup.design.units,
        **attributes_of(setup.design.units, setup.dims, setup.reductions),
    }
    names = ("recorded", "projection", "model", *_OTHERS, *but)
    scanned_as = {**source.provenance, "units": source.units}
    differing = difference(scanned_as, shown, but=names)
    if differing:
        raise UserError(
            f"recordings and lesions show the network of a scan; {source.path} and this one differ "
            f"in their {differing}: show the one that was scanned"
        )
    for layer in setup.layers:
        scanned = source.layer(layer.name)
        if (scanned.shape, scanned.dtype) != (layer.shape, layer.dtype):
            raise UserError(
                f"recordings and lesions show the network of a scan; {layer.name} had "
                f"{scanned.dtype} {list(scanned.shape)} in {source.path}, and has {layer.dtype} "
                f"{list(layer.shape)}: show the one that was scanned"
            )
    return not_compared({name_of(source.path): source.provenance})
