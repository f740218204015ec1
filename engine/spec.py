"""The four values of a scan: ``Network``, ``Stimuli``, ``Design`` and ``Resources``.

The first three determine the numbers; ``Resources`` only says where and how fast they are computed.
The command line takes its help from the first sentence on a field.
Nothing here imports torch, NumPy, zarr or dask, so that the command line starts quickly.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError, nearest, require_path
from .layer import refuse_units
from .limits import bytes_of, refuse_numbers, refuse_seed
from .preprocessing import Preprocessing
from .registry import STORE_DTYPES
from .stimulus_groups import Given, Groups
from .values import FrozenMapping, listed

if TYPE_CHECKING:
    from torch import nn

    Model = str | nn.Module
else:
    Model = str  # as the command line reads it

PRECISIONS: tuple[str, ...] = ("float32", "tf32", "bfloat16", "float16")
# Policies for a network whose responses depend on the batch or the run.
ON_NONDETERMINISM = ("note", "stop")
# Policies for stimuli that cannot be decoded.
ON_ERROR = ("stop", "skip")
# Mark of a field that is no option of a command.
PYTHON_ONLY = {"python_only": True}


@dataclass(frozen=True)
class Network:
    """A vision network and how images are prepared for it.

    Parameters
    ----------
    model : str or torch.nn.Module
        ``NAME`` of torchvision, ``clip:NAME``, ``timm:NAME``, ``hf:NAME``,
        ``demo:efficientnet_lite0``, ``PLUGIN:NAME`` or ``package.module:factory``. From Python also
        a torch module, which is put in evaluation mode on the scan's device, with channels last,
        and given back as it was.
    weights : str, default "default"
        ``default`` (the library's own), ``none``, a tag, or FILE[:KEY]. ``none`` draws them from
        ``seed``. A file is in the ``.safetensors`` or the torch format; KEY names one of several
        sets.
    seed : int, default 0
        Seed of random numbers. It draws untrained weights, the null and random units.
    preprocessing : Preprocessing or dict, optional
        Replaces the network's own, whole or by single values such as ``{"crop": 288}``.
    precision : str, optional
        ``float32``, ``tf32``, ``bfloat16``, ``float16``; by default its own. Parameters and images
        are cast, or with ``tf32`` multiplied in it. Moments are float64 in any case.
    compile : bool, default False
        Use ``torch.compile``, which rounds differently. It compiles the layers that hold no other
        recorded layer, in tens of seconds.
    on_nondeterminism : str, default "note"
        ``note`` or ``stop`` if responses depend on batch or run. A note is kept in the store.

    Raises
    ------
    UserError
        A value is unknown or out of range. Whether the model exists is found when it is built.

    See Also
    --------
    load_backbone : Build the network as a scan would run it.
    layers : Layers of the network that can be recorded.

    Examples
    --------
    >>> network = fusiform.Network("resnet18", weights="none", seed=1)
    >>> network.model, network.weights, network.seed
    ('resnet18', 'none', 1)
    """

    model: Model
    weights: str = "default"
    seed: int = 0
    preprocessing: Preprocessing | Mapping[str, Any] | None = None
    precision: str | None = None
    compile: bool = False
    on_nondeterminism: str = "note"

    def __post_init__(self) -> None:
        refuse_seed(self.seed)
        given = self.preprocessing
        if isinstance(given, Mapping):
            _set(self, preprocessing=FrozenMapping(_frozen(given)))
            known = [field.name for field in fields(Preprocessing)]
            for name in given:
                if name not in known:
                    raise UserError(f"preprocessing has no {name!r}: {nearest(str(name), known)}")
        elif not isinstance(given, Preprocessing | None):
            raise UserError(
                "preprocessing is a fusiform.Preprocessing or a dictionary of its fields such as "
                f"{{'crop': 288}}; got {given!r}"
            )
        if self.precision is not None and self.precision not in PRECISIONS:
            raise UserError(
                f"a network computes in {', '.join(PRECISIONS)}; got {self.precision!r}"
            )
        if self.on_nondeterminism not in ON_NONDETERMINISM:
            raise UserError(
                "for a network that depends on the batch or the run, choose "
                f"{' or '.join(ON_NONDETERMINISM)}; got {self.on_nondeterminism!r}"
            )

    @classmethod
    def of(cls, given: Network | Model) -> Network:
        """A network given as such, by name, or as a module."""
        return given if isinstance(given, cls) else cls(given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Stimuli:
    """A set of images in categories.

    Parameters
    ----------
    source : str, path, mapping, Dataset or iterable
        Folder with a folder per category, table of files, shards, arrays, dataset or packed set.
        A table is a manifest (``.csv``, ``.parquet`` or ``.arrow``, with columns path, category and
        perhaps sha256) or an ``events.tsv`` of BIDS. Arrays are in HDF5 (``FILE.h5:ARRAY``) or
        NumPy files, a dataset is Hugging Face's on disk.
        From Python also ``{category: images}``, a map-style Dataset of (input, label), or an
        iterable of (inputs, labels): see ``docs/how-to/tensors.md``.
    groups : mapping, str or path, or a sequence of them, optional
        Join folders into categories; only these are shown. A mapping of category to folders,
        ``CATEGORY=FOLDER,...``, the name of a published localizer (``floc``), a ``.toml`` file, or
        several of these.
    root : str or path, optional
        Another folder that files named in a table or dataset may lie in.
    on_error : str, default "stop"
        ``stop`` at a stimulus that cannot be shown, or ``skip`` it. A skipped stimulus is left out
        of the counts and marked in the stimulus table.
    categories : sequence of str, optional
        Names of the labels of a Dataset or iterable, by default its ``classes``. From Python only.

    Raises
    ------
    UserError
        The source is of no known kind, or an option belongs to another kind of source. Whether
        files exist is found when they are listed.

    See Also
    --------
    check_stimuli : Decode every stimulus and report problems.

    Examples
    --------
    >>> stimuli = fusiform.Stimuli("stimuli", groups={"texts": ["words", "scrambled_words"]})
    >>> stimuli.on_error
    'stop'
    """

    source: Any
    groups: Given | Sequence[Given] | None = None
    root: str | Path | None = None
    on_error: str = "stop"
    categories: Sequence[str] | None = field(default=None, metadata=PYTHON_ONLY)

    def __post_init__(self) -> None:
        self._refuse_mixture()
        if self.root is not None:
            require_path(self.root)
        if self.groups is not None:
            _set(self, groups=Groups.of(self.groups))
        if self.on_error not in ON_ERROR:
            raise UserError(
                f"on_error for stimuli that cannot be shown is {' or '.join(ON_ERROR)}; "
                f"got {self.on_error!r}"
            )

    @classmethod
    def of(cls, given: Any) -> Stimuli:
        """Stimuli given as such, or by their source alone."""
        return given if isinstance(given, cls) else cls(given)

    @property
    def are_objects(self) -> bool:
        """Whether they are objects of the program, and not in files."""
        return not isinstance(self.source, str | bytes | os.PathLike)

    @property
    def is_stream(self) -> bool:
        """Whether they come in one pass, in an order that nobody knows."""
        # torch gives its IterableDataset the method of a map-style one, which raises.
        kinds = {kind.__name__ for kind in type(self.source).__mro__}
        has_order = hasattr(self.source, "__getitem__") and "IterableDataset" not in kinds
        return self.are_objects and not has_order

    def _refuse_mixture(self) -> None:
        """Raise for a source of no kind, and for options of another kind of source."""
        source, names = self.source, self.categories
        if self.are_objects:
            needed = "__iter__" if self.is_stream else "__len__"
            if isinstance(source, type) or not hasattr(source, needed):
                came = " ".join(repr(source).split())[:80]
                raise UserError(
                    "stimuli are a path or URL, {category: images}, a Dataset with `__len__`, or "
                    f"an iterable of (inputs, labels); got {came}: give one of these"
                )
        else:
            require_path(source)
        labelled = self.are_objects and not isinstance(source, Mapping)
        if names is not None:
            if not labelled:
                raise UserError(
                    "`categories` name the labels of a Dataset or iterable; this source names its "
                    "own: leave them out"
                )
            names = tuple(listed(names))
            if not names or not all(isinstance(one, str) for one in names):
                raise UserError(f"`categories` are names, in the order of labels; got {names!r}")
            _set(self, categories=names)
        own = {"groups": self.groups, "root": self.root, "on_error": self.on_error != "stop"}
        if self.are_objects and (odd := [name for name, value in own.items() if value]):
            raise UserError(
                f"`{odd[0]}` is for stimuli in files; got objects of the program: leave it out, "
                "and choose and join them beforehand"
            )


@dataclass(frozen=True)
class Design:
    """The design of a scan: layers, units, cross-validation and the permutation null.

    Parameters
    ----------
    layers : str or sequence of str, default "blocks"
        ``blocks``, ``all``, ``leaf``, dotted names or globs. ``NAME.input`` is what a module takes.
    units : str, default "all"
        ``all`` elements, means by ``channel``, ``token`` or ``patch``, ``cls``, attention ``head``,
        or a function of yours. ``channel`` averages over positions (all tokens, class token and
        registers too), ``patch`` over patches alone, ``token`` over channels; ``cls`` takes the
        channels of the first token. ``head`` is a head's output before the output projection: its
        norm, averaged over tokens. Layers without these dimensions are recorded whole, or with
        ``cls``, ``patch`` and ``head`` left out. ``package.module:function`` takes activations
        ``[stimulus, ...]`` and returns units ``[stimulus, unit]``.
    dims : mapping of str to str or sequence of str, optional
        Dimensions of a layer that fusiform cannot infer. A mapping of layer, by name or glob, to
        names: ``channel,y,x``, ``token,channel``, ``axis_N`` for any other.
    folds : int, default 2
        Parts of the stimuli for cross-validation; 1 for none.
    null : int, default 0
        Shuffles of the labels, for a permutation null.
    null_units : int, default 1000
        Units of each layer in the null, drawn at random.
    batch_size : int, optional
        Stimuli per forward pass; by default 32 or what fits. A multiple of 8 keeps the network's
        rounding even.
    store_dtype : str, default "float64"
        ``float64``, or ``float32`` at half the size. It is the type of stored means and sums of
        squares; ``float32`` rounds them to 6e-8 of themselves.
    coordinates : str, path or mapping, optional
        Coordinates of units, such as places on a simulated cortical sheet, kept beside them. A
        ``.csv`` or ``.parquet`` file with columns layer, unit (its index in the flattened layer)
        and numbers such as x_mm, y_mm; in Python also a mapping of such columns. They do not change
        what is measured.

    Raises
    ------
    UserError
        A value is unknown or out of range. Whether layers exist is found when the network is built.

    Examples
    --------
    >>> design = fusiform.Design(layers=["layer3.*", "layer4.*"], units="channel", folds=3)
    >>> design.layers
    ('layer3.*', 'layer4.*')
    """

    layers: str | Sequence[str] = "blocks"
    units: str = "all"
    dims: Mapping[str, str | Sequence[str]] | None = None
    folds: int = 2
    null: int = 0
    null_units: int = 1000
    batch_size: int | None = None
    store_dtype: str = "float64"
    coordinates: str | Path | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _set(self, layers=tuple(listed(self.layers)))
        refuse_units(self.units)
        if self.dims is not None:
            dims: Any = self.dims
            if not isinstance(dims, Mapping) or not all(isinstance(layer, str) for layer in dims):
                raise UserError(f"dimensions are {{layer: names}}; got {dims!r}: give a dict")
            _set(self, dims=FrozenMapping(_frozen(dims)))
        if isinstance(self.coordinates, Mapping):
            _set(self, coordinates=FrozenMapping(_frozen(self.coordinates)))
        elif self.coordinates is not None:
            require_path(self.coordinates)
        if self.store_dtype not in STORE_DTYPES:
            raise UserError(f"store_dtype is {' or '.join(STORE_DTYPES)}; got {self.store_dtype!r}")
        self._refuse_counts()

    def _refuse_counts(self) -> None:
        refuse_numbers(null=self.null, null_units=self.null_units)
        refuse_numbers(folds=self.folds, batch_size=self.batch_size)
        shuffles, units = self.null, self.null_units
        if shuffles is None or units is None or shuffles < 0 or units < 1:
            raise UserError(
                "a null has 0 shuffles (none) or more, and at least 1 unit per layer; "
                f"got {shuffles} shuffles and {units} units"
            )
        size = 32 if self.batch_size is None else self.batch_size
        if self.folds is None or self.folds < 1 or size < 1:
            raise UserError(f"folds and batch size are at least 1; got {self.folds} and {size}")
        if self.batch_size is not None:
            _set(self, batch_size=int(self.batch_size))  # NumPy's integers overflow


@dataclass(frozen=True)
class Resources:
    """Where a scan runs and how much of the machine it takes; never changes what is measured.

    Parameters
    ----------
    device : str, optional
        ``cpu``, ``cuda``, ``cuda:1``, ``mps``; by default ``cuda`` if there is one. A torch module
        stays where it is.
    memory_budget : int or str, optional
        Memory to use at most, as ``8GiB``; by default 90 % of free memory. It counts the program
        where the network runs. Where it is short, stimuli are shown several times, to some of the
        layers each time. A number is in bytes.
    decode_workers : int, optional
        Threads that decode images; by default a core each, at most 8. For a network on a GPU more
        than 4 are processes.
    commit_every : float, default 60
        Seconds between commits. A scan that is killed loses no more than this.
    workers : int, optional
        Processes of this machine that share the work. Results have the same bits.
    scheduler : str or dask cluster, optional
        Dask scheduler whose workers share the work. Its address, ``tcp://...``, or a cluster.
    threads_per_worker : int, optional
        Threads of each worker; by default an equal share.

    Raises
    ------
    UserError
        A value is out of range, or a size of memory cannot be read.

    Examples
    --------
    >>> resources = fusiform.Resources(memory_budget="8GiB", workers=2)
    >>> resources.memory_bytes
    8589934592
    """

    device: str | None = None
    memory_budget: int | str | None = None
    decode_workers: int | None = None
    commit_every: float = 60
    workers: int | None = None
    scheduler: Any = None
    threads_per_worker: int | None = None

    def __post_init__(self) -> None:
        if self.memory_budget is not None:
            bytes_of(self.memory_budget)
        every: Any = self.commit_every
        if not (isinstance(every, Real) and float(every) >= 0):
            raise UserError(f"commit_every is a number of seconds, 0 or more; got {every}")
        decoding = self.decode_workers
        refuse_numbers(decode_workers=decoding)
        if decoding is not None and decoding < 1:
            raise UserError(f"decoding needs at least 1 thread; got {decoding} decode workers")
        refuse_numbers(workers=self.workers, threads_per_worker=self.threads_per_worker)
        counts = {"workers": self.workers, "threads per worker": self.threads_per_worker}
        for name, value in counts.items():
            if value is not None and value < 1:
                raise UserError(f"{name} are at least 1; got {value}")

    @property
    def memory_bytes(self) -> int | None:
        """The memory budget in bytes; None where none is set."""
        return None if self.memory_budget is None else bytes_of(self.memory_budget)


@dataclass(frozen=True)
class Request:
    """A scan as a user describes it."""

    network: Network
    stimuli: Stimuli
    design: Design
    resources: Resources

    def __post_init__(self) -> None:
        if not self.stimuli.are_objects:
            return
        for name in ("workers", "scheduler", "decode_workers"):
            if getattr(self.resources, name) is not None:
                raise UserError(
                    f"`{name}` is for stimuli in files; got objects of the program, which its own "
                    "process prepares: leave it out"
                )


def _set(noun: object, **values: Any) -> None:
    """Set fields of a frozen value while it is constructed."""
    for name, value in values.items():
        object.__setattr__(noun, name, value)


def _frozen(given: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping whose lists are tuples."""
    return {name: tuple(own) if isinstance(own, list) else own for name, own in given.items()}
