"""Archives: a store in one file gives the same answers, and no byte of it can change unnoticed."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import xarray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.storage import ZipStore

import fusiform
from fusiform import Criterion, open_recording, open_store
from fusiform.engine.contrasts.select import save_contrast
from fusiform.engine.errors import UserError
from fusiform.engine.store.files.archive import ArchiveFiles
from fusiform.engine.store.files.raw import RawFile
from fusiform.engine.store.files.zip_form import Member, directory, local_header

from . import one_process


@pytest.fixture(scope="module")
def pair(made_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store with a saved contrast, and its archive."""
    folder = Path(shutil.copytree(made_path, tmp_path_factory.mktemp("pair") / "s.zarr"))
    save_contrast(open_store(folder), "two", Criterion("rest"), "faces > bodies")
    return folder, fusiform.archive(folder, folder.with_name("s.zarr.zip"))


@pytest.fixture
def own(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the archive that a test may damage."""
    return Path(shutil.copy(pair[1], tmp_path / "own.zarr.zip"))


def test_the_archive_has_every_file_and_the_same_numbers(pair: tuple[Path, Path]) -> None:
    folder, archive = pair
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        assert names[0] == "zarr.json"
        for one in opened.infolist():
            assert one.compress_type == zipfile.ZIP_STORED
            assert opened.read(one) == (folder / one.filename).read_bytes()
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert set(names) == files
    one, other = open_store(folder), open_store(archive)
    for layer in one.layers:
        for variable in ("mean", "m2", "t", "csi", "selective", "selective_fold", "dead"):
            np.testing.assert_array_equal(
                one.read(layer, variable), other.read(layer, variable), strict=True
            )
    assert one.provenance == other.provenance
    for column in ("stimulus_path", "stimulus_sha256", "stimulus_status"):
        np.testing.assert_array_equal(one.stimulus_column(column), other.stimulus_column(column))


def test_a_store_gives_the_same_archive_every_time(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder, archive = pair
    other = shutil.copytree(folder, tmp_path / "copied.zarr")
    again = fusiform.archive(other, tmp_path / "again.zip")
    assert again.read_bytes() == archive.read_bytes()
    third = fusiform.archive(archive, tmp_path / "third.zip")
    assert third.read_bytes() == archive.read_bytes()


def test_xarray_reads_it_with_and_without_fusiform(pair: tuple[Path, Path]) -> None:
    folder, archive = pair
    expected = xarray.open_datatree(folder, engine="zarr", consolidated=True).load()
    ours = open_store(archive).tree()
    assert ours.load().identical(open_store(folder).tree().load())
    zipped = ZipStore(archive)
    assert xarray.open_datatree(zipped, engine="zarr", consolidated=True).load().identical(expected)
    zipped.close()
    lazy = pickle.loads(pickle.dumps(open_store(archive).dataset("head")))
    assert lazy.load().identical(open_store(folder).dataset("head").load())


def test_a_recording_can_be_archived(two_stores: Path, tmp_path: Path) -> None:
    archive = fusiform.archive(two_stores / "r.zarr", tmp_path / "r.zarr.zip")
    assert not fusiform.check(archive).problems
    one, other = open_recording(two_stores / "r.zarr"), open_recording(archive)
    for layer in one.layers:
        np.testing.assert_array_equal(one.responses(layer.name), other.responses(layer.name))


def test_commands_answer_as_from_the_folder(two_stores: Path, tmp_path: Path) -> None:
    """A folder may be called NAME.zip, too, so that answers are the same to the byte."""
    lines = """
summary a.zip
summary a.zip b.zip
analyse a.zip --resamples 20
select a.zip --contrast blobs --where csi>0
query a.zip t>0
query a.zip t>0 --top 5
query a.zip t>0 --list --format csv -o units.csv
query a.zip t>0 --list --format npz -o units.npz
query a.zip t>0 --quantiles csi
responses r.zip auc
responses r.zip tuning
compare a.zip b.zip --resamples 20
report a.zip b.zip --recording r.zip --resamples 20 -o report.html -q
""".strip()
    for name in "abr":
        shutil.copytree(two_stores / f"{name}.zarr", tmp_path / "folder" / f"{name}.zip")
        (tmp_path / "archive").mkdir(exist_ok=True)
        fusiform.archive(two_stores / f"{name}.zarr", tmp_path / "archive" / f"{name}.zip")
    said = {}
    for kind in ("folder", "archive"):
        said[kind] = one_process.output(lines, tmp_path / kind)
        assert said[kind].count("exit 0") == len(lines.splitlines()), said[kind]
    assert said["folder"] == said["archive"]
    for name in ("units.csv", "units.npz", "report.html"):
        same = (tmp_path / "folder" / name).read_bytes() == (
            tmp_path / "archive" / name
        ).read_bytes()
        assert same, name


def test_archives_are_merged_and_checked(
    two_stores: Path, draw_stimuli: Callable[..., Path], tmp_path: Path
) -> None:
    del draw_stimuli
    from . import flat

    parts = []
    for name in ("layer4.1", "avgpool"):
        folder = tmp_path / f"{name}.zarr"
        flat.scan(
            "resnet18", two_stores / "stimuli", folder, layers=[name], weights="none",
            device="cpu", preprocessing={"resize": 64, "crop": 64},
        )  # fmt: skip
        parts.append(fusiform.archive(folder, tmp_path / f"{name}.zarr.zip"))
    merged = fusiform.merge(parts, tmp_path / "merged.zarr")
    assert [layer.name for layer in merged.layers] == ["layer4.1", "avgpool"]
    assert not fusiform.check(merged.path).problems
    with pytest.raises(UserError, match="archives are not written to"):
        fusiform.merge(parts, tmp_path / "merged.zarr.zip")
    recorded = flat.record(
        "resnet18", two_stores / "stimuli", tmp_path / "r.zarr", store=parts[1], random=2,
        device="cpu",
    )  # fmt: skip
    assert recorded.layers


def test_what_writes_into_a_store_refuses_an_archive(own: Path) -> None:
    before = own.read_bytes()
    with pytest.raises(UserError, match=r"archives are not written to; got .*unzip"):
        save_contrast(open_store(own), "mine", Criterion("rest"), "faces")
    assert own.read_bytes() == before
    assert sorted(path.name for path in own.parent.iterdir()) == [own.name]


# Damage


def found(path: Path) -> bool:
    """Whether ``check`` finds that something is wrong, in one line."""
    try:
        return bool(fusiform.check(path).problems)
    except UserError as error:
        return "\n" not in str(error)


@pytest.mark.parametrize("part", range(8))
def test_every_flipped_byte_is_found(own: Path, part: int) -> None:
    """Every byte of the heads and the directory, and some of each member."""
    whole = own.read_bytes()
    members = ArchiveFiles(str(own)).members
    heads = [range(m.start, m.start + len(local_header(m))) for m in members]
    last = members[-1]
    end = last.start + len(local_header(last)) + last.size
    places = [*(place for head in heads for place in head), *range(end, len(whole))]
    places += [m.start + len(local_header(m)) + at for m in members for at in (0, m.size - 1)]
    for place in places[part::97]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        own.write_bytes(damaged)
        assert found(own), place


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_change_is_found(pair: tuple[Path, Path], tmp_path: Path, data: st.DataObject) -> None:
    whole = pair[1].read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "zeros", "append"]))
    changed = {
        "flip": lambda: whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :],
        "cut": lambda: whole[:place],
        "insert": lambda: whole[:place] + b"x" + whole[place:],
        "zeros": lambda: whole[:place] + bytes(min(64, len(whole) - place)) + whole[place + 64 :],
        "append": lambda: whole + b"\0",
    }[kind]()
    path = tmp_path / "changed.zarr.zip"
    path.write_bytes(changed)
    assert found(path) or changed == whole


def test_damage_is_found_when_it_is_read(own: Path) -> None:
    files = ArchiveFiles(str(own))
    (member,) = (m for m in files.members if m.key.startswith("head/t/c."))
    whole = bytearray(own.read_bytes())
    whole[member.start + len(local_header(member)) + 3] ^= 1
    own.write_bytes(whole)
    store = open_store(own)
    store.read(store.layer("head"), "csi")
    with pytest.raises(UserError, match=r"cannot read head/t .*checksum differs"):
        store.read(store.layer("head"), "t")
    with pytest.raises(ValueError, match="checksum"):  # zarr's own, as from a folder
        store.dataset("head")["t"].load()


def test_a_replaced_archive_is_noticed(pair: tuple[Path, Path], own: Path) -> None:
    store = open_store(own)
    lazy = store.dataset("head")
    shutil.copy(pair[1], own.with_name("other"))
    os.replace(own.with_name("other"), own)  # noqa: PTH105
    with pytest.raises(UserError, match="was replaced while it was read: open it again"):
        store.read(store.layer("head"), "t")
    with pytest.raises(UserError, match="was replaced while it was read"):
        lazy["t"].load()


# What is refused to be made


def test_only_whole_stores_are_archived(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pair[0], tmp_path / "s.zarr"))
    chunk = max((folder / "head" / "mean").glob("c.*"))
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(UserError, match=r"archived if it is whole; .* is damaged .*head/mean"):
        fusiform.archive(folder, tmp_path / "s.zarr.zip")
    chunk.unlink()
    with pytest.raises(UserError, match=r"archived if it is whole; .* is damaged"):
        fusiform.archive(folder, tmp_path / "s.zarr.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_an_unfinished_store_is_not_archived(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(pair[0], tmp_path / "s.zarr"))
    root = (folder / "zarr.json").read_text()
    (folder / "zarr.json").write_text(root.replace('"complete"', '"scanning"'))
    with pytest.raises(UserError, match="has not finished: the same command resumes it"):
        fusiform.archive(folder, tmp_path / "s.zarr.zip")
    assert not (tmp_path / "s.zarr.zip").exists()


def test_outputs_are_refused_in_one_line(pair: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = pair
    stranger = tmp_path / "mine.zip"
    with zipfile.ZipFile(stranger, "w") as mine:
        mine.writestr("thesis.txt", "all of it")
    before = stranger.read_bytes()
    for output, overwrite, said in (
        (tmp_path / "s.zarr", False, "ends in .zip"),
        (stranger, False, "must not exist"),
        (stranger, True, "replaces archives of stores only"),
        (tmp_path / "none" / "s.zip", False, "existing folder"),
    ):
        with pytest.raises(UserError, match=said):
            fusiform.archive(folder, output, overwrite=overwrite)
    assert stranger.read_bytes() == before
    done = fusiform.archive(folder, tmp_path / "s.zip")
    assert fusiform.archive(folder, done, overwrite=True) == done
    with pytest.raises(UserError, match="archives are read from a disk; got https"):
        open_store("https://host/s.zip")
    with pytest.raises(UserError, match=r"no store at .*: make one with 'fusiform archive"):
        open_store(tmp_path / "absent.zip")


# Zip files from strangers


def _written(path: Path, members: list[tuple[str, bytes]], **fields: int) -> Path:
    with zipfile.ZipFile(path, "w", fields.get("method", zipfile.ZIP_STORED)) as opened:
        for name, content in members:
            opened.writestr(name, content)
    return path


@pytest.fixture
def contents(pair: tuple[Path, Path]) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(pair[1]) as opened:
        return [(name, opened.read(name)) for name in opened.namelist()]


Contents = list[tuple[str, bytes]]


def _hostile(path: Path, contents: Contents) -> Iterator[tuple[Path, str]]:
    def change(entry: int, field: int, code: str, value: int) -> Path:
        """A plain zip file with a field of an entry of its directory changed."""
        _written(path, contents)
        whole = bytearray(path.read_bytes())
        place = -1
        for _ in range(entry + 1):
            place = whole.index(b"PK\1\2", place + 1)
        struct.pack_into(code, whole, place + field, value)
        path.write_bytes(whole)
        return path

    yield _written(path, contents, method=zipfile.ZIP_DEFLATED), "is compressed"
    for name in ("../x", "/x", "a//b", "a/../b", "a\\b", "./a", "\n"):
        yield _written(path, [*contents, (name, b"x")]), "names no file of a store"
    with pytest.warns(UserWarning, match="Duplicate"):
        _written(path, [*contents, contents[0]])
    yield path, "two members 'zarr.json'"
    yield change(2, 8, "<H", 1), "is encrypted"
    yield change(2, 10, "<H", 8), "is compressed"
    yield change(2, 42, "<I", 0), "overlaps another"
    yield change(len(contents) - 1, 42, "<I", 2**31), "zip file|overlaps"
    for code, field in (("<I", 20), ("<I", 24)):  # compressed and plain size
        yield change(2, field, code, 2**31), "is compressed"
    path.write_bytes(b"not a zip file")
    yield path, "no whole zip file"
    path.write_bytes(b"")
    yield path, "no whole zip file"


def test_hostile_archives_are_refused_in_one_line(tmp_path: Path, contents: Contents) -> None:
    for path, said in _hostile(tmp_path / "x.zarr.zip", contents):
        for opener in (open_store, fusiform.check, fusiform.info):
            with pytest.raises(UserError, match=said) as refused:
                opener(path)
            assert "\n" not in str(refused.value)


def test_a_member_that_does_not_lie_where_it_should_is_not_read(
    own: Path, contents: Contents
) -> None:
    """A head may say that the content begins later, inside the next member."""
    (member,) = (m for m in ArchiveFiles(str(own)).members if m.key.startswith("head/t/c."))
    whole = bytearray(own.read_bytes())
    struct.pack_into("<H", whole, member.start + 28, 500)
    own.write_bytes(whole)
    store = open_store(own)
    with pytest.raises(UserError, match="does not lie where the zip file says"):
        store.read(store.layer("head"), "t")


def test_archives_by_other_programs_are_read_but_not_verified(
    tmp_path: Path, contents: Contents, pair: tuple[Path, Path]
) -> None:
    path = _written(tmp_path / "x.zarr.zip", [("layer1.0/", b""), *contents])
    store, own = open_store(path), open_store(pair[0])
    np.testing.assert_array_equal(
        store.read(store.layer("head"), "t"), own.read(own.layer("head"), "t")
    )
    assert "head in the zip file" in fusiform.check(path).problems[0]


def test_a_directory_of_more_than_32_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes, offsets and numbers beyond 32 and 16 bits have entries of their own."""
    members = [Member("a", 0, 3, 1), Member("é/b", 2**33, 2**32, 2), Member("c", 2**34, 0, 0)]
    heads = [local_header(member) for member in members]
    assert len(heads[0]) == 31
    assert len(heads[1]) == 30 + 4 + 20
    found = directory(members, 2**35)
    sparse = tmp_path / "large.zip"
    with sparse.open("wb") as file:
        for member, head in zip(members, heads, strict=True):
            file.seek(member.start)
            file.write(head)
        file.seek(2**35)
        file.write(found)
    read = ArchiveFiles(str(sparse)).members
    assert read == members
    many = [Member(f"{i}", 40 * i, 0, 0) for i in range(70_000)]
    with (tmp_path / "many.zip").open("wb") as file:
        for member in many:
            file.seek(member.start)
            file.write(local_header(member))
        file.seek(40 * len(many))
        file.write(directory(many, file.tell()))
    assert len(ArchiveFiles(str(tmp_path / "many.zip")).members) == 70_000


def test_a_pipe_is_no_archive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.zarr.zip")
    with pytest.raises(UserError, match="it is no plain file"):
        fusiform.info(tmp_path / "p.zarr.zip")


def test_a_range_beyond_a_member_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"member, and others")
    with RawFile(FileIO(tmp_path / "a"), 0, 6) as file:
        assert file.read(2, 100) == b"mber"
        assert file.read(8, 4) == b""
