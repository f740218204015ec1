"""Where the gallery's scripts run, and in which order.

They run in a copy of their folder: what one makes the next may use, and examples/ stays clean.
"""

from __future__ import annotations

import shutil
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDER = Path(__file__).parents[1] / "_build" / "examples"
# From a first scan to special questions.
COURSE = [
    "localise.py",
    "held_out.py",
    "contrasts.py",
    "criteria.py",
    "maps.py",
    "best_images.py",
    "compare_networks.py",
    "own_network.py",
    "while_training.py",
    "two_localizers.py",
    "brain_regions.py",
    "lesion.py",
    "language.py",
    "export.py",
]
HEADER = """Gallery
=======

Scripts to start from. Each runs offline on two cores, and can be downloaded as a notebook.
"""

_strict = ExitStack()


def copy(_: Sphinx) -> None:
    """Copy the scripts to the folder where they run."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.copytree(EXAMPLES, FOLDER, ignore=shutil.ignore_patterns("__pycache__"))
    if not list(FOLDER.glob("GALLERY_HEADER.*")):
        (FOLDER / "GALLERY_HEADER.rst").write_text(HEADER)


def reset(_: dict[str, Any], __: str, when: str) -> None:
    """Make the warnings of a script errors."""
    if when == "before":
        _strict.enter_context(warnings.catch_warnings(action="error"))
    else:
        _strict.close()


def course(script: str) -> tuple[int, str]:
    """The place of a script among all: as in ``COURSE``, then by name."""
    return COURSE.index(script) if script in COURSE else len(COURSE), script


def setup(app: Sphinx) -> dict[str, bool]:
    """Copy the scripts before the gallery looks for them."""
    app.connect("builder-inited", copy, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
