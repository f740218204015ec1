"""Groups of folders: the ways to give them, known localizers, and what a store keeps of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import fusiform
from fusiform import Stimuli, UserError
from fusiform.cli import main
from fusiform.engine.scanning.progress import Listener
from fusiform.engine.stimulus_groups import LOCALIZERS, Groups, remarks

from . import flat

DOMAINS = {
    "faces": ("adult", "child"), "bodies": ("body", "limb"), "characters": ("word", "number"),
    "objects": ("car", "instrument"), "places": ("house", "corridor"),
}  # fmt: skip
HINT = "these are the folders of fLoc (Stigliani et al. 2015): "


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Conv2d(3, 2, 5, stride=5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


@pytest.fixture
def floc(tmp_path: Path, draw_stimuli: Callable[..., Path]) -> Path:
    """A set with the folders of fLoc."""
    drawn = sorted((draw_stimuli(tmp_path / "drawn", each=11) / "noise").iterdir())
    folders = [*(folder for own in DOMAINS.values() for folder in own), "scrambled"]
    for number, folder in enumerate(folders):
        (tmp_path / "floc" / folder).mkdir(parents=True)
        for turn in range(4):
            content = drawn[number].read_bytes() + bytes([turn])  # another file each
            (tmp_path / "floc" / folder / f"{folder}-{turn}.png").write_bytes(content)
    return tmp_path / "floc"


def scanned(source: Any, output: Path, notes: list[str] | None = None, **options: Any) -> Any:
    small = fusiform.Preprocessing(resize=16, crop=16)
    heard = Listener([].append if notes is None else notes.append)
    return flat.scan(Net(), source, output, preprocessing=small, progress=heard, **options)


# Ways to give them


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_groups_are_the_same_however_they_are_given(tmp_path: Path) -> None:
    path = written(tmp_path / "my.toml", '[groups]\nfaces = ["adult", "child"]\nplaces = "house"\n')
    expected = {"faces": ("adult", "child"), "places": ("house",)}
    for given, name in (
        ({"faces": ["adult", "child"], "places": "house"}, ""),
        (["faces=adult, child", "places=house"], ""),
        ([{"faces": ("adult", "child")}, "places=house"], ""),
        (path, "my.toml"),
        (Path(path), "my.toml"),
    ):
        found = Stimuli("x", groups=given).groups
        assert isinstance(found, Groups)
        assert (dict(found), found.name) == (expected, name), given
    assert Groups.of(Groups.of(path)).name == "my.toml"


def test_floc_is_built_in() -> None:
    assert dict(Groups.of("floc")) == DOMAINS
    both = Groups.of(["floc", "scrambled=scrambled"])
    assert dict(both) == {**DOMAINS, "scrambled": ("scrambled",)}
    (said,) = remarks(both, ())
    assert "left out" not in said
    assert remarks("floc", ()) == [
        "groups of floc: faces = adult + child, bodies = body + limb, characters = word + number, "
        "objects = car + instrument, places = house + corridor; scrambled, the control, is left out"
    ]
    assert remarks({"faces": "adult"}, ()) == []


def test_a_localizer_and_a_file_can_be_joined(tmp_path: Path) -> None:
    path = written(tmp_path / "more.toml", '[groups]\ntools = "hammer"\n')
    for given in (f"floc,{path}", ["floc", path]):
        assert Groups.of(given).name == "floc, more.toml"
        assert list(Groups.of(given)) == [*DOMAINS, "tools"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("flok", "'flok': did you mean floc?"),
        ("floc,", "got ''"),
        ("x=", "'x='"),
        (["floc", "faces=adult"], "faces has two: join them"),
        (["floc", "floc"], "faces has two: join them"),
        ([None], "got None"),
        ("gone.toml", "gone.toml is none: name another"),
        ("folder.toml", "folder.toml is none"),
        ("bad.toml", r"bad.toml cannot be read \(.*line 2, column"),
        ("deep.toml", "deep.toml cannot be read"),
        ("latin.toml", "latin.toml cannot be read"),
        ("other.toml", r"other.toml has group: write CATEGORY = "),
        ("text.toml", r"text.toml has groups: write CATEGORY = "),
        ("number.toml", r"got \{'faces': 3\}"),
    ],
)
def test_other_groups_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.toml").mkdir()
    for name, text in (
        ("bad", "[groups]\nfaces adult"), ("deep", "x = " + "[" * 100_000),
        ("other", '[group]\na = "b"'), ("text", 'groups = "adult"'),
        ("number", "[groups]\nfaces = 3"),
    ):  # fmt: skip
        written(Path(f"{name}.toml"), text)
    Path("latin.toml").write_bytes("[groups]\né = 'a'".encode("latin-1"))
    with pytest.raises(UserError, match=said) as refused:
        Stimuli("x", groups=given)
    assert "\n" not in str(refused.value)


# The hint


def test_a_set_that_looks_like_a_localizer_gets_a_hint(floc: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    scanned(floc, tmp_path / "a.zarr", notes)
    (said,) = [note for note in notes if note.startswith("these are")]
    assert said == f'{HINT}`groups="floc"` joins them into 5 domains'
    assert said in flat.check_stimuli(floc).notes
    notes = []
    scanned(floc, tmp_path / "b.zarr", notes, groups="floc")
    assert not [note for note in notes if note.startswith("these are")]
    assert [note for note in notes if note.startswith("groups of floc: ")]
    shutil.rmtree(floc / "limb")
    assert not [note for note in flat.check_stimuli(floc).notes if HINT in note]


def test_commands_say_the_hint_once_and_take_the_localizer(
    floc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["fusiform", *line.split()])
        with pytest.raises(SystemExit) as left:
            main()
        said = "".join(capsys.readouterr())
        assert not left.value.code, said
        return said

    small = "--layers avgpool --weights none --resize 32 --crop 32 --device cpu"
    hint = f"{HINT}--groups floc joins them into 5 domains\n"
    for line in (
        f"scan resnet18 floc -o a.zarr {small}", f"plan resnet18 floc {small}",
        "stimuli check floc", "stimuli pack floc -o packed.zarr --resize 32 --crop 32",
        f"scan resnet18 packed.zarr -o b.zarr {small}",
    ):  # fmt: skip
        assert run(line).count(hint) == 1, line
        again = run(f"{line} --groups floc{' --overwrite' * line.startswith('scan')}"
                    .replace("pack floc -o packed", "pack floc -o again"))  # fmt: skip
        assert hint not in again
        assert "groups of floc: faces = adult + child, " in again
    # A recording follows its scan, with and without groups.
    assert hint not in run("record resnet18 floc --from a.zarr --random 2 -o r.zarr --device cpu")


# The store


def test_a_store_keeps_its_groups_and_others_take_them(floc: Path, tmp_path: Path) -> None:
    store = scanned(floc, tmp_path / "s.zarr", groups="floc")
    assert store.provenance["groups"] == {
        "name": "floc",
        "folders": {name: list(own) for name, own in DOMAINS.items()},
    }
    assert store.groups is not None
    assert (store.groups, store.groups.name) == (DOMAINS, "floc")
    assert store.stimuli.groups == DOMAINS
    assert store.stimuli.groups.name == "floc"
    by_hand = scanned(floc, tmp_path / "h.zarr", groups=DOMAINS)
    assert by_hand.provenance["fingerprint"] == store.provenance["fingerprint"]
    assert by_hand.groups.name == ""
    plain = scanned(floc, tmp_path / "p.zarr")
    assert plain.groups is None
    assert "groups" not in plain.provenance
    for given in (None, "floc", DOMAINS):
        found = flat.record(Net(), floc, tmp_path / "r.zarr", store=store, groups=given,
                            overwrite=True)  # fmt: skip
        assert found.categories == tuple(DOMAINS)
        assert found.provenance["groups"] == store.provenance["groups"]
    assert flat.record(Net(), floc, tmp_path / "q.zarr", store=plain).groups is None


def test_a_manifest_of_other_images_is_recorded_in_the_groups_of_the_scan(
    floc: Path, tmp_path: Path
) -> None:
    rows = [f"floc/{path.parent.name}/{path.name},{path.parent.name}"
            for path in sorted(floc.rglob("*.png"))]  # fmt: skip
    first = written(tmp_path / "first.csv", "\n".join(["path,category", *rows]))
    store = scanned(first, tmp_path / "s.zarr", groups="floc")
    assert store.stimuli.groups == DOMAINS
    other = shutil.copytree(floc, tmp_path / "new")
    for path in other.rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"new")
    second = tmp_path / "second.csv"
    second.write_text(Path(first).read_text().replace("floc/", "new/"))
    found = flat.record(Net(), second, tmp_path / "r.zarr", store=store)
    assert found.categories == tuple(DOMAINS)
    assert found.counts.sum() == 40


def test_a_merged_store_has_the_groups_of_all(floc: Path, tmp_path: Path) -> None:
    half, rest = dict(list(DOMAINS.items())[:2]), dict(list(DOMAINS.items())[2:])
    parts = [scanned(floc, tmp_path / "a.zarr", groups=half),
             scanned(floc, tmp_path / "b.zarr", groups=rest)]  # fmt: skip
    merged = fusiform.merge(parts, tmp_path / "m.zarr")
    assert merged.groups == DOMAINS
    plain = tmp_path / "plain"
    shutil.copytree(floc / "scrambled", plain / "scrambled")
    shutil.copytree(floc / "scrambled", plain / "again")
    for path in (plain / "again").iterdir():
        path.write_bytes(path.read_bytes() + b"again")
    parts.append(scanned(plain, tmp_path / "c.zarr"))
    assert fusiform.merge(parts, tmp_path / "n.zarr").groups is None


@pytest.mark.parametrize("record", [3, {}, {"name": "x"}, {"name": 3, "folders": {}},
                                    {"name": "x", "folders": {"a": "b"}},
                                    {"name": "x", "folders": {"a": [3]}}])  # fmt: skip
def test_groups_that_fusiform_did_not_write_are_refused(
    floc: Path, tmp_path: Path, record: Any
) -> None:
    import json

    path = tmp_path / "s.zarr"
    scanned(floc, path, groups="floc")
    root = json.loads((path / "zarr.json").read_text())
    root["attributes"]["groups"] = record
    (path / "zarr.json").write_text(json.dumps(root))
    with pytest.raises(UserError, match="groups"):
        fusiform.open_store(path)


def test_info_says_the_groups(floc: Path, tmp_path: Path) -> None:
    from fusiform.engine.querying.info import facts

    scanned(floc, tmp_path / "s.zarr", groups="floc")
    found = dict(facts(fusiform.info(tmp_path / "s.zarr")))
    assert found["groups"].startswith("floc: faces = adult + child, bodies = body + limb, ")


def test_every_localizer_names_a_folder_once() -> None:
    for one in LOCALIZERS.values():
        folders = [folder for own in one.folders.values() for folder in own]
        assert len({*folders, one.control}) == len(folders) + 1
