"""Invisible (fully transparent) stimuli are named and noted in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fusiform
from fusiform.engine.decoding.pictures import is_invisible
from fusiform.engine.moments.plan import make_plan
from fusiform.engine.querying.info import facts
from fusiform.engine.scanning.interrupt import Interrupted
from fusiform.engine.scanning.progress import Listener
from fusiform.engine.stimuli.catalogue import read_catalogue
from fusiform.engine.stimuli.check import check_stimuli
from fusiform.engine.stimuli.check_report import lines
from fusiform.engine.stimuli.images import open_image

from . import flat
from .flat import decode_ahead
from .test_resume import SMALL, Net, scanned, stopping_after

CLEAR = (
    "blobs/blobs-2.png",
    "noise/noise-3.webp",
    "stripes/stripes-1.png",
    "stripes/stripes-5.gif",
)
NOTE = "nothing is visible in 4 stimuli, transparent or mid-grey throughout: " + ", ".join(CLEAR)


@pytest.fixture
def stimuli(tmp_path: Path, draw_stimuli: Callable[..., Path]) -> Path:
    """Five stimuli per category; four are transparent in different formats, one partly."""
    root = draw_stimuli(tmp_path / "stimuli", each=5)
    for name in CLEAR:
        path = (root / name).with_suffix(".png")
        image = Image.open(path).convert("RGBA")
        image.putalpha(0)
        path.unlink()
        image.save(root / name, **({"exact": True} if name.endswith("webp") else {}))
    grey = Image.new("L", (20, 20), 77)
    grey.save(root / CLEAR[2], transparency=77)
    image = Image.open(root / "blobs/blobs-1.png").convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(root / "blobs/blobs-1.png")
    return root


def heard(notes: list[str]) -> list[str]:
    return [note for note in notes if note.startswith("nothing is visible in")]


def test_scan_store_and_info_name_invisible_stimuli(stimuli: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    result = scanned(stimuli, tmp_path / "o.zarr", progress=Listener(notes.append))
    reason = "transparent or mid-grey throughout"
    assert heard(notes) == [f"nothing is visible in {stimuli / name}: {reason}" for name in CLEAR]
    assert result.provenance["notes"] == [NOTE]
    assert ("note", NOTE) in list(facts(fusiform.info(tmp_path / "o.zarr")))


@pytest.mark.usefixtures("in_passes")
def test_several_passes_name_invisible_stimuli_once(stimuli: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    result = scanned(stimuli, tmp_path / "o.zarr", progress=Listener(notes.append))
    assert len(heard(notes)) == len(CLEAR)
    assert result.provenance["notes"] == [NOTE]


def test_a_resumed_scan_keeps_the_note_on_invisible_stimuli(stimuli: Path, tmp_path: Path) -> None:
    for stage in ("scan", "scan", "scan", "contrasts"):
        with pytest.raises(Interrupted):
            scanned(stimuli, tmp_path / "o.zarr", progress=stopping_after(1, stage))
    assert scanned(stimuli, tmp_path / "o.zarr").provenance["notes"] == [NOTE]


def test_workers_leave_the_same_note_on_invisible_stimuli(
    stimuli: Path, tmp_path: Path, write_module: Callable[[str], str]
) -> None:
    module = write_module(
        "import torch\n"
        "from fusiform import Preprocessing\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 4, stride=4), torch.nn.Flatten())\n"
        "    return net, Preprocessing(16, 16)\n"
    )
    notes: list[str] = []
    given: dict[str, Any] = {"layers": "all", "batch_size": 1}
    result = flat.scan(
        f"{module}:make", stimuli, tmp_path / "w.zarr", workers=2, threads_per_worker=1,
        progress=Listener(notes.append), **given,
    )  # fmt: skip
    assert sorted(note.split(": ")[0].split("/", 1)[1] for note in heard(notes)) == sorted(
        str(stimuli / name)[1:] for name in CLEAR
    )
    assert result.provenance["notes"] == [NOTE]


def test_recordings_and_packed_sets_name_invisible_stimuli(stimuli: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    packed = tmp_path / "packed.zarr"
    geometry = {"resize": 16, "crop": 16}
    flat.pack_stimuli(stimuli, packed, preprocessing=geometry, progress=Listener(notes.append))
    assert len(heard(notes)) == len(CLEAR)
    assert scanned(packed, tmp_path / "p.zarr").provenance["notes"] == [NOTE]

    recording = flat.record(
        Net(), stimuli, tmp_path / "r.zarr", layers=["head"], preprocessing=SMALL
    )
    assert recording.provenance["notes"] == [NOTE]


def test_stimuli_check_names_invisible_stimuli(stimuli: Path) -> None:
    report = check_stimuli(stimuli)
    assert report.invisible == CLEAR
    assert report.as_record()["invisible"] == list(CLEAR)
    for name in CLEAR:
        said = f"note: nothing is visible in {name}: transparent or mid-grey throughout"
        assert said in lines(report)


@pytest.mark.parametrize("processes", [False, True])
def test_threads_and_processes_list_invisible_stimuli_in_plan_order(
    stimuli: Path, processes: bool
) -> None:
    catalogue = read_catalogue(stimuli)
    plan = make_plan(catalogue.labels, catalogue.categories, batch_size=4)
    found, shown = list[int](), list[int]()
    for decoded in decode_ahead(
        catalogue, plan, SMALL, 2, invisible=found.append, processes=processes
    ):
        shown += decoded.batch.stimuli.tolist()
        assert set(found) <= set(shown)
    assert [stimulus for stimulus in shown if stimulus in found] == found
    assert sorted(catalogue.shown_names[s] for s in found) == sorted(CLEAR)


def test_a_skipped_stimulus_is_not_called_invisible(stimuli: Path, tmp_path: Path) -> None:
    damaged = stimuli / "noise/noise-1.png"
    damaged.write_bytes(damaged.read_bytes()[:300])
    result = scanned(stimuli, tmp_path / "o.zarr", on_error="skip")
    assert result.skipped
    assert result.provenance["notes"] == [NOTE]


def test_one_visible_pixel_makes_a_stimulus_visible() -> None:
    picture = np.full((8, 8, 3), 128, np.uint8)
    assert is_invisible(picture)
    for place in ((0, 0, 0), (7, 7, 2), (3, 4, 1)):
        other = picture.copy()
        other[place] += 1
        assert not is_invisible(other)


def test_a_mid_grey_drawing_on_a_transparent_ground_is_invisible(tmp_path: Path) -> None:
    image = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    image.paste((128, 128, 128, 255), (4, 4, 9, 9))
    image.save(tmp_path / "grey.png")
    assert is_invisible(np.asarray(open_image(tmp_path / "grey.png")))
