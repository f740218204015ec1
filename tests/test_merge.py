"""Merging the parts of any split equals one scan."""

from __future__ import annotations

import csv
import shutil
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import fusiform
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.select import materialise, save_contrast
from fusiform.engine.errors import UserError
from fusiform.engine.layer import Layer
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.registry import MOMENTS, VARIABLES
from fusiform.engine.store.writing.creating import create_store
from fusiform.kernels.moments import Moments

from . import flat
from .made import annotate

LAYER = Layer("conv", "Conv2d", ("channel", "y", "x"), (3, 2, 2), "float32")
CATEGORIES = ("faces", "bodies", "scenes")


def store_of(
    path: Path, x: np.ndarray, category: Sequence[int], fold: Sequence[int], own: Sequence[int]
) -> Store:
    """A finished store of the stimuli ``own`` of a synthetic set."""
    present = list(dict.fromkeys(category[i] for i in own))
    counts = np.zeros((len(present), 2), np.int64)
    for i in own:
        counts[present.index(category[i]), fold[i]] += 1
    draft = create_store(
        path,
        layers=[LAYER],
        categories=[CATEGORIES[k] for k in present],
        counts=counts,
        stimuli={
            "stimulus_path": [f"{i}.png" for i in own],
            "stimulus_category": [present.index(category[i]) for i in own],
            "stimulus_fold": [fold[i] for i in own],
            "stimulus_sha256": [f"{i:064x}" for i in own],
            "stimulus_status": ["shown"] * len(own),
        },
        provenance={"model": "made-up", "weights": "none", "weights_sha256": "0" * 64},
    )
    for row, k in enumerate(present):
        for f in range(2):
            mine = x[[i for i in own if category[i] == k and fold[i] == f]]
            m2 = ((mine - mine.mean(0)) ** 2).sum(0)
            moments = Moments(len(mine), mine.mean(0), m2)
            draft.write_moments(LAYER, row, f, moments)
    if len(present) > 1:
        materialise(draft)
    else:  # nothing to compare with
        columns = {
            name: np.zeros(
                (*({"category": 1, "fold": 2}[dim] for dim in variable.leading), LAYER.units),
                variable.dtype,
            )
            for name, variable in VARIABLES.items()
            if name not in MOMENTS
        }
        draft.write_contrasts(LAYER, columns)
    draft.complete()
    return Store.open(path)


def test_category_names_in_decomposed_unicode_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x, category, fold = rng.normal(size=(12, 3, 2, 2)), [0, 0, 1, 1] * 3, [0, 1] * 6
    parts = []
    for form in ("NFC", "NFD"):
        names = tuple(unicodedata.normalize(form, name) for name in ("t\u00eates", "\u00e9crits"))
        monkeypatch.setitem(globals(), "CATEGORIES", names)
        own = range(0, 8) if form == "NFC" else range(8, 12)
        parts.append(store_of(tmp_path / f"{form}.zarr", x, category, fold, own))
    found = fusiform.merge([part.path for part in parts], tmp_path / "m.zarr")
    assert found.categories == parts[0].categories
    assert found.counts.tolist() == [[3, 3], [3, 3]]
    mine = x[[i for i in range(12) if category[i] == 0 and fold[i] == 0]]
    mean = found.read(found.layers[0], "mean")[0, 0]
    np.testing.assert_allclose(mean, mine.mean(0).ravel())


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n_parts=st.integers(2, 4),
    mean=st.sampled_from([0.0, 1.0, 1e4]),
    whole_categories=st.booleans(),
)
def test_merging_any_split_gives_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    n_parts: int,
    mean: float,
    whole_categories: bool,
) -> None:
    folder, rng = tmp_path_factory.mktemp("split"), np.random.default_rng(seed)
    category = np.repeat([0, 1, 2], 16)
    fold = np.tile([0, 1], 24)
    # Every part has at least two stimuli per category and fold.
    if whole_categories:
        part = rng.permutation([0, 1, rng.integers(2)])[category]
    else:
        part = np.concatenate(
            [rng.permutation([*np.repeat(range(n_parts), 2),
                              *rng.integers(0, n_parts, 8 - 2 * n_parts)]) for _ in range(6)]
        )[np.argsort(np.lexsort((fold, category)))]  # fmt: skip
    x = rng.normal(mean, rng.uniform(1e-2, 1e2), (48, *LAYER.shape))
    whole = store_of(folder / "whole.zarr", x, category, fold, range(48))
    paths = []
    for p in rng.permutation(part.max() + 1):
        paths.append(folder / f"{p}.zarr")
        store_of(paths[-1], x, category, fold, np.flatnonzero(part == p))
    merged = fusiform.merge(paths, folder / "merged.zarr")
    assert set(merged.categories) == set(CATEGORIES)
    places = [merged.categories.index(name) for name in CATEGORIES]
    for name in ("mean", "m2"):
        found = merged.read(LAYER, name)[places]
        if whole_categories:
            np.testing.assert_array_equal(found, whole.read(LAYER, name))
        # A mean is as precise as the largest value in it.
        np.testing.assert_allclose(found, whole.read(LAYER, name), rtol=1e-12, atol=1e-14 * mean)
    assert merged.counts[places].tolist() == whole.counts.tolist()
    hashes = merged.stimulus_column("stimulus_sha256")
    for i, digest in enumerate(hashes):
        own = int(digest, 16)
        assert (
            merged.categories[merged.stimulus_column("stimulus_category")[i]]
            == CATEGORIES[category[own]]
        )
        assert merged.stimulus_column("stimulus_fold")[i] == fold[own]
    assert len(set(hashes)) == 48
    assert fusiform.check(merged.path).problems == ()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, draw_stimuli: Callable[..., Path]) -> Path:
    """``stimuli``, 16 of each of three categories, and ``whole.zarr``, the scan of all."""
    folder = tmp_path_factory.mktemp("merge")
    draw_stimuli(folder / "stimuli", each=16)
    scan(folder, "whole.zarr")
    return folder


