"""The tasks that follow the showing of stimuli: merging moments, and contrasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..layer import Layer
from ..moments.plan import parts_within
from ..store.writing.commits import Seal
from ..store.writing.store_draft import StoreDraft
from .dispatch import Task
from .tasks import CONTRAST, MERGE, Record, contrast, merge_files

# Means in the layers whose contrasts are one task.
_TOGETHER = 2**22


def merge_tasks(
    draft: StoreDraft,
    records: Mapping[str, Record],
) -> list[Task]:
    """A task for every file of moments that shards kept in parts.

    Layers that are divided alike are merged together.

    Parameters
    ----------
    records : of the shards, by task
    """
    kept: dict[tuple[str, tuple[int, ...]], list[tuple[str, Seal]]] = {}
    for task, record in sorted(records.items(), key=lambda item: item[1]["batches"][0]):
        for layer, parts in record["kept"].items():
            for place, seal in parts:
                kept.setdefault((layer, tuple(place)), []).append((task, seal))
    alike: dict[tuple[int, ...], list[Layer]] = {}
    for layer in draft.layers:
        alike.setdefault(draft.moments.rows(layer), []).append(layer)
    tasks = []
    for number, layers in enumerate(alike.values()):
        for place in draft.moments.places(layers[0]):
            parts = {one.name: kept[one.name, place] for one in layers if (one.name, place) in kept}
            if not parts:
                continue
            groups = draft.moments.groups_of(layers[0], place)
            category, fold = groups[0]
            more = " and more" if len(groups) > 1 else ""
            shown = f"merge {draft.categories[category]} fold {fold}{more}, {_named(layers)}"
            name = f"{MERGE}/{number}/{place[0]}.{place[1]}"
            tasks.append(Task(name, shown, merge_files, (name, place, parts)))
    return tasks


def contrast_tasks(draft: StoreDraft) -> tuple[list[Task], dict[str, int]]:
    """The tasks of the contrasts, each of consecutive layers, and the units of each by name."""
    tasks, units, first = [], {}, 0
    values = len(draft.categories) * draft.reader.folds
    for part in parts_within(draft.layers, lambda layer: layer.units * values, _TOGETHER):
        stop, name = first + len(part), f"{CONTRAST}/{first}"
        units[name] = sum(layer.units for layer in part)
        tasks.append(Task(name, f"contrast {_named(part)}", contrast, (name, first, stop)))
        first = stop
    return tasks, units


def _named(layers: Sequence[Layer]) -> str:
    return layers[0].name + (f" and {len(layers) - 1} more" if len(layers) > 1 else "")
