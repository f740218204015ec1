"""Damage of every kind: ``check`` finds it, and reading the damaged part raises."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

import fusiform
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.select import save_contrast
from fusiform.engine.contrasts.summary import summary
from fusiform.engine.errors import UserError
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.store.writing.creating import create_store

from .made import LAYERS, annotate, contents, fill, write


@pytest.fixture(scope="module")
def whole(made_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole store, with a saved contrast."""
    path = Path(shutil.copytree(made_path, tmp_path_factory.mktemp("check") / "whole.zarr"))
    save_contrast(open_store(path), "two", Criterion("rest"), "faces > bodies")
    return path


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "own.zarr"))


def file_of(folder: Path) -> Path:
    return max(folder.glob("c.*"))


def flip(path: Path, place: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 16
    path.write_bytes(content)


def test_check_finds_no_problem_in_a_whole_store(own: Path) -> None:
    found = fusiform.check(own)
    assert found.problems == ()
    assert found.bytes_read > sum(2 * 8 * 8 * layer.units for layer in LAYERS)
    assert found.arrays > 10 * len(LAYERS)


# Damage -> the problem that check names, and the reader that raises.
Asking = Callable[[Store], object]


def asks_t(store: Store) -> object:
    return store.query("t > 1").counts()


def asks_moments(store: Store) -> object:
    return summary(store, Criterion("rest", "t > 1"))


@pytest.mark.parametrize(
    ("variable", "reader"),
    [
        ("head/t", asks_t),
        ("layer1.0/extremes", asks_t),
        ("head/mean", asks_moments),
        ("encoder.ln/m2", asks_moments),
        ("count", asks_moments),
        ("layer1.0/selective", lambda store: store.mask("faces", "layer1.0")),
        ("layer1.0/dead", fusiform.summary),
        ("head/two/t", lambda store: store.query("t > 1", saved="two").counts()),
    ],
)
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_damaged_chunk_is_found_and_raises_when_read(
    own: Path, variable: str, reader: Asking, damage: str
) -> None:
    path = file_of(own / variable)
    if damage == "flipped":
        flip(path)
    else:
        path.unlink()
    problems = fusiform.check(own).problems
    assert [problem for problem in problems if problem.startswith(f"{variable}:")]
    assert len(problems) <= 2  # and nothing else but what depends on it
    with pytest.raises(UserError, match=f"cannot read {variable} of .*fusiform check"):
        reader(open_store(own))


@pytest.mark.parametrize("variable", ["head/mean", "layer1.0/csi", "head/selective"])
@pytest.mark.parametrize("left", [0, 1, -7])
def test_a_truncated_file_is_found_and_raises_when_read(
    own: Path, variable: str, left: int
) -> None:
    path = file_of(own / variable)
    path.write_bytes(path.read_bytes()[:left])
    assert any(problem.startswith(f"{variable}:") for problem in fusiform.check(own).problems)
    layer, _, name = variable.rpartition("/")
    with pytest.raises(UserError, match=f"cannot read {variable} of"):
        open_store(own).read(open_store(own).layer(layer), name)


@pytest.mark.parametrize("place", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])  # also in a shard's index
def test_a_flipped_bit_anywhere_is_found(own: Path, place: float) -> None:
    flip(file_of(own / "head" / "mean"), place)
    assert any(problem.startswith("head/mean:") for problem in fusiform.check(own).problems)


def test_missing_and_malformed_arrays_are_found(own: Path) -> None:
    shutil.rmtree(own / "head" / "t")
    (own / "layer1.0" / "csi" / "zarr.json").write_text("{}")
    shutil.rmtree(own / "encoder.ln" / "two")
    problems = "\n".join(fusiform.check(own).problems)
    assert "head/t: is missing" in problems
    assert "layer1.0/csi: has unreadable metadata" in problems
    assert "encoder.ln/two/t: is missing" in problems
    with pytest.raises(UserError, match="cannot read head/t of"):
        open_store(own).query("t > 1").counts()


def test_inconsistent_numbers_are_found(own: Path) -> None:
    root = zarr.open_group(own, mode="r+", use_consolidated=False)
    root["count"][0, 0] = 5  # type: ignore[index]
    problems = fusiform.check(own).problems
    assert problems == ("count: says 5 stimuli of faces in fold 0; the stimulus table has 12",)
    root["count"][0, 0] = 12  # type: ignore[index]
    root["head/t"][0, 3] = 1e6  # type: ignore[index]
    assert fusiform.check(own).problems == (
        "head/extremes: are not those of t: queries would miss units",
    )