def scan(folder: Path, output: str, stimuli: Path | None = None, **options: Any) -> Store:
    defaults = {
        "layers": ["conv", "head"], "batch_size": 8, "decode_workers": 1,
        "preprocessing": fusiform.Preprocessing(resize=32, crop=32),
    }  # fmt: skip
    source = stimuli or folder / "stimuli"
    return flat.scan(Net(), source, folder / output, **{**defaults, **options})


def listed(folder: Path, name: str, chosen: Callable[[int], bool]) -> Path:
    """Write a manifest of some stimuli of every category."""
    path = folder / name
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "category"])
        for category in ("blobs", "noise", "stripes"):
            for i in range(1, 17):
                if chosen(i):
                    writer.writerow([f"stimuli/{category}/{category}-{i}.png", category])
    return path


def test_merging_categories_gives_the_bits_of_one_scan(folder: Path) -> None:
    whole = open_store(folder / "whole.zarr")
    scan(folder, "two.zarr", groups={"blobs": ["blobs"], "noise": ["noise"]})
    scan(folder, "other.zarr", groups={"noise": ["noise"], "stripes": ["stripes"]})
    # A scan needs two categories: the one in both parts is removed by hand.
    with pytest.raises(UserError, match=r"counted once; .*both have noise/noise-1\.png"):
        fusiform.merge([folder / "two.zarr", folder / "other.zarr"], folder / "merged.zarr")
    assert not (folder / "merged.zarr").exists()
    renamed = shutil.copytree(folder / "stimuli" / "noise", folder / "more" / "hiss")
    for path in renamed.iterdir():  # another file, the same picture
        with path.open("ab") as file:
            file.write(b"\0")
    shutil.copytree(folder / "stimuli" / "stripes", folder / "more" / "stripes")
    scan(folder, "more.zarr", folder / "more")
    merged = fusiform.merge([folder / "two.zarr", folder / "more.zarr"], folder / "merged.zarr")
    assert merged.categories == ("blobs", "noise", "hiss", "stripes")
    for layer in whole.layers:
        for variable in ("mean", "m2"):
            found, expected = merged.read(layer, variable), whole.read(layer, variable)
            np.testing.assert_array_equal(found[[0, 1, 3]], expected)
            np.testing.assert_array_equal(found[2], expected[1])
    assert fusiform.check(merged.path).problems == ()


