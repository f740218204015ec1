"""The stimuli of a scan: read before it, and their table in the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..daemons import daemons
from ..errors import UserError
from ..moments.plan import Plan
from ..registry import SHOWN
from ..spec import Stimuli
from ..stimuli.catalogue import Catalogue, read_catalogue
from ..stimuli.columns import Column
from ..stimulus_groups import remarks
from .memory import peak_memory
from .progress import Listener, Progress

# Seconds between reports on the reading of stimuli.
_SAY_EVERY = 0.5


@dataclass(frozen=True)
class StimulusSet:
    """A catalogue, and the stimuli of it that cannot be shown."""

    catalogue: Catalogue
    left_out: tuple[int, ...] = ()


def listed_stimuli(stimuli: Stimuli, listener: Listener) -> StimulusSet:
    """The stimuli by name; files are not read, objects are.

    Raises
    ------
    UserError : see :func:`..stimuli.catalogue.read_catalogue`
    """
    if stimuli.are_objects:
        return ReadObjects(stimuli).read(listener)
    catalogue = read_catalogue(stimuli.source, stimuli.groups, stimuli.root)
    listener.notes((*catalogue.notes, *remarks(stimuli.groups, catalogue.categories)))
    return StimulusSet(catalogue)


def read_stimuli(
    stimuli: Stimuli, listener: Listener, catalogue: Catalogue | None = None
) -> StimulusSet:
    """The stimuli, all of their files read once; those of a ``catalogue`` if one is given.

    Raises
    ------
    UserError : some cannot be shown, unless they are skipped
    """
    if catalogue is None and stimuli.are_objects:
        return listed_stimuli(stimuli, listener)
    if catalogue is None:
        catalogue = listed_stimuli(stimuli, listener).catalogue
    else:
        listener.notes(catalogue.notes)
    return StimulusSet(catalogue, tuple(read_problems(stimuli, catalogue, listener)))


class Reading:
    """Stimuli that another thread lists and reads."""

    def __init__(
        self, stimuli: Stimuli, submit: Callable[..., Future[Any]], given_up: threading.Event
    ) -> None:
        self._stimuli, self._given_up, self._started = stimuli, given_up, time.perf_counter()
        self._done = (0, 0)
        self._catalogue = submit(read_catalogue, stimuli.source, stimuli.groups, stimuli.root)
        self._contents = submit(lambda: self._catalogue.result().look(self._progress))

    def listed(self) -> None:
        """Wait until the stimuli are listed.

        Raises
        ------
        UserError : see :func:`..stimuli.catalogue.read_catalogue`
        """
        self._catalogue.result()

    def read(self, listener: Listener) -> StimulusSet:
        """The stimuli, once all of their files are read.

        Raises
        ------
        UserError : see :func:`read_stimuli`
        """
        report = reporting(listener, self._started)
        while not wait([self._contents], _SAY_EVERY).done:
            report(*self._done)
        self._contents.result()
        catalogue = self._catalogue.result()
        listener.notes(remarks(self._stimuli.groups, catalogue.categories))
        return read_stimuli(self._stimuli, listener, catalogue)

    @property
    def is_over(self) -> bool:
        """Whether the last file is read, or the reading failed."""
        return self._contents.done()

    def _progress(self, done: int, total: int) -> None:
        self._done = (done, total)
        if self._given_up.is_set():
            raise InterruptedError


class ReadObjects:
    """Stimuli that are objects, read in the thread of the program that gave them."""

    is_over = True

    def __init__(self, stimuli: Stimuli) -> None:
        self._stimuli = stimuli

    def listed(self) -> None:
        """They are listed as they are read."""

    def read(self, listener: Listener) -> StimulusSet:
        """The stimuli, each asked for once.

        Raises
        ------
        UserError : see :func:`..decoding.objects.catalogue_of_objects`
        """
        from ..decoding.objects import catalogue_of_objects  # loads torch

        return StimulusSet(catalogue_of_objects(self._stimuli, reporting(listener)))


@contextmanager
def reading(stimuli: Stimuli) -> Iterator[Reading | ReadObjects]:
    """List and read stimuli in a thread; an error in the context does not wait for it."""
    if stimuli.are_objects:
        yield ReadObjects(stimuli)
        return
    given_up = threading.Event()
    with daemons(1, "stimuli") as submit:
        try:
            yield Reading(stimuli, submit, given_up)
        finally:
            given_up.set()


def read_problems(stimuli: Stimuli, catalogue: Catalogue, listener: Listener) -> list[int]:
    """Read all files of a catalogue, and return the stimuli that cannot be shown.

    Raises
    ------
    UserError : there are some, and they are not skipped
    """
    problems = catalogue.look(reporting(listener)).problems
    bad = list(problems)
    if bad and stimuli.on_error == "stop":
        first = f"{catalogue.path(bad[0])} {problems[bad[0]]}"
        raise UserError(
            f"stimuli are images that can be read; {len(bad)} of {len(catalogue)} are not ({first}"
            f"{', ...' if len(bad) > 1 else ''}): 'fusiform stimuli check {stimuli.source}' lists "
            'all, `on_error="skip"` leaves them out'
        )
    for index in bad:
        listener.note(f"skipped: {catalogue.path(index)} {problems[index]}")
    return bad


def reporting(listener: Listener, started: float | None = None) -> Callable[[int, int], None]:
    """A callback that reports every half second how many stimuli were read, since ``started``."""
    started = said = time.perf_counter() if started is None else started

    def report(done: int, total: int) -> None:
        nonlocal said
        if (now := time.perf_counter()) - said >= _SAY_EVERY:
            said = now
            listener.progress(Progress("stimuli", done, total, now - started, peak_memory()))

    return report


def stimulus_table(catalogue: Catalogue, plan: Plan) -> dict[str, Any]:
    """The stimulus table, by columns; texts are made as they are written, to save memory."""
    contents = catalogue.contents
    return {
        "stimulus_path": catalogue.shown_names,
        "stimulus_category": catalogue.labels,
        "stimulus_fold": plan.fold_of,
        "stimulus_sha256": Column(len(catalogue), contents.sha256),
        "stimulus_status": Column(len(catalogue), lambda i: contents.problems.get(i, SHOWN)),
    }
