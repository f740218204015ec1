"""``fusiform plot`` writes what fusiform.plot draws, in the format that a file's ending tells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import fusiform
from fusiform import UserError
from fusiform.cli import main
from fusiform.commands.plotting import Kind
from fusiform.engine.layer import Layer
from fusiform.engine.plotting import best, figures, panel

from . import made
from .test_responses import fill as fill_recording

pytest.importorskip("matplotlib")
Run = Callable[..., tuple[int, str, str]]
_SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def folder(made_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stores e1 and e2, a recording r and a table of regions."""
    root = tmp_path_factory.mktemp("plot")

    def others(layer: Layer) -> list[list[np.ndarray]]:
        return [[values[:, ::-1] + 0.01 for values in folds] for folds in made.samples(layer)]

    (root / "e1.zarr").symlink_to(made_path)
    made.fill(root / "e2.zarr", drawn=others)
    shutil.copytree(made_path, root / "a.zarr")
    made.annotate(root / "a.zarr", weights_sha256="a" * 64)
    fill_recording(root / "r.zarr")
    rows = [f"FFA,{name},{k % 3}" for k, name in enumerate(made.CATEGORIES)]
    (root / "regions.csv").write_text("\n".join(["region,category,response", *rows]))
    return root


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``fusiform plot`` in the folder: its exit code, output and notes."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fusiform", "plot", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code or 0, *capsys.readouterr()

    def thumbnails(_: Any, rows: list[int], source: Path, side: int) -> list[Image.Image]:
        assert source == Path("stimuli")
        return [Image.new("RGB", (side, side)) for _ in rows]

    monkeypatch.setattr(best, "thumbnails", thumbnails)
    monkeypatch.chdir(folder)
    return run


LINES: dict[str, tuple[str, ...]] = {
    "depth": ("e1.zarr", "--measures", "gini"),
    "distributions": ("e1.zarr", "--layers", "layer1.0"),
    "map": ("e1.zarr", "--contrast", "faces,scenes"),
    "overlap": ("e1.zarr", "--test", "rest", "--where", "t > 0"),
    "confusion": ("e1.zarr",),
    "consistency": ("e1.zarr", "--measures", "cka"),
    "tuning": ("e1.zarr",),
    "images": ("r.zarr", "--contrast", "faces", "--layers", "conv", "--stimuli", "stimuli"),
    "regions": ("e1.zarr", "--roi", "regions.csv"),
    "training": ("e1.zarr", "e2.zarr"),
    "localizers": ("a.zarr", "a.zarr", "--categories", "faces=bodies,bodies=faces"),
}
# Texts of each figure: the axes, and what is shown in which layer.
TEXTS = {
    "depth": ("e1", "Gini over feature maps", "faces"),
    "distributions": ("e1: layer1.0", "CSI, held out"),
    "map": ("e1: faces, encoder.ln", "e1: scenes, encoder.ln", "selective living units (%)"),
    "overlap": ("units of both / of either",),
    "confusion": ("e1: encoder.ln", "share of the row"),
    "consistency": ("e1", "cka"),
    "tuning": ("response, held out (z in the layer)",),
    "images": ("r: conv", "faces"),
    "regions": ("FFA, e1", "Pearson correlation"),
    "training": ("encoder.ln", "selective units (%)", "e"),
    "localizers": ("a and a", "overlap of selected units (Dice)"),
}


def test_every_kind_is_tested() -> None:
    assert set(LINES) == set(TEXTS) == set(get_args(Kind))


@pytest.mark.parametrize("kind", LINES)
def test_every_kind_is_drawn_with_text_as_text_and_the_same_bytes(run: Run, kind: str) -> None:
    given = (*LINES[kind], "--kind", kind, "--resamples", 20)
    code, out, notes = run(*given, "-o", f"{kind}.svg")
    assert (code, out) == (0, ""), notes
    assert notes.splitlines()[-1].startswith(f"wrote {kind}.svg (")
    file = Path(f"{kind}.svg")
    texts = [" ".join("".join(one.itertext()).split())
             for one in ElementTree.parse(file).iter(f"{_SVG}text")]  # fmt: skip
    assert set(TEXTS[kind]) <= set(texts)
    before = file.read_bytes()
    assert run(*given, "-o", file, "-q") == (0, "", "")
    assert file.read_bytes() == before


def test_the_ending_tells_the_format(run: Run) -> None:
    for ending in ("png", "PDF"):
        assert run("e1.zarr", "--resamples", 5, "-o", f"x.{ending}")[0] == 0
    with Image.open("x.png") as image:
        assert image.size == tuple(300 * side for side in panel.WIDE)
        assert np.asarray(image.convert("L")).std() > 10
    pdf = Path("x.PDF").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    for name in ("x.jpg", "x", ".png"):
        code, _, said = run("nowhere.zarr", "-o", name)
        assert code == 2
        assert f"its format, svg, pdf, png; got '{name}'" in said
        assert not Path(name).exists()


def test_a_figure_has_a_name_by_default_and_is_not_replaced(run: Run) -> None:
    given = ("e1.zarr", "e2.zarr", "--kind", "confusion", "--layers", "head")
    assert "wrote e1.confusion.png (" in run(*given)[2]
    before = Path("e1.confusion.png").read_bytes()
    code, _, said = run(*given)
    assert code == 2
    assert said.startswith("error: e1.confusion.png exists: name a file in --output")
    assert run(*given, "-o", "e1.confusion.png")[0] == 0
    assert Path("e1.confusion.png").read_bytes() == before