def test_merging_stimuli_equals_one_scan(folder: Path) -> None:
    whole = open_store(folder / "whole.zarr")
    parts = []
    for name, chosen in (("first", lambda i: i <= 8), ("second", lambda i: i > 8)):
        manifest = listed(folder, f"{name}.csv", chosen)
        parts.append(scan(folder, f"{name}.zarr", manifest).path)
    merged = fusiform.merge(parts, folder / "both.zarr")
    assert merged.counts.tolist() == whole.counts.tolist()
    for layer in whole.layers:
        for variable, definition in VARIABLES.items():
            if definition.dtype == "float64":
                np.testing.assert_allclose(
                    merged.read(layer, variable), whole.read(layer, variable), rtol=1e-12
                )
            elif variable == "t":
                np.testing.assert_allclose(
                    merged.read(layer, variable), whole.read(layer, variable), rtol=1e-6
                )
    provenance = merged.provenance
    assert provenance["merged"] == [open_store(part).provenance["fingerprint"] for part in parts]
    assert provenance["fingerprint"] not in provenance["merged"]
    assert fusiform.check(merged.path).problems == ()
    # A later set is merged into the earlier merged store, and replaces it.
    more = shutil.copytree(folder / "stimuli", folder / "later")
    for path in more.rglob("*.png"):
        with path.open("ab") as file:
            file.write(b"\0")
    later = scan(folder, "later.zarr", more)
    again = fusiform.merge([merged.path, later.path], merged.path, overwrite=True)
    assert again.counts.tolist() == (2 * whole.counts).tolist()
    for layer in whole.layers:
        np.testing.assert_allclose(again.read(layer, "m2"), 2 * whole.read(layer, "m2"), rtol=1e-12)


def test_merging_layers_equals_one_scan(folder: Path) -> None:
    options = {"null": 3, "null_units": 4}
    parts = [scan(folder, f"{name}.zarr", layers=[name], **options) for name in ("conv", "head")]
    merged = fusiform.merge([part.path for part in parts], folder / "layers.zarr")
    whole = open_store(folder / "whole.zarr")
    assert merged.layers == whole.layers
    for layer in whole.layers:
        for variable in VARIABLES:
            np.testing.assert_array_equal(merged.read(layer, variable), whole.read(layer, variable))
        (own,) = (part for part in parts if layer in part.layers)
        for found, expected in zip(merged.null_of(layer), own.null_of(layer), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert merged.shuffles == 3
    assert fusiform.check(merged.path).problems == ()
    with pytest.raises(UserError, match=r"if their layers differ; .*both have conv"):
        fusiform.merge([whole.path, parts[0].path], folder / "never.zarr")


def test_a_merged_store_notes_what_it_lacks(folder: Path) -> None:
    manifests = [listed(folder, f"n{r}.csv", lambda i, r=r: i % 2 == r) for r in range(2)]
    parts = [scan(folder, f"n{i}.zarr", m, null=2) for i, m in enumerate(manifests)]
    save_contrast(parts[0], "mine", Criterion("rest"), "blobs > noise")
    notes: list[str] = []
    paths = [part.path for part in parts]
    merged = fusiform.merge(paths, folder / "without.zarr", note=notes.append)
    assert [note.partition(":")[0] for note in notes] == [
        "saved contrasts are not merged", "shuffled labels are not merged",
    ]  # fmt: skip
    assert (merged.saved, merged.shuffles) == ({}, 0)
    assert "null" not in merged.provenance
    with pytest.raises(UserError, match="`overwrite=True`"):
        fusiform.merge(paths, folder / "without.zarr")


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"preprocessing": fusiform.Preprocessing(resize=34, crop=32)}, r"preprocessing: .*34"),
        ({"folds": 1}, "folds: 2 and 1"),
        ({"batch_size": 16}, "batch size: 8 and 16"),
        ({"layers": "head"}, "layers: only one has conv"),
        ({"store_dtype": "float32"}, "precision of the store: float64 and float32"),
    ],
)
def test_merging_incompatible_stores_names_the_difference(
    folder: Path, options: dict[str, Any], difference: str
) -> None:
    half = listed(folder, "half.csv", lambda i: i <= 8)
    other = listed(folder, "other.csv", lambda i: i > 8)
    scan(folder, "half.zarr", half, overwrite=True)
    scan(folder, "differs.zarr", other, overwrite=True, **options)
    with pytest.raises(
        UserError, match=f"half.zarr and .*differs.zarr differ in their {difference}"
    ):
        fusiform.merge([folder / "half.zarr", folder / "differs.zarr"], folder / "never.zarr")
    assert not (folder / "never.zarr").exists()


def test_merging_stores_of_other_weights_names_them(folder: Path) -> None:
    half = scan(folder, "half.zarr", listed(folder, "half.csv", lambda i: i <= 8), overwrite=True)
    path = Path(shutil.copytree(folder / "whole.zarr", folder / "weights.zarr"))
    annotate(path, weights_sha256="0" * 64)
    with pytest.raises(UserError, match=r"differ in their weights: as given \(.*\) and as given"):
        fusiform.merge([half.path, path], folder / "never.zarr")
    with pytest.raises(UserError, match="at least two stores; got 1"):
        fusiform.merge([path], folder / "never.zarr")
