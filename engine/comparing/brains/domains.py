"""Categories of a table of regions that are folders of a store's categories, or of its domains.

A table of folders is averaged for a store whose categories join them (``groups``). Where table and
store both have the folders of a known localizer, populations are selected for its domains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...contrasts.language.grammar import quoted
from ...errors import UserError, shortened
from ...stimulus_groups import LOCALIZERS, Groups
from ...texts import composed
from .regions import FEWEST_ITEMS, Region, Regions


def as_joined(regions: Regions, categories: Sequence[str], record: Any) -> tuple[Regions, str]:
    """A table of folders for a store that joined them: the mean of each category's folders.

    Parameters
    ----------
    categories : those of the store
    record : the groups that the store was scanned with, as it keeps them

    Returns
    -------
    regions : the table, or one of the store's categories, without the ceilings of the table
    note : which folders were averaged; empty if none were

    Raises
    ------
    UserError : a folder of a category is missing; fewer than 3 categories; dissimilarities
    """
    known = set(map(composed, categories))
    groups: Mapping[str, Sequence[str]] = Groups.from_record(record) or {}
    items = {composed(item): place for place, item in enumerate(regions.items)}
    joined = {category: tuple(map(composed, own)) for category, own in groups.items()
              if composed(category) in known}  # fmt: skip
    folders = {one for own in joined.values() for one in own}
    if known.issuperset(items) or not (known | folders).issuperset(items):
        return regions, ""
    if regions.are_rdms:
        raise UserError(
            f"distances between folders are not those of the categories that join them; "
            f"{regions.source} has distances of folders: give those of {shortened(categories)}"
        )
    members: dict[str, list[int]] = {}
    for category in categories:
        own = joined.get(category, ())
        if composed(category) in items:
            members[category] = [items[composed(category)]]
        elif present := [items[one] for one in own if one in items]:
            _require_folders(category, own, items, regions.source)
            members[category] = present
    if len(members) < FEWEST_ITEMS:
        raise UserError(
            f"a comparison needs at least {FEWEST_ITEMS} categories; the folders of "
            f"{regions.source} are those of {shortened(members)}: scan more"
        )
    averaged = [_averaged(region, [*members.values()]) for region in regions.regions]
    said = [f"{category} = {' + '.join(regions.items[place] for place in own)}"
            for category, own in members.items() if len(own) > 1]  # fmt: skip
    note = f"responses are averaged over the folders that the store joins: {', '.join(said)}"
    if any(region.ceiling for region in regions.regions):
        note += "; the ceilings of the table are those of its categories, and are left out"
    return replace(regions, items=tuple(members), regions=tuple(averaged)), note


def _require_folders(
    category: str, folders: Sequence[str], items: Mapping[str, int], source: str
) -> None:
    if missing := [one for one in folders if one not in items]:
        raise UserError(
            f"the mean of a category needs all folders that the store joins; {category} is "
            f"{' + '.join(folders)}, and {source} lacks {', '.join(missing)}: add it"
        )


def _averaged(region: Region, members: Sequence[Sequence[int]]) -> Region:
    means = [region.values[:, own].mean(axis=1) for own in members]
    return Region(region.name, region.subjects, np.stack(means, axis=1))


def domains(regions: Regions, categories: Sequence[str]) -> tuple[list[str] | None, str]:
    """Contrasts that join categories into the domains of a localizer.

    Returns
    -------
    contrasts : such as ``adult + child``, one for every domain with a category in the table; None
        unless the table's categories and the store's are folders of a known localizer
    note : the localizer and its domains; empty for None
    """
    items = set(map(composed, regions.items))
    for localizer in LOCALIZERS.values():
        folders = {one for own in localizer.folders.values() for one in own}
        if localizer.is_in(categories) and (folders | {localizer.control}).issuperset(items):
            found = {
                domain: " + ".join(map(quoted, own))
                for domain, own in localizer.folders.items()
                if items.intersection(own)
            }
            said = ", ".join(f"{domain} = {text}" for domain, text in found.items())
            return [*found.values()], (
                f"populations are the domains of {localizer.title}: {said}; `contrasts` names "
                "others"
            )
    return None, ""
