"""Hostile stores are refused in one line, within bounds of time and memory."""

from __future__ import annotations

import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
import zarr
from zarr.codecs import GzipCodec, ZstdCodec

import fusiform
from fusiform import Criterion, cli, open_store
from fusiform.engine.errors import UserError
from fusiform.engine.store import chunking
from fusiform.engine.store.metadata import ROOT_BYTES

from .made import fill

SECONDS = 15.0


@pytest.fixture
def own(made_path: Path, tmp_path: Path) -> Path:
    """A copy of a whole store, to be made hostile."""
    return Path(shutil.copytree(made_path, tmp_path / "own.zarr"))


@pytest.fixture
def fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a chunk per category and fold."""
    monkeypatch.setattr(chunking, "_CHUNK_UNITS", 11)
    return Path(fill(tmp_path / "fine.zarr").path)


@pytest.fixture(autouse=True)
def _in_time_and_memory() -> Iterator[None]:
    """Bound the processor time and peak memory of every test here."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()  # other processes may be busy
    yield
    assert time.process_time() - started < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the root's zarr.json."""
    document = json.loads((path / "zarr.json").read_text())
    change(document)
    (path / "zarr.json").write_text(json.dumps(document))


def rewrite_array(path: Path, key: str, **fields: Any) -> None:
    """Change an array's metadata, in its own file and in the root's consolidated copy."""
    own = path / key / "zarr.json"
    document = {**json.loads(own.read_text()), **fields}
    own.write_text(json.dumps(document))
    rewrite(path, lambda root: root["consolidated_metadata"]["metadata"].update({key: document}))


def seal(content: bytes) -> bytes:
    return content + struct.pack("<I", google_crc32c.value(content))


OPENERS = (open_store, fusiform.check, fusiform.info)
WHOLE_NUMBER = "must be an integer from 1 to"

ATTRIBUTES: dict[str, tuple[dict[str, Any], str]] = {
    "a million categories": (
        {"categories": [str(k) for k in range(1_000_000)]},
        "number of categories must be 1 to 10,000; got 1000000",
    ),
    "categories of numbers": ({"categories": [1, None, {}]}, "categories must be texts"),
    "a category without end": (
        {"categories": ["x" * 10**6]},
        "categories must be texts of at most 1,000 characters",
    ),
    "categories twice": ({"categories": ["a", "a"]}, "categories must be different names"),
    "a text of categories": ({"categories": "faces"}, "categories must be a list"),
    "a billion folds": ({"folds": 10**9}, f"folds {WHOLE_NUMBER} 10,000; got 1000000000"),
    "no folds": ({"folds": 0}, f"folds {WHOLE_NUMBER}"),
    "half a fold": ({"folds": 1.5}, f"folds {WHOLE_NUMBER}"),
    "true folds": ({"folds": True}, f"folds {WHOLE_NUMBER}"),
    "files without end": (
        {"categories": [str(k) for k in range(9_999)], "folds": 9_999},
        "categories times folds must be at most 1,000,000",
    ),
    "a precision that is none": ({"store_dtype": "object"}, "store_dtype must be one of"),
    "compiled somehow": ({"compiled": "no"}, "compiled must be true or false"),
    "negative stimuli": ({"n_stimuli": -1}, "n_stimuli must be an integer from 0"),
    "shuffles without end": (
        {"null": {"shuffles": 10**15, "units": 1}},
        "shuffles of the null must be an integer from 0 to 1,000,000",
    ),
    "a model that is none": ({"model": {"a": 1}}, "model must be a text"),
    "a model without end": ({"model": "x" * 10**6}, "model must be a text"),
    "a saved contrast elsewhere": (
        {"saved": {"../../x": {}}},
        "name of a saved contrast must be letters, digits and _; got '../../x'",
    ),
    "saved measures that are none": (
        {"saved": {"two": {"measures": ["__class__"]}}},
        "measures of saved contrast 'two'",
    ),
    "modules that are none": ({"modules": [{}]}, "modules must be a list of texts"),
    "answers of texts": ({"answers": {"conv": ["x"] * 5}}, "answers must be 5 numbers for each"),
    "answers that are no numbers": (
        {"answers": {"conv": [float("nan")] * 5}},
        "answers must be 5 numbers for each layer",
    ),
    "answers without end": ({"answers": {"conv": [10**400] * 5}}, "answers must be 5 numbers"),
    "too few answers": ({"answers": {"conv": [1.0]}}, "answers must be 5 numbers for each layer"),
    "lists in lists": ({"versions": [[[[[[[[[[]]]]]]]]]]}, "nested at most 8 deep"),
}


