"""Versions, and whether they are those that fusiform was made for."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module, metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.requirements import InvalidRequirement, Requirement

from .finding import Finding, found

# A line of the table each. What is required and not named here has a line of its own.
_TOGETHER = {
    "networks": ("torch", "torchvision", "timm", "open_clip_torch"),
    "arithmetic": ("numpy", "numba", "scipy", "dask"),
    "stores and images": ("zarr", "zarrs", "xarray", "pillow"),
}
# Those that a mismatch with another breaks as they are loaded.
_LOADED = ("torch", "torchvision", "numba", "zarrs", "PIL")


def check_versions() -> Iterator[Finding]:
    """What is installed, what is older than it has to be, and what does not load."""
    here = "fusiform"
    required = metadata.requires(here) or []
    python = metadata.metadata(here)["Requires-Python"]
    yield judge_place(Path(__file__).parents[2], _installed_in(metadata.distribution(here)))
    yield from judge_versions([f"python{python}", *required], _installed(required))
    for name in _LOADED:
        try:
            import_module(name)
        except Exception as error:  # whatever a library breaks with
            said = str(error).strip().partition("\n")[0]
            yield Finding(
                name,
                f"does not load: {type(error).__name__}: {said}",
                f"install {name} and what it was built against anew, in one go",
                "fault",
            )


def judge_place(imported: Path, installed: Path) -> Finding:
    """Where fusiform was imported from; a clone in the working folder hides the installed one."""
    versions = f"{metadata.version('fusiform')}, Python {platform.python_version()}"
    hidden = imported != installed and imported.parent == Path.cwd()
    advice = f"this folder hides what is installed in {installed}: start elsewhere, or python -P"
    return found("fusiform", f"{versions}, from {imported}", advice if hidden else "")


def _installed_in(distribution: metadata.Distribution) -> Path:
    """The folder of the package that is installed, or that an editable install points to."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return Path(url2pathname(urlsplit(origin["url"]).path))
    return Path(str(distribution.locate_file("fusiform")))


def _installed(required: Iterable[str]) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for text in required:
        name = Requirement(text).name
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def judge_versions(required: Iterable[str], installed: Mapping[str, str]) -> Iterator[Finding]:
    """Requirements (``numpy>=2``) against versions by name; optional ones are passed over."""
    unfit, fit = [], {}
    for text in required:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, version = requirement.name, installed.get(requirement.name)
        if version and requirement.specifier.contains(version, prereleases=True):
            fit[name] = version
        else:
            unfit.append(_unfit(requirement, version))
    for topic, names in _TOGETHER.items():
        listed = [f"{name} {fit[name]}" for name in names if name in fit]
        if listed:
            yield Finding(topic, ", ".join(listed))
    yield from unfit


def _unfit(requirement: Requirement, version: str | None) -> Finding:
    wanted = f"{requirement.name}{requirement.specifier}"
    install = f"{sys.executable} -m pip install --upgrade '{wanted}'"
    return Finding(
        requirement.name,
        f"{version or 'missing'}; fusiform needs {requirement.specifier}",
        "use a newer Python" if requirement.name == "python" else install,
        "fault",
    )
