"""Manifests in CSV, Parquet and Arrow give the same catalogue; listed hashes are compared."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import feather, parquet

from fusiform.engine.errors import UserError
from fusiform.engine.moments.plan import make_plan
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.stimuli import catalogue as catalogue_module
from fusiform.engine.stimuli import listing, manifest
from fusiform.engine.stimuli.catalogue import Catalogue, read_catalogue

from . import flat
from .flat import decode_ahead

SUFFIXES = [".csv", ".parquet", ".arrow", ".feather"]
SMALL = Preprocessing(8, 8)


def write(path: Path, /, **columns: Sequence[Any]) -> Path:
    """Write a table in the format of its suffix."""
    if path.suffix == ".csv":
        lines = [columns, *zip(*columns.values(), strict=True)]
        path.write_text("".join(",".join(map(str, line)) + "\n" for line in lines), "utf-8")
    elif path.suffix == ".parquet":
        parquet.write_table(pa.table(columns), path, row_group_size=3)
    else:
        compression = "uncompressed" if path.suffix == ".arrow" else "lz4"
        feather.write_feather(pa.table(columns), path, compression=compression, chunksize=3)
    return path


def pictures(root: Path, number: int = 8) -> list[str]:
    rng = np.random.default_rng(0)
    names = [f"é {i}.png" for i in range(number)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / name)
    return names


def hashes(root: Path, names: Sequence[str]) -> list[str]:
    return [hashlib.sha256((root / name).read_bytes()).hexdigest() for name in names]


@pytest.mark.smoke
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_manifest_format_gives_the_same_catalogue(tmp_path: Path, suffix: str) -> None:
    names = pictures(tmp_path)
    source = write(tmp_path / f"set{suffix}", note=range(8), category=[*"babababa"], path=names)
    found = read_catalogue(source)
    assert found.categories == ("b", "a")
    assert found.names == (*names[::2], *names[1::2])
    assert found.labels.tolist() == [0] * 4 + [1] * 4
    assert [one.sha256 for one in found.contents] == hashes(tmp_path, found.names)


def test_classes_may_be_whole_numbers_or_a_dictionary(tmp_path: Path) -> None:
    names = pictures(tmp_path)
    for category in (pa.array([3, 10] * 4), pa.array(["3", "10"] * 4).dictionary_encode()):
        source = write(tmp_path / "set.parquet", path=names, category=category)
        assert read_catalogue(source).categories == ("3", "10")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("columns", "culprit"),
    [
        ({"file": ["1"], "category": ["a"]}, "file, category"),
        ({"path": ["1", " "], "category": ["a", "b"]}, "no path, b"),
        ({"path": ["1", "2", "1"], "category": [*"aba"]}, "repeats 1"),
        ({"path": ["1", "./1", "2"], "category": [*"aba"]}, "repeats ./1"),
        ({"path": ["1", "../2", "3"], "category": [*"aba"]}, "../2 is outside"),
        ({"path": [*"12"], "category": [*"ab"], "sha256": ["0f" * 32, "0f"]}, "sha256"),
        ({"path": [*"12"], "category": [*"ab"], "sha256": ["0f" * 32, "x" * 64]}, "sha256"),
        ({"path": [*"12"], "category": [*"ab"], "sha256": ["0f" * 32, "0" * 64]}, "sha256"),
    ],
)
def test_faulty_manifests_are_refused(
    tmp_path: Path, suffix: str, columns: dict[str, list[str]], culprit: str
) -> None:
    source = write(tmp_path / f"set{suffix}", **columns)
    with pytest.raises(UserError) as caught:
        read_catalogue(source)
    assert culprit in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
@pytest.mark.parametrize("damage", ["emptied", "cut", "text"])
def test_files_that_are_no_tables_are_refused(tmp_path: Path, suffix: str, damage: str) -> None:
    source = write(tmp_path / f"set{suffix}", path=[*"12"], category=[*"ab"])
    whole = source.read_bytes()
    source.write_bytes({"emptied": b"", "cut": whole[:-9], "text": b"path,category\n"}[damage])
    with pytest.raises(UserError, match=r"is not \("):
        read_catalogue(source)


@pytest.mark.parametrize("joined", [False, True])
def test_streams_that_do_not_end_as_one_are_refused(tmp_path: Path, joined: bool) -> None:
    """pyarrow takes a stream cut between its batches for a shorter one."""
    source = tmp_path / "set.arrow"
    table = pa.table({"path": [*"1234"], "category": [*"abab"]})
    with pa.ipc.new_stream(os.fspath(source), table.schema) as writer:
        writer.write_table(table, 2)
    whole = source.read_bytes()
    assert len(read_catalogue(source)) == 4
    with pa.OSFile(os.fspath(source)) as file:
        pa.ipc.open_stream(file).read_next_batch()
        between = file.tell()
    source.write_bytes(whole * 2 if joined else whole[:between])
    with pytest.raises(UserError, match="does not end as a stream does"):
        read_catalogue(source)


def test_nulls_and_numbers_are_refused_as_paths(tmp_path: Path) -> None:
    source = write(tmp_path / "set.parquet", path=["1", None], category=[*"ab"])
    with pytest.raises(UserError, match="row 2 has no path, b"):
        read_catalogue(source)
    write(source, path=[1, 2], category=[*"ab"])
    with pytest.raises(UserError, match=r"path of .* holds int64"):
        read_catalogue(source)


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_column_names_are_recognised_in_every_format(tmp_path: Path, suffix: str) -> None:
    names = pictures(tmp_path)
    source = write(tmp_path / f"set{suffix}", **{" category": [*"abababab"], "path ": names})
    assert read_catalogue(source).categories == ("a", "b")
    twice = pa.table([names, [*"abababab"], [*"xyxyxyxy"]], ["path", "category", "category"])
    if suffix == ".parquet":
        parquet.write_table(twice, source)
    else:
        with pa.OSFile(str(source), "wb") as file, pa.ipc.new_file(file, twice.schema) as out:
            out.write_table(twice)
    with pytest.raises(UserError, match="category twice"):
        read_catalogue(source)


def test_arrow_offsets_beyond_the_file_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "set.arrow"
    table = pa.table({"path": [f"{i}.png" for i in range(4)], "category": [*"abab"]})
    with pa.OSFile(str(source), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
        out.write_table(table)
    content = source.read_bytes()
    offsets = np.arange(5, dtype="<i4").tobytes()
    assert offsets in content
    changed = np.array([0, 2**30, 2, 3, 4], "<i4").tobytes()
    source.write_bytes(content.replace(offsets, changed))
    with pytest.raises(UserError, match=r"is not \("):
        read_catalogue(source)


def test_paths_whose_hashes_collide_are_distinguished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "are_alike", lambda _: True)
    source = write(tmp_path / "set.csv", path=[*"1234"], category=[*"abab"])
    assert len(read_catalogue(source)) == 4


# Hashes in a manifest


@pytest.fixture
def listed(tmp_path: Path) -> Catalogue:
    names = pictures(tmp_path)
    given = [digest.upper() for digest in hashes(tmp_path, names)]
    return read_catalogue(
        write(tmp_path / "set.parquet", path=names, category=[*"abababab"], sha256=given)
    )


def test_with_given_hashes_no_file_is_read_before_it_is_shown(
    listed: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = hashes(listed.root, listed.names)
    monkeypatch.setattr(listing, "read_stimulus", lambda _: pytest.fail("it was read"))
    assert [one.sha256 for one in listed.contents] == expected


def test_a_file_with_another_hash_than_listed_is_not_shown(listed: Catalogue) -> None:
    Image.new("RGB", (8, 8)).save(listed.path(5))
    plan = make_plan(listed.labels, listed.categories, batch_size=8)
    (decoded,) = decode_ahead(listed, plan, SMALL, 1, skip=True)
    assert list(decoded.failed.values()) == ["does not have the sha256 of its manifest"]
    assert decoded.batch.stimuli[[*decoded.failed]].tolist() == [5]


def test_hashes_in_a_manifest_do_not_change_the_scan(listed: Catalogue, tmp_path: Path) -> None:
    import torch

    names, labels = list(listed.names), [listed.categories[k] for k in listed.labels]
    plain = write(tmp_path / "plain.csv", path=names, category=labels)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    stores = [
        flat.scan(
            net, source, tmp_path / f"{source.stem}.zarr", layers="0", device="cpu",
            preprocessing={"resize": 8, "crop": 8}, batch_size=4,
        )
        for source in (plain, tmp_path / "set.parquet")
    ]  # fmt: skip
    assert len({store.provenance["fingerprint"] for store in stores}) == 1
    means = [store.read(store.layers[0], "mean") for store in stores]
    np.testing.assert_array_equal(*means)


def test_reading_stimuli_reports_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = pictures(tmp_path)
    source = write(tmp_path / "set.csv", path=names, category=[*"abababab"])
    monkeypatch.setattr(catalogue_module, "_AT_ONCE", 3)
    said: list[tuple[int, int]] = []
    found = read_catalogue(source)
    assert found.look(lambda *done: said.append(done)) is found.contents
    assert said == [(3, 8), (6, 8), (8, 8)]


def test_a_catalogue_takes_few_bytes_per_stimulus(tmp_path: Path) -> None:
    n = 20_000
    names = [f"{i}.png" for i in range(n)]
    source = write(tmp_path / "set.csv", path=names, category=[*"ab"] * (n // 2))
    found = read_catalogue(source)
    held = found.names.content.nbytes + found.names.ends.nbytes + found.labels.nbytes
    assert held == sum(map(len, names)) + 8 * n