@pytest.mark.parametrize("what", ATTRIBUTES)
def test_malformed_root_metadata_are_refused(own: Path, what: str) -> None:
    changed, said = ATTRIBUTES[what]
    rewrite(own, lambda root: root["attributes"].update(changed))
    for opener in OPENERS:
        with pytest.raises(UserError, match="is damaged: its root is not whole") as caught:
            opener(own)
        assert said in str(caught.value)
        assert len(str(caught.value)) < 600
        assert "\n" not in str(caught.value)


LAYERS: dict[str, tuple[dict[str, Any], str]] = {
    "a name that leads out": ({"name": "../../etc"}, "a layer's name"),
    "a name with a folder in it": ({"name": "a/b"}, "a layer's name"),
    "a name that a terminal obeys": ({"name": "\x1b[2Jconv"}, r"got '\x1b[2Jconv'"),
    "a name written backwards": ({"name": "conv\u202e"}, "a layer's name"),
    "half a character": ({"name": "\ud800"}, "a layer's name"),
    "a name too long for a file": ({"name": "x" * 10_000}, "a layer's name"),
    "no name": ({"name": ""}, "a layer's name"),
    "a name of the root's": ({"name": "count"}, "a layer's name"),
    "a name that is none": ({"name": 3}, "layers must be records of name"),
    "a trillion units": (
        {"dims": ["unit"], "shape": [10**12]},
        "shape of layer 'layer1.0' must be sizes from 1",
    ),
    "units without end": ({"shape": [2**20, 2**20, 2**20]}, "at most 2,147,483,647"),
    "a negative shape": ({"shape": [-5, 3, 2]}, "sizes from 1"),
    "a shape of texts": ({"shape": ["5", 3, 2]}, "sizes from 1"),
    "dims that are variables": ({"dims": ["t", "y", "x"]}, "dims of layer"),
    "one dim twice": ({"dims": ["x", "x", "y"]}, "dims of layer"),
    "fewer dims than sizes": ({"dims": ["x"]}, "dims of layer"),
    "a type that is none": ({"dtype": "object"}, "dtype of layer"),
    "a field too many": ({"code": "import os"}, "layers must be records of name"),
}


@pytest.mark.parametrize("what", LAYERS)
def test_malformed_layer_metadata_are_refused(own: Path, what: str) -> None:
    changed, said = LAYERS[what]
    rewrite(own, lambda root: root["attributes"]["layers"][0].update(changed))
    for opener in OPENERS:
        with pytest.raises(UserError) as caught:
            opener(own)
        assert said in str(caught.value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 600


@pytest.mark.smoke
@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deeply_nested_json_is_refused(own: Path, depth: int, opening: str) -> None:
    text = (own / "zarr.json").read_text()
    deep = opening * depth + "1" + ("]" if opening == "[" else "}") * depth
    (own / "zarr.json").write_text(text.replace('"status":', f'"deep": {deep}, "status":', 1))
    for opener in OPENERS:
        with pytest.raises(UserError, match=r"nested too deep|nested at most"):
            opener(own)


def test_a_huge_root_is_refused_before_it_is_parsed(own: Path) -> None:
    text = (own / "zarr.json").read_text()
    many = text.replace('"status":', f'"many": [{"1," * 5_000_000}1], "status":', 1)
    (own / "zarr.json").write_text(many)
    with pytest.raises(UserError, match="more than 4,000,000 values"):
        open_store(own)
    with (own / "zarr.json").open("wb") as file:
        file.truncate(2**40)  # holes
    with pytest.raises(UserError, match=f"bytes, which is not from 1 to {ROOT_BYTES:,}"):
        open_store(own)


def test_a_number_of_many_digits_is_refused(own: Path) -> None:
    text = (own / "zarr.json").read_text()
    (own / "zarr.json").write_text(text.replace('"folds": 2', f'"folds": {"9" * 10_000}', 1))
    with pytest.raises(UserError, match="digits"):
        open_store(own)


ZSTD = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
CRC = {"name": "crc32c"}
ARRAYS: dict[str, tuple[dict[str, Any], str]] = {
    "another shape": ({"shape": [4, 10**12]}, "got float32 [category 4, unit 1000000000000]"),
    "another type": ({"data_type": "complex128"}, "got complex128 [category 4, unit 11]"),
    "an object": ({"data_type": {"name": "object"}}, "must be float32 [category 4, unit 11]"),
    "a time": ({"data_type": "datetime64"}, "got datetime64"),
    "another number of dims": ({"dimension_names": None}, "must be float32"),
    "chunks of ten billion": (
        {
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 10**10]}},
            "codecs": [BYTES, CRC],
        },
        "has chunks of 40,000,000,000 bytes, more than 1,073,741,824",
    ),
    "chunks of none": (
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0, -1]}}},
        "has chunks of [0, -1]",
    ),
    "a bomb of zstd": ({"codecs": [BYTES, ZSTD]}, "is encoded by ['bytes', 'zstd']"),
    "a bomb of gzip": (
        {"codecs": [BYTES, {"name": "gzip", "configuration": {"level": 5}}]},
        "is encoded by ['bytes', 'gzip']",
    ),
    "a pickle": (
        {"codecs": [{"name": "numcodecs.pickle", "configuration": {}}, BYTES]},
        "is encoded by ['numcodecs.pickle', 'bytes']",
    ),
    "no checksum": ({"codecs": [BYTES]}, "is encoded by ['bytes']"),
    "files elsewhere": (
        {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}}},
        "file names",
    ),
    "attributes without end": ({"attributes": {"a": [[1]]}}, "fields"),
    "another grid": ({"chunk_grid": {"name": "rectangular"}}, "regular grid"),
    "a field too many": ({"storage_transformers": [{"name": "x"}]}, "fields"),
}


