"""Dimension names from module, shape and response to image shifts, or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import fusiform
from fusiform.cli import app
from fusiform.engine.errors import UserError
from fusiform.engine.networks.layers import trial
from fusiform.engine.preprocessing import Preprocessing

from . import flat

MAPS, LAST, TOKENS = ("channel", "y", "x"), ("y", "x", "channel"), ("token", "channel")
NO_ORDER = ("axis_0", "channel")
SMALL = Preprocessing(32, 32)
Of = Callable[[torch.Tensor], torch.Tensor]


class Patches(nn.Module):
    """Patches of 4 x 4 pixels with ``channels`` each, passed through ``of``."""

    def __init__(self, of: Of, channels: int = 12) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embed = nn.Conv2d(3, channels, 4, 4)
        self.made = Made(of)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.made(self.embed(x))


class Made(nn.Module):
    """Applies ``of`` to its input."""

    def __init__(self, of: Of) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.of(x)


def nested(x: torch.Tensor) -> torch.Tensor:
    """Blocks of neighbouring patches, as in NesT: [image, block, token, channel]."""
    own = x.unfold(2, 4, 4).unfold(3, 4, 4)
    return own.permute(0, 2, 3, 4, 5, 1).reshape(len(x), 4, 16, -1)


def by_unit(x: torch.Tensor) -> torch.Tensor:
    """Tokens in Hiera's order: by position within units of 2 x 2 first."""
    own = x.reshape(len(x), -1, 4, 2, 4, 2)
    return own.permute(0, 3, 5, 2, 4, 1).reshape(len(x), 64, -1)


def in_order(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).transpose(1, 2)


@pytest.mark.parametrize(
    ("of", "channels", "dims"),
    [
        (lambda x: x, 12, MAPS),
        (lambda x: x, 8, MAPS),  # as many channels as rows
        (lambda x: x.permute(0, 2, 3, 1), 12, LAST),
        (lambda x: x.permute(0, 2, 3, 1), 8, LAST),
        (lambda x: x.mean(3, keepdim=True), 8, MAPS),  # [channel, y, 1]
        (lambda x: x.mean(2, keepdim=True), 12, MAPS),
        (lambda x: x.permute(0, 2, 3, 1).mean(3, keepdim=True), 12, LAST),
        (nested, 12, ("axis_0", "axis_1", "axis_2")),
        (lambda x: in_order(x)[:, None].repeat(1, 3, 1, 1), 12, ("axis_0", "axis_1", "axis_2")),
        (in_order, 12, TOKENS),
        (lambda x: nn.functional.pad(in_order(x), (0, 0, 1, 0)), 12, TOKENS),  # a class token
        (lambda x: x.flatten(2), 12, ("channel", "token")),
        (by_unit, 12, NO_ORDER),
        (lambda x: in_order(x)[:, torch.randperm(64, generator=torch.Generator().manual_seed(0))],
         12, NO_ORDER),
        (lambda x: in_order(x.transpose(2, 3)), 12, NO_ORDER),  # column by column
        (lambda x: in_order(x).mean(1, keepdim=True).expand(-1, 16, -1), 12, NO_ORDER),  # queries
        (lambda x: in_order(x)[:, :20], 12, TOKENS),  # twenty tokens form no square map
    ],
)  # fmt: skip
def test_dimensions_are_recognised_by_shifting_the_image(
    of: Of, channels: int, dims: tuple[str, ...]
) -> None:
    by_name = {layer.name: layer for layer in trial(Patches(of, channels), 32).layers}
    assert by_name["made"].dims == dims
    assert by_name["embed"].dims == MAPS


def test_modules_decide_dimensions_where_shapes_are_ambiguous() -> None:
    square = [
        (nn.Conv2d(3, 8, 4, 4), MAPS),
        (nn.Conv2d(3, 32, (4, 32), (1, 32)), MAPS),  # [32, 29, 1]
        (nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Flatten(2), nn.BatchNorm1d(8)), None),
    ]
    for module, dims in square:
        layers = {layer.name: layer for layer in trial(nn.Sequential(module).eval(), 32).layers}
        if dims:
            assert layers["0"].dims == dims
        else:
            assert layers["0.2"].dims == ("channel", "token")


