"""Plug-ins: backbone libraries and presets of other installed packages."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from fusiform import Criterion, Preprocessing, UserError
from fusiform.commands.shared_options import criterion_of
from fusiform.engine.contrasts.language.presets import PRESETS, preset
from fusiform.engine.networks.libraries.architecture import LIBRARIES

from .flat import load_backbone, scan
from .test_docs import ROOT, blocks

Install = Callable[..., None]
PAGE = (ROOT / "docs" / "how-to" / "plugins.md").read_text()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package of one module, with entry points of each group."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = set(sys.modules)

    def put(package: str, source: str, **groups: dict[str, str]) -> None:
        (tmp_path / f"{package}.py").write_text(source)
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = []
        for group, points in groups.items():
            lines += [f"[fusiform.{group}]", *(f"{name} = {at}" for name, at in points.items())]
        (folder / "entry_points.txt").write_text("\n".join(lines))
        importlib.invalidate_caches()

    yield put
    for name in set(sys.modules) - modules:
        if name.startswith("lab_"):
            del sys.modules[name]


@pytest.fixture
def lab(install: Install) -> None:
    """The plug-in of docs/how-to/plugins.md."""
    (source,), (declared,) = blocks(PAGE, "python"), blocks(PAGE, "toml")
    points = tomllib.loads(declared)["project"]["entry-points"]
    groups = {group.removeprefix("fusiform."): names for group, names in points.items()}
    install("lab_networks", source, **groups)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.smoke
@pytest.mark.usefixtures("lab")
def test_the_plug_in_of_the_docs_is_scanned_and_its_preset_asked(
    stimuli: Path, tmp_path: Path
) -> None:
    assert len(blocks(PAGE, "python")[0].splitlines()) <= 20
    backbone = load_backbone("lab:small", "none", 3)
    assert backbone.name == "lab:small"
    assert backbone.preprocessing == Preprocessing(64, 64)
    assert load_backbone("lab:small", "none", 3).weights_hash == backbone.weights_hash
    store = scan("lab:small", stimuli, tmp_path / "lab.zarr", layers="all", weights="none")
    assert [layer.name for layer in store.layers][:2] == ["0.0", "0.1"]
    assert preset("lab2026") == Criterion("rest", "t > 5 and csi > 1/3")
    assert criterion_of({"where": "t > 5"}, "lab2026") == Criterion("rest", "t > 5")
    assert "weights of lab:small are 'none' or a local file; got 'default'" in refusal(
        lambda: load_backbone("lab:small")
    )
    assert "lab has the networks small, large; got 'huge'" in refusal(
        lambda: load_backbone("lab:huge", "none")
    )


@pytest.mark.usefixtures("lab")
def test_plug_ins_are_among_the_known_names() -> None:
    assert LIBRARIES.names() == ["torchvision", "clip", "timm", "hf", "demo", "lab"]
    assert PRESETS.names() == [
        "prince2024", "margalit2024", "floc", "alkhamissi2025", "lab2026",
    ]  # fmt: skip
    assert "hf:NAME, demo:NAME, lab:NAME or package" in refusal(lambda: load_backbone("laab:small"))
    assert "did you mean lab2026?" in refusal(lambda: preset("lab2025"))


def test_a_name_that_two_packages_offer_is_refused(install: Install) -> None:
    install("lab_one", "", backbones={"both": "lab_one:find", "timm": "lab_one:find"})
    install("lab_two", "", backbones={"both": "lab_two:find"}, presets={"floc": "lab_two:F"})
    said = refusal(lambda: load_backbone("both:x"))
    assert "'both' is offered by" in said
    assert "lab_one" in said
    assert "lab_two" in said
    assert "'timm' is offered by fusiform and lab_one" in refusal(lambda: load_backbone("timm:x"))
    assert "'floc' is offered by fusiform and lab_two" in refusal(lambda: preset("floc"))
    assert load_backbone("resnet18", "none").name == "torchvision:resnet18"


BROKEN = {
    "import nothing_of_this_name": "raised ModuleNotFoundError (No module named",
    "raise SystemExit(3)": "raised SystemExit (3)",
    "1 +": "raised SyntaxError (",
    "other = 1": "raised AttributeError (",
}


@pytest.mark.parametrize("source", BROKEN)
def test_a_plug_in_that_cannot_be_imported_is_refused_by_name(
    install: Install, source: str
) -> None:
    install("lab_broken", source, backbones={"bad": "lab_broken:find"},
            presets={"bad": "lab_broken:find"})  # fmt: skip
    for said in (refusal(lambda: load_backbone("bad:x")), refusal(lambda: preset("bad"))):
        assert "the plug-in 'bad' of fusiform." in said
        assert f"lab_broken:find {BROKEN[source]}" in said
    assert load_backbone("timm:test_resnet", "none").name == "timm:test_resnet"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("find = 3", "'int' object is not callable"),
        ("def find(name): return name", "'bad' returned str"),
        ("def find(name): return 1 / 0", "raised ZeroDivisionError"),
        (
            "import fusiform\n"
            "def find(name): return fusiform.Architecture('bad:x', lambda: 'a network')",
            "bad:x returned str",
        ),
        (
            "import fusiform\ndef find(name): return fusiform.Architecture('bad:x', lambda: 1 / 0)",
            "raised ZeroDivisionError (division by zero; lab_wrong.py, line 2)",
        ),
    ],
)
def test_a_plug_in_that_gives_no_network_is_refused(
    install: Install, source: str, reason: str
) -> None:
    install("lab_wrong", source, backbones={"bad": "lab_wrong:find"})
    assert reason in refusal(lambda: load_backbone("bad:x", "none"))


def test_a_preset_that_is_no_criterion_is_refused(install: Install) -> None:
    install("lab_wrong", "FLOC = 't > 3'", presets={"wrong": "lab_wrong:FLOC"})
    assert "'wrong' is a str" in refusal(lambda: preset("wrong"))


def test_starting_reads_no_entry_points() -> None:
    code = (
        "import importlib.metadata as m; m.entry_points = None\n"
        "import fusiform.cli, fusiform.engine.contrasts.language.presets as p; print(p.FLOC.where)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "t > 3\n"