@pytest.mark.parametrize("what", ARRAYS)
def test_malformed_array_metadata_are_refused(own: Path, what: str) -> None:
    changed, said = ARRAYS[what]
    rewrite_array(own, "head/t", **changed)
    store = open_store(own)
    for use in (
        lambda: store.read(store.layer("head"), "t"),
        lambda: store.query("t > 1").counts(),
        store.tree,
    ):
        with pytest.raises(UserError) as caught:
            use()
        assert said in str(caught.value)
    (problem,) = fusiform.check(own).problems
    assert problem.startswith("head/t: ")
    assert said in problem
    assert fusiform.info(own).units == 65  # describes the store without reading an array


@pytest.mark.parametrize("codec", [ZstdCodec(), GzipCodec()])
def test_a_decompression_bomb_is_refused(own: Path, codec: Any) -> None:
    root = zarr.open_group(own, mode="r+", use_consolidated=False)
    del root["head/t"]
    zeros = root.create_array("head/t", shape=(4, 11), chunks=(4, 50_000_000), dtype="float32",
                              compressors=[codec], dimension_names=["category", "unit"],
                              config={"write_empty_chunks": True})  # fmt: skip
    (own / "head" / "t" / "c.0.0").write_bytes(zlib.compress(bytes(1_000_000)))
    names = json.loads((own / "head" / "csi" / "zarr.json").read_text())["chunk_key_encoding"]
    codecs = zeros.metadata.to_dict()["codecs"]
    rewrite_array(own, "head/t", codecs=codecs, chunk_key_encoding=names)
    with pytest.raises(UserError, match="which fusiform does not write"):
        open_store(own).query("t > 1").counts()


def _lz4_bomb(path: Path, declared: int) -> None:
    """A shard whose only chunk declares ``declared`` bytes; checksums are correct."""
    content = bytearray(path.read_bytes())
    start, length = struct.unpack("<QQ", content[-20:-4])
    content[start + 4 : start + 8] = struct.pack("<I", declared)
    chunk = bytes(content[start : start + length - 4])
    path.write_bytes(seal(chunk) + bytes(content[start + length :]))


@pytest.mark.parametrize("declared", [0, 1, 10**6, 2**31 - 1, 2**32 - 1])
def test_a_chunk_that_declares_more_than_it_holds_is_refused(own: Path, declared: int) -> None:
    # The decoder would allocate that much, and abort the program without it.
    _lz4_bomb(own / "head" / "mean" / "c.0.0.0", declared)
    with pytest.raises(UserError, match=r"a chunk that declares .* bytes, not 704"):
        fusiform.summary(open_store(own), Criterion("rest", "t > 1"))
    problems = fusiform.check(own).problems
    assert any(f"a chunk that declares {declared:,} bytes" in one for one in problems)


