"""The scan: show a network every stimulus once, and leave a store of moments and contrasts."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .distributing.cluster import workers_asked_for
from .errors import UserError
from .imports import uncollected
from .querying.store import Store
from .scanning.bar import listening
from .scanning.progress import Listener
from .scanning.stimulus_set import reading
from .spec import Design, Network, Request, Resources, Stimuli
from .store.files.memory import Memory
from .store.writing.publishing import refuse_existing
from .store.writing.resuming import Existing, as_begun

if TYPE_CHECKING:
    from torch import nn


def scan(
    network: Network | str | nn.Module,
    stimuli: Any,
    output: str | Path | None = None,
    *,
    design: Design = Design(),
    resources: Resources = Resources(),
    overwrite: bool = False,
    restart: bool = False,
    go_back: bool = False,
    progress: bool | Listener = True,
) -> Store:
    """Show a network every stimulus and find its category-selective units.

    Activations are streamed into online moments per layer, category and fold, and are never held
    longer than one batch. Then t, q, CSI and the selective mask of every category are written
    beside the moments (criterion ``each``: Welch t against every other category, Benjamini-Hochberg
    q at most 0.05 in the layer).

    A scan that was stopped, for whatever reason, continues when it is called again as before, and
    ends with the same bits.

    Parameters
    ----------
    network : Network, str or torch.nn.Module
        The network; a name or a torch module stands for a :class:`fusiform.Network` of it. A module
        is given back as it was: its mode, device and memory format.
    stimuli : Stimuli, str, path, mapping, Dataset or iterable
        The stimuli, or their source alone: a path, ``{category: images}``, a map-style Dataset of
        (input, label), or an iterable of (inputs, labels).
    output : str or path, optional
        The store to create, by convention ``NAME.zarr``; a folder, or the URL of an object store.
        By default the store is in memory.
    design : Design, optional
        Layers, units, folds, the null.
    resources : Resources, optional
        Device, memory, threads, workers; they never change what is measured.
    overwrite : bool, default False
        Replace an earlier store at ``output``.
    restart : bool, default False
        Start again, discarding what an unfinished scan has done.
    go_back : bool, default False
        Where the last commit of an unfinished scan is damaged, continue from the one before.
    progress : bool or Listener, default True
        Notes and a bar where there is a terminal or a notebook; False is quiet, a
        :class:`fusiform.Listener` hears both.

    Returns
    -------
    Store
        The finished store.

    Raises
    ------
    UserError
        The scan cannot be carried out as requested. What was done is kept; where nothing was
        committed yet, nothing is left behind.
    KeyboardInterrupt
        At SIGINT or SIGTERM, after the batch is done and committed (in the main thread; elsewhere
        signals do not arrive); at a second SIGINT at once.

    See Also
    --------
    plan : Memory, disk and time of a scan, before it runs.
    open_store : Open a store that exists.
    record : Keep the responses of chosen units to every stimulus.

    Examples
    --------
    >>> from fusiform import Design, Network
    >>> network = Network("resnet18", weights="none", preprocessing={"resize": 64, "crop": 64})
    >>> store = fusiform.scan(network, "stimuli", "new.zarr", design=Design(layers="layer4.1"))
    >>> store.categories
    ('bodies', 'faces', 'scenes', 'scrambled_scenes', 'scrambled_words', 'words')
    >>> store.dataset("layer4.1")["t"].dims
    ('category', 'channel', 'y', 'x')
    """
    request = Request(Network.of(network), Stimuli.of(stimuli), design, resources)
    existing, workers = Existing(overwrite, restart, go_back), workers_asked_for(request)
    if output is None:
        if workers:
            raise UserError("workers share a folder or URL; got no `output`: name one")
        output = Memory()
        # A commit would be lost with the store.
        request = replace(request, resources=replace(resources, commit_every=inf))
    refuse_existing(output, overwrite, unfinished=not request.stimuli.is_stream)
    if request.stimuli.is_stream:
        from .scanning.stream import run_stream

        with listening(progress) as listener:
            return Store.open(run_stream(request, output, overwrite, listener))
    if not restart and not isinstance(output, Memory):
        request = as_begun(request, output)
    with listening(progress) as listener, reading(request.stimuli) as begun:
        listener.begin("loading libraries")
        with uncollected():  # torch is imported meanwhile
            from .distributing.driver import OnWorkers
            from .scanning.run import run
            from .scanning.work import InProcess
        executor = OnWorkers(workers) if workers else InProcess()
        place = run(request, output, existing, executor, listener, begun)
    return Store.open(place)