def test_tokens_mixed_by_attention_keep_the_order_of_the_previous_layer() -> None:
    class Mixed(Patches):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.mix(super().forward(x))

    net = Mixed(in_order)
    net.mix = Made(lambda x: x.mean(1, keepdim=True).expand_as(x))
    assert [layer.dims for layer in trial(net, 32).layers] == [MAPS, TOKENS, TOKENS, TOKENS]


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Any) -> Path:
    return draw_stimuli(tmp_path_factory.mktemp("dims") / "set")


def test_a_layer_without_dimension_names_is_noted_and_takes_given_names(
    stimuli: Path, tmp_path: Path
) -> None:
    def scanned(of: Of, name: str, **options: Any) -> Any:
        return flat.scan(
            Patches(of), stimuli, tmp_path / name, layers="made", preprocessing=SMALL, **options
        )

    found = scanned(by_unit, "o.zarr")
    assert found.layer("made").dims == NO_ORDER
    (note,) = found.provenance["notes"]
    assert note.startswith("dimensions of 1 layers are unknown by shape, module and")
    assert "made 64 x 12" in note
    assert "`dims` (LAYER=channel,y,x)" in note
    analysis = fusiform.analyse(found, analyses=["localisation"])
    assert analysis.localisation == ()
    assert analysis.nameless == ("made",)

    named = scanned(nested, "named.zarr", dims={"m*": "axis_0,token,channel"})
    assert named.layer("made").dims == ("axis_0", "token", "channel")
    assert "notes" in named.provenance  # on axis_0
    named = scanned(by_unit, "tokens.zarr", dims={"made": ["token", "channel"]})
    assert named.layer("made").dims == TOKENS
    assert "notes" not in named.provenance
    assert fusiform.analyse(named, analyses=["localisation"]).nameless == ()

    means = scanned(nested, "means.zarr", dims={"made": "axis_0,token,channel"}, units="channel")
    assert (means.layer("made").dims, means.layer("made").shape) == (("channel",), (12,))
    recorded = flat.record(
        Patches(nested), stimuli, tmp_path / "means.responses.zarr", store=means, random=12
    )
    assert recorded.provenance["dims"] == {"made": ["axis_0", "token", "channel"]}


@pytest.mark.parametrize(
    ("dims", "complaint"),
    [
        ({"mode": "token,channel"}, "there is no 'mode': did you mean made"),
        ({"made": "channel"}, r"made has 2 dimensions \[64, 12\].*got channel"),
        ({"made": "x,x"}, "each with a name of its own"),
        ({"made": "row,column"}, r"\(channel, y, x, token, head, axis_0, axis_1\); got row,column"),
    ],
)
def test_dimension_names_that_do_not_fit_raise(
    stimuli: Path, tmp_path: Path, dims: dict[str, str], complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        flat.scan(
            Patches(by_unit), stimuli, tmp_path / "o.zarr", layers="made", preprocessing=SMALL,
            dims=dims,
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_the_dims_option_of_the_command_line(
    stimuli: Path, tmp_path: Path, write_module: Callable[[str], str]
) -> None:
    module = write_module(
        "from fusiform.tests.test_dims import *\ndef net(): return Patches(by_unit), SMALL\n"
    )
    store = tmp_path / "o.zarr"

    def scanned(*options: str) -> Any:
        arguments = (f"{module}:net", str(stimuli), "-o", str(store), "--layers", "made", "-q")
        return CliRunner().invoke(app, ["scan", *arguments, *options])

    assert not scanned("--dims", "made=token, channel").exception
    assert fusiform.open_store(store).layer("made").dims == TOKENS
    assert "LAYER=DIM,DIM,..." in str(scanned("--overwrite", "--dims", "token").exception)
    twice = scanned("--overwrite", "--dims", "made=token,channel", "--dims", "made=y,x")
    assert "made has two: leave one out" in str(twice.exception)