def test_a_chunk_of_another_compressor_is_refused(own: Path) -> None:
    """The decoder trusts the chunk over the metadata; fusiform never writes zstd."""
    path = own / "head" / "mean" / "c.0.0.0"
    content = bytearray(path.read_bytes())
    start, length = struct.unpack("<QQ", content[-20:-4])
    content[start + 2] = content[start + 2] & 0b11111 | 4 << 5
    path.write_bytes(seal(bytes(content[start : start + length - 4])) + content[start + length :])
    with pytest.raises(UserError, match="is not compressed by lz4"):
        fusiform.summary(open_store(own), Criterion("rest", "t > 1"))


def test_a_small_file_declared_as_a_huge_array_is_refused(fine: Path) -> None:
    """An array declared as large as layers may be, with a few bytes on disk."""
    own, units = fine, 2**27

    def enlarge(root: dict[str, Any]) -> None:
        root["attributes"]["layers"][2]["shape"] = [units]
        for key, one in root["consolidated_metadata"]["metadata"].items():
            if key.startswith("head/") and "shape" in one and one["shape"][-1] == 11:
                one["shape"][-1] = units
                one["chunk_grid"]["configuration"]["chunk_shape"][-1] = units
                if one["codecs"][0]["name"] == "sharding_indexed":
                    one["codecs"][0]["configuration"]["chunk_shape"][-1] = units

    rewrite(own, enlarge)
    store = open_store(own)
    head = store.layer("head")
    assert head.units == units
    for use in (
        lambda: store.read(head, "t"),
        lambda: store.moments(head, (slice(0, 5),)),
        lambda: store.query("t > 1").counts(),
        lambda: store.query("t > 1", layers="head").counts(by=("unit",)),
        lambda: store.query("t > 1", layers="head").masks(),
        lambda: list(store.slabs(head)),
    ):
        with pytest.raises(UserError, match="is cut short: it has"):
            use()
    with pytest.raises(UserError, match="has metadata that differ from those consolidated"):
        store.tree()
    assert fusiform.info(own).units == 54 + units


def test_a_billion_chunks_are_refused(own: Path) -> None:
    """A layer that declares a billion chunks."""
    units = 2**30

    def cut_up(root: dict[str, Any]) -> None:
        root["attributes"]["layers"][2]["shape"] = [units]
        one = root["consolidated_metadata"]["metadata"]["head/mean"]
        one["shape"][-1] = one["chunk_grid"]["configuration"]["chunk_shape"][-1] = units
        one["codecs"][0]["configuration"]["chunk_shape"][-1] = 1

    rewrite(own, cut_up)
    with pytest.raises(UserError, match="is cut short"):
        list(open_store(own).slabs(open_store(own).layer("head")))


def test_a_huge_number_of_declared_files_is_not_searched_for(own: Path) -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [1, 1]}}
    rewrite_array(own, "head/t", chunk_grid=grid, codecs=[BYTES, CRC])
    assert fusiform.check(own).problems == (
        "head/t: is divided into files of [1, 1], which fusiform does not write",
    )


def test_overlapping_chunks_are_refused(own: Path) -> None:
    path = own / "head" / "selective" / "c.0.0"
    content = path.read_bytes()
    index = content[-68:-4]
    path.write_bytes(
        content[:-68] + seal(index[:16] * 4)
    )  # every index entry points at the first chunk
    rewritten = open_store(own)
    assert len(rewritten.read(rewritten.layer("head"), "dead")) == 11
    path.write_bytes(content[:30] + content[:-68] + seal(index[:16] * 4))
    with pytest.raises(UserError, match="cannot read head/selective"):
        rewritten.read(rewritten.layer("head"), "selective")


def test_texts_with_false_lengths_are_refused(own: Path) -> None:
    path = own / "stimulus_path" / "c.0"
    content = path.read_bytes()[:-4]
    path.write_bytes(seal(struct.pack("<I", 2**32 - 1) + content[4:]))
    with pytest.raises(UserError, match="says it holds 4,294,967,295 texts, not 87"):
        open_store(own).stimulus_column("stimulus_path")
    assert "stimulus_path: file c.0 says it holds" in fusiform.check(own).problems[0]
    path.write_bytes(seal(content[:4] + struct.pack("<I", 2**31 - 1) + content[8:]))
    with pytest.raises(UserError, match="cannot read stimulus_path"):
        open_store(own).stimulus_column("stimulus_path")


