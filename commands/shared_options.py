"""Options and arguments that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fusiform.engine.contrasts.language.criterion import DEFAULT, Criterion
from fusiform.engine.contrasts.language.presets import PRESETS, preset, remarks

from .fields import Command, Of
from .fitting import width_as
from .notes import note
from .tables import Destination

if TYPE_CHECKING:
    from fusiform.engine.store.store_reader import StoreReader

_CRITERION, _OUTPUT, _RESOURCES = "Criterion", "Output", "Resources"
_ASKED, _RANDOM = "Layers and contrasts", "Random draws"
NOTHING_KEPT = "nothing was committed yet: nothing is left"

Stores = Annotated[list[str], typer.Argument(metavar="STORE", help="Stores that scan wrote.")]
OneStore = Annotated[str, typer.Argument(metavar="STORE", help="A store that scan wrote.")]
StoreOrRecording = Annotated[str, typer.Argument(metavar="STORE", help="A store or recording.")]
Contrasts = Annotated[
    list[str] | None,
    typer.Option(
        "--contrast",
        metavar="CONTRAST,...",
        help="'faces' (against all others), 'faces + bodies > scenes', 'faces - (bodies + "
        "scenes)/2'. Names with other characters stand in quotes. Joined by commas; repeatable. By "
        "default every category.",
        rich_help_panel=_ASKED,
    ),
]
LayerNames = Annotated[
    list[str] | None,
    typer.Option(
        "--layers",
        help="Only these: names or globs, joined by commas; repeatable.",
        rich_help_panel=_ASKED,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda or cuda:1; by default a GPU if there is one.", rich_help_panel=_RESOURCES
    ),
]
Seed = Annotated[
    int,
    typer.Option(help="Seed of everything that is drawn at random.", rich_help_panel=_RANDOM),
]
Resamples = Annotated[
    int,
    typer.Option(help="Draws for intervals, chance and permutations.", rich_help_panel=_RANDOM),
]
Distance = Annotated[
    Literal["correlation", "euclidean"], typer.Option(help="Distance between two patterns.")
]
Output = Annotated[
    str,
    typer.Option(
        "--output",
        "-o",
        help="The store to create: NAME.zarr, or an s3:// URL.",
        rich_help_panel=_OUTPUT,
    ),
]
OutputOrNone = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", help="The store that scan will create.", rich_help_panel=_OUTPUT
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace an earlier one.", rich_help_panel=_OUTPUT),
]
Restart = Annotated[
    bool,
    typer.Option(
        "--restart",
        help="Discard the progress of an unfinished run.",
        rich_help_panel=_OUTPUT,
    ),
]
GoBack = Annotated[
    bool,
    typer.Option(
        "--go-back",
        help="Resume from the commit before the last, where the last is damaged.",
        rich_help_panel=_OUTPUT,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON instead of a table.", rich_help_panel=_OUTPUT),
]
Positions = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="NUMBER,...",
        help="Positions of the stores in training, such as epochs; by default the numbers in names "
        "such as epoch_005.zarr. Joined by commas; repeatable.",
    ),
]
Regions = Annotated[
    Path | None,
    typer.Option(
        "--roi",
        metavar="TABLE.csv",
        help="Brain regions to compare the networks with; columns as in compare.",
    ),
]
ShownStimuli = Annotated[
    Path | None,
    typer.Option(
        "--stimuli", help="The folder of recorded stimuli, if not where the recording says."
    ),
]
To = Annotated[Destination, Of(panel=_OUTPUT)]
Every = Annotated[
    bool,
    typer.Option(
        "--all",
        help="Every row of a long table, not only the leading contrasts and layers at even steps.",
        rich_help_panel=_OUTPUT,
    ),
]
Wide = Annotated[
    bool,
    typer.Option(
        "--wide",
        help="Whole lines, however wide the terminal: every column, and names in full.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No notes, no progress.", rich_help_panel=_OUTPUT),
]
MemoryBudget = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory to use at most, as 2GiB. Answers are computed in blocks of some MiB; a "
        "smaller budget takes smaller ones.",
        rich_help_panel=_RESOURCES,
    ),
]

# A criterion: what is not given is the preset's, or the default's.
CriterionFields = Annotated[dict[str, Any], Of(given=Criterion, defaults=True)]
Preset = Annotated[
    str | None,
    typer.Option(
        help=f"The criterion of a publication: {', '.join(PRESETS.own)} "
        "(docs/reference/definitions.md; margalit2024 used no scrambled pictures).",
        rich_help_panel=_CRITERION,
    ),
]


def within_budget(function: Command) -> Command:
    """A command that takes ``--memory-budget``, and answers within it."""
    return _within(function, "memory_budget", None, MemoryBudget, _budget)


def tabled(function: Command) -> Command:
    """A command that takes ``--wide``; without it, its tables fit the terminal."""
    return _within(function, "wide", False, Wide, width_as)


@contextmanager
def _budget(size: str | None) -> Iterator[None]:
    from fusiform.engine.blocks import memory_budget, require_slab

    with memory_budget(size):
        require_slab()
        yield


def _within(
    function: Command,
    name: str,
    default: Any,
    annotation: Any,
    context: Callable[[Any], AbstractContextManager[None]],
) -> Command:
    """A command with one option more, whose value makes the context it runs in."""

    @wraps(function)
    def run(**given: Any) -> None:
        with context(given.pop(name, default)):
            function(**given)

    signature = inspect.signature(function)
    option = inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), option]
    )
    run.__annotations__ = {**function.__annotations__, name: annotation}
    return run


def criterion_of(given: dict[str, Any], published: str | None) -> Criterion:
    """The preset, or the default, with the options that were given."""
    return replace(preset(published) if published else DEFAULT, **given)


def remark(
    criterion: Criterion, stores: Sequence[StoreReader], contrasts: Sequence[str] | None = None
) -> None:
    """Note the steps of a preset's authors that its criterion does not include."""
    said = (one for store in stores for one in remarks(criterion, store.categories, contrasts))
    for line in dict.fromkeys(said):
        note(line)