def test_stores_and_measures_have_a_panel_each_in_rows(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(figures, "_save", lambda figure, *_: drawn.append(figure))
    given = ("e1.zarr", "e2.zarr", "--resamples", 5, "-o", "x.png")
    assert run(*given, "--measures", "share,csi")[0] == 0
    axes = drawn[-1].axes
    assert [one.get_title(loc="left") for one in axes] == ["e1", "e1", "e2", "e2"]
    assert axes[0].get_ylim() == axes[2].get_ylim() != axes[1].get_ylim()
    width, height = panel.WIDE
    assert drawn[-1].get_size_inches().tolist() == [2 * width, 2 * height]
    assert run(*given, "--kind", "confusion")[0] == 0
    titles = [one.get_title(loc="left") for one in drawn[-1].axes]
    assert [title for title in titles if title] == ["e1: encoder.ln", "e2: encoder.ln"]
    assert drawn[-1].get_size_inches()[1] == panel.MATRIX[1]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("e1.zarr --kind maps", "'maps' is not one of 'depth', 'distributions', 'map'"),
        ("e1.zarr --measures cis", "no measure 'cis' in this result: did you mean csi?"),
        ("e1.zarr --kind map --layers layer9", "has no layer 'layer9': did you mean layer1.0?"),
        ("e1.zarr --kind map --layers head", "a map has the positions of a layer; head has none"),
        ("e1.zarr --where csi>9", "there is nothing to draw: no selective units"),
        ("e1.zarr --kind overlap", "selects no unit for two contrasts: --test rest pools"),
        ("r.zarr", "r.zarr is a recording, of fusiform record: name a store"),
        ("e1.zarr --kind images", "e1.zarr is a store, of fusiform scan: name a recording"),
        ("e1.zarr --kind regions", "got none: name it by --roi"),
        ("e1.zarr --kind training", "two"),
        ("a.zarr a.zarr --kind training", "which these names do not tell: give --at"),
        ("e1.zarr --at 1", "depth does not take --at: leave it out, or choose another --kind"),
        ("r.zarr --kind images --where t>3", "images does not take --where: leave it out"),
        ("e1.zarr --kind confusion --contrast faces", "confusion does not take --contrast"),
        ("e1.zarr e1.zarr e1.zarr e1.zarr --kind map --layers layer1.0,encoder.ln",
         "up to 24 panels; got 32: name fewer stores, --layers, --contrast"),
        ("nowhere.zarr " * 25, "up to 24 panels; got 25: name fewer stores"),
    ],
)  # fmt: skip
def test_mistakes_are_a_line_and_leave_nothing(run: Run, line: str, said: str) -> None:
    code, out, notes = run(*line.split(), "--resamples", 5, "-o", "mistake.png")
    assert (code, out) == (2, "")
    assert said in notes
    assert notes.splitlines()[-1].startswith("error: ")
    assert not Path("mistake.png").exists()


def test_an_unfinished_store_is_named(run: Run, made_path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(made_path, tmp_path / "half.zarr")
    made.annotate(copy, status="scanning")
    code, _, said = run(copy, "-o", "half.png")
    assert code == 2
    assert "half.zarr" in said
    assert not Path("half.png").exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["depth", "distributions", "map", "tuning"])
def test_names_of_any_length_and_script_leave_room_for_the_figure(
    run: Run, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("顔", "faces " * 40, "b" * 180, r"$\frac{x$")
    monkeypatch.setattr(made, "CATEGORIES", names)
    made.fill(tmp_path / "long.zarr", made.LAYERS[:1])
    boxes: dict[str, list[Any]] = {}

    def save(figure: Any, *asked: Any) -> None:
        saved(figure, *asked)
        parts = [one for axis in figure.axes for one in (axis.title, axis.get_legend()) if one]
        boxes["axes"] = [axis.get_window_extent() for axis in figure.axes]
        boxes["beside"] = [figure.bbox, *(part.get_window_extent() for part in parts)]

    saved = figures._save
    monkeypatch.setattr(figures, "_save", save)
    code, _, said = run(tmp_path / "long.zarr", "--kind", kind, "--resamples", 5, "-o", "long.svg")
    assert code == 0, said
    assert said.count("the font of figures lacks 顔: name one") == 1
    assert min(box.height for box in boxes["axes"]) > 40
    assert max(box.x1 for box in boxes["beside"]) == boxes["beside"][0].x1


@pytest.mark.parametrize(
    ("settings", "backend", "code"),
    [("", "nonsense", 2), ("text.usetex: True", "agg", 0)],
)
def test_settings_of_matplotlib_that_hinder_are_a_line(
    folder: Path, tmp_path: Path, settings: str, backend: str, code: int
) -> None:
    (tmp_path / "matplotlibrc").write_text(settings, "latin-1")
    program = [sys.executable, "-m", "fusiform", "plot", folder / "e1.zarr", "-o", "x.png"]
    done = subprocess.run(
        [*program, "--resamples", "5"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"MPLBACKEND": backend},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    said = "error: matplotlib does not start (" if code else "wrote x.png"
    assert done.stderr.splitlines()[-1].startswith(said)
    assert "Traceback" not in done.stderr


def test_matplotlib_is_asked_for_before_any_work(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(fusiform, "open_store", None)
    code, _, said = run("e1.zarr", "-o", "x.png")
    assert code == 2
    assert "figures need matplotlib: pip install 'fusiform[figures]'" in said
    with pytest.raises(UserError):
        panel.require_matplotlib()