@pytest.mark.parametrize("counts", [[-1, 1], [2**62, 2**62], [88, 0]])
def test_impossible_counts_are_refused(own: Path, counts: list[int]) -> None:
    zarr.open_array(own / "count", mode="r+")[0] = counts
    with pytest.raises(UserError, match="it holds no numbers of stimuli"):
        fusiform.summary(open_store(own), Criterion("rest", "t > 1"))


@pytest.mark.parametrize(
    ("column", "place", "value"),
    [("stimulus_category", 0, 4), ("stimulus_category", 0, -2), ("stimulus_fold", 1, 2)],
)
def test_a_table_with_indices_out_of_range_is_refused(
    own: Path, column: str, place: int, value: int
) -> None:
    zarr.open_array(own / column, mode="r+")[place] = value
    with pytest.raises(UserError, match="it names one that does not exist"):
        open_store(own).stimulus_column(column)
    assert any(
        "name a category or fold that does not exist" in one for one in fusiform.check(own).problems
    )


def test_links_are_followed_only_to_regular_files(own: Path, tmp_path: Path) -> None:
    path = own / "head" / "t" / "c.0.0"
    elsewhere = tmp_path / "t"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)  # as users do who move large files to another disk
    assert fusiform.check(own).problems == ()
    for target in ("/dev/zero", path, own, tmp_path / "none"):
        path.unlink()
        path.symlink_to(target)
        assert fusiform.check(own).problems[0].startswith("head/t: ")
        with pytest.raises(UserError, match="cannot read head/t"):
            open_store(own).query("t > 1").counts()


@pytest.mark.parametrize("name", ["zarr.json", "head/t/zarr.json", "head/t/c.0.0", "count/c.0.0"])
def test_a_pipe_in_a_store_is_not_waited_for(own: Path, name: str) -> None:
    (own / name).unlink()
    os.mkfifo(own / name)
    if name == "zarr.json":
        for opener in OPENERS:
            with pytest.raises(UserError, match="not a zarr v3 store"):
                opener(own)
        return
    assert fusiform.check(own).problems[0].startswith(name.partition("/")[0])


def test_a_pipe_in_a_lazily_read_array_is_not_waited_for(own: Path) -> None:
    """xarray opens any file in the place of a chunk."""
    pipe = own / "head" / "t" / "c.0.0"
    pipe.unlink()
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    closing = threading.Timer(2, os.close, [writer])  # reading ends all the same
    closing.start()
    with pytest.raises(OSError, match="no plain file"):
        open_store(own).dataset("head")["t"].compute()
    closing.cancel()
    os.close(writer)


def test_an_added_array_is_refused(own: Path) -> None:
    """xarray reads coordinates eagerly; this one declares a trillion values."""
    grid = {"name": "regular", "configuration": {"chunk_shape": [10**12]}}
    huge = {"shape": [10**12], "dimension_names": ["z"], "chunk_grid": grid}

    def add(root: dict[str, Any]) -> None:
        gathered = root["consolidated_metadata"]["metadata"]
        gathered["head/z"] = {**gathered["count"], **huge}

    rewrite(own, add)
    with pytest.raises(UserError, match="'head/z' is no array of a store"):
        open_store(own).tree()


def test_one_category_of_a_damaged_chunk_is_refused(fine: Path) -> None:
    """A read of other categories does not look at it."""
    for variable in ("t", "selective"):
        path = fine / "head" / variable / "c.0.0"
        content = bytearray(path.read_bytes())
        start, length = struct.unpack("<QQ", content[-36:-20])  # of the third category
        content[start + length - 8] ^= 1
        path.write_bytes(content)
        store = open_store(fine)
        head = store.layer("head")
        store.read_slab(head, variable, (slice(0, 11),), 0)
        with pytest.raises(UserError, match="its checksum differs"):
            store.read_slab(head, variable, (slice(0, 11),), 2)