def test_a_changed_table_or_attribute_contradicts_the_fingerprint(own: Path) -> None:
    root = zarr.open_group(own, mode="r+", use_consolidated=False)
    root["stimulus_sha256"][3] = "f" * 64  # type: ignore[index]
    (problem,) = fusiform.check(own).problems
    assert problem.startswith("fingerprint: ")
    root["stimulus_sha256"][3] = f"{3:064x}"  # type: ignore[index]
    assert fusiform.check(own).problems == ()
    annotate(own, model="another")
    (problem,) = fusiform.check(own).problems
    assert problem.startswith("fingerprint: ")


def test_stale_consolidated_metadata_is_found(own: Path) -> None:
    path = own / "head" / "t" / "zarr.json"
    metadata = json.loads(path.read_text())
    metadata["attributes"]["long_name"] = "something else"
    path.write_text(json.dumps(metadata))
    assert fusiform.check(own).problems == (
        "head/t: has metadata that differ from those consolidated in the root",
    )


def test_wrong_shapes_and_types_are_found(own: Path) -> None:
    root = zarr.open_group(own, mode="r+", use_consolidated=False)
    del root["head/csi"]
    root.create_array("head/csi", shape=(4, 12), dtype="float64", dimension_names=["a", "unit"])
    with pytest.warns(UserWarning, match="Consolidated"):
        zarr.consolidate_metadata(own)
    assert (
        "head/csi: must be float32 [category 4, unit 11]; got float64 [a 4, unit 12]"
        in fusiform.check(own).problems
    )


def test_a_half_written_store_is_found_and_raises_when_read(tmp_path: Path) -> None:
    draft = create_store(tmp_path / "half.zarr", **contents())
    assert fusiform.check(draft.path).problems == ("the scan that fills it has not finished",)
    write(draft)
    store = open_store(draft.path)
    for ask in (
        asks_t,
        asks_moments,
        lambda s: s.select("faces"),
        lambda s: s.mask("faces", "head"),
    ):
        with pytest.raises(UserError, match="has not finished"):
            ask(store)


def test_an_unknown_schema_version_raises(own: Path) -> None:
    for version in (1, 2, "x", None):
        annotate(own, schema_version=version)
        for reader in (open_store, fusiform.check):
            with pytest.raises(UserError, match=r"reads stores of schema 4; .* scan again"):
                reader(own)


def test_a_root_without_attributes_raises(own: Path) -> None:
    root = zarr.open_group(own, mode="r+", use_consolidated=False)
    del root.attrs["layers"]
    for reader in (open_store, fusiform.check):
        with pytest.raises(UserError, match=r"is damaged.*layers"):
            reader(own)
    (own / "zarr.json").write_text("{")
    with pytest.raises(UserError, match="not a zarr v3 store"):
        fusiform.check(own)


def everything(path: Path) -> list[object]:
    """All numbers of a one-layer store, as each kind of reader gets them."""
    store = open_store(path)
    found: list[object] = [summary(store, Criterion("rest", "t > 1"))]
    found += [store.query("t > 1", saved=name).counts() for name in (None, "two")]
    keys = [*store.schema.of_root(), *store.schema.of_layer(store.layers[0])]
    found += [np.asarray(store._part(key)).tolist() for key in keys]
    tree = store.tree()
    found += [values.values.tolist() for node in tree.subtree for values in node.variables.values()]
    return [repr(one) for one in found]


def test_check_passes_exactly_where_readers_get_the_right_numbers(tmp_path: Path) -> None:
    path = fill(tmp_path / "own.zarr", LAYERS[2:]).path
    save_contrast(path, "two", Criterion("rest"), "faces > bodies", ["t"])
    expected, rng = everything(path), np.random.default_rng(0)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    for number, file in enumerate(rng.permutation(np.array(files, object))[::3]):
        before = file.read_bytes()
        if number % 3 == 0:
            file.unlink()
        elif number % 3 == 1:
            file.write_bytes(before[: rng.integers(len(before))])
        else:
            flip(file, rng.random())
        whole = read = False
        with contextlib.suppress(UserError):
            whole = not fusiform.check(path).problems
        with contextlib.suppress(UserError):
            read = everything(path) == expected
        assert whole == read, (number % 3, file)
        file.write_bytes(before)


def test_all_false_masks_are_written_so_that_a_loss_is_noticed(own: Path) -> None:
    # By default zarr omits chunks that hold only fill values: a lost mask would then read as
    # one that selects nothing.
    assert not np.asarray(zarr.open_array(own / "head" / "nonfinite", mode="r")[:]).any()
    file_of(own / "head" / "nonfinite").unlink()
    assert fusiform.check(own).problems == ("head/nonfinite: file c.0 is missing or empty",)
    with pytest.raises(UserError, match="cannot read head/nonfinite"):
        summary(open_store(own))