def test_info_takes_a_bounded_time_and_amount_of_memory(own: Path) -> None:
    """A root just below the accepted size."""
    rewrite(
        own,
        lambda root: root["attributes"].update(
            junk=[[0]] * 1_000_000, categories=[f"c{k}" for k in range(10_000)]
        ),
    )
    code = f"""
import resource
import fusiform
from pathlib import Path
own = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (own + 2**30, own + 2**30))
print(len(fusiform.info({str(own)!r}).categories))
"""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (result.stdout.strip(), result.stderr) == ("10000", "")


def test_another_programs_zarr_is_named_as_such(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "other.zarr")
    group.create_array("huge", shape=(10**12,), chunks=(10**10,), dtype="complex128")
    zarr.create_array(tmp_path / "array.zarr", shape=(10**12,), chunks=(10**10,), dtype="f8")
    for name, said in (("other", "not of fusiform"), ("array", "not a zarr v3 store")):
        for opener in OPENERS:
            with pytest.raises(UserError, match=said):
                opener(tmp_path / f"{name}.zarr")


def test_code_in_a_store_does_not_run(own: Path, tmp_path: Path) -> None:
    """Texts that would do harm if run as code."""
    code = f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()"
    rewrite(
        own,
        lambda root: root["attributes"].update(
            model=code, criterion={"where": code}, versions={"fusiform": code}, device=code
        ),
    )
    assert code in str(fusiform.info(own).attributes["model"])
    assert "invalid: " in str(fusiform.info(own).criterion)
    fusiform.check(own)
    fusiform.summary(open_store(own))
    assert not (tmp_path / "ran").exists()


def test_names_of_layers_and_contrasts_are_checked_when_a_store_is_made(tmp_path: Path) -> None:
    """A scan must not end in a store that cannot be opened."""
    from dataclasses import replace

    from fusiform.engine.store.writing.creating import create_store

    from . import made

    layer = replace(made.LAYERS[0], name="a/b")
    with pytest.raises(UserError, match="a layer's name"):
        create_store(tmp_path / "new.zarr", **{**made.contents(), "layers": [layer]})


def info(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> str:
    """Output of ``fusiform info``."""
    monkeypatch.setattr(sys, "argv", ["fusiform", "info", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    out, err = capsys.readouterr()
    return out if not left.value.code else err


def test_info_prints_no_control_characters(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = info(capsys, monkeypatch, str(own))
    assert "status:         complete\n" in printed
    assert "model:          made-up (none)\n" in printed
    assert "layers:         3, of 65 units\n" in printed
    assert "categories:     4: faces, bodies, <b>words</b>, scenes\n" in printed
    assert "layer1.0       30  5 x 3 x 2  channel, y, x   BasicBlock\n" in printed
    described = json.loads(info(capsys, monkeypatch, str(own), "--json"))
    assert (described["units"], described["complete"]) == (65, True)
    assert described["attributes"]["model"] == "made-up"
    names = ["\x1b[2J\x1b]0;owned\x07", "\u202ecod", "a\nb", "\ud800"]
    rewrite(
        own,
        lambda root: root["attributes"].update(
            model=names[0], categories=names, status="scanning", merged=3, versions={"\x9b": []}
        ),
    )
    printed = info(capsys, monkeypatch, str(own))
    assert all(line.isprintable() for line in printed.splitlines())
    assert r"\x1b[2J\x1b]0;owned\x07 (none)" in printed
    assert "status:         not complete: the scan that fills it has not finished" in printed
    assert info(capsys, monkeypatch, str(own), "--json").isascii()
    (own / "zarr.json").write_text("[" * 100_000)
    (line,) = info(capsys, monkeypatch, str(own)).splitlines()
    assert line.startswith("error: ")


def test_info_describes_an_unfinished_store(own: Path) -> None:
    rewrite(own, lambda root: root["attributes"].update(status="scanning"))
    assert not fusiform.info(own).complete
    found = fusiform.info(own)
    assert (found.units, found.folds, found.stimuli) == (65, 2, 87)
    assert found.files == sum(path.is_file() for path in own.rglob("*"))
    assert found.bytes == sum(p.stat().st_size for p in own.rglob("*") if p.is_file())


def test_a_lack_of_memory_is_no_damage(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any, **__: Any) -> None:
        raise MemoryError

    store = open_store(own)
    monkeypatch.setattr("fusiform.engine.store.shards.read", none_left)
    with pytest.raises(MemoryError):
        store.read(store.layer("head"), "t")
