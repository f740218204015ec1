"""Docstrings of the public names: the API's page lists them, they are complete, examples run."""

from __future__ import annotations

import doctest
import inspect
import pydoc
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import fusiform
from fusiform import Criterion, Design, Network, UnitRequest, plot
from fusiform.engine.querying.query import Query

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "api.md"
# Methods that the engine uses among its rooms; no page describes them.
INTERNAL = {
    "Analysis.tables", "Architecture.checked", "Criterion.rule", "LesionEffects.tables",
    "LesionRequest.draws_of", "Listener.notes", "Network.of", "Preprocessing.corner",
    "Preprocessing.resized", "Stimuli.of",
}  # fmt: skip
# numpydoc's checks that are left out: style that is not ours (blank lines at the quotes, lower
# case, verbs), sections that not everything needs, and examples, which are checked here.
UNCHECKED = {"GL01", "GL02", "SS02", "SS05", "ES01", "SA01", "EX01"}
# Words of types that are no public class.
OTHERS = {"Labels", "None", "Transformer", "URL"}
EXTRAS = {"fusiform.Recording.to_anndata": "anndata"}


def listed() -> list[str]:
    """Full names in the lists of the API's page, in order."""
    module, names = "", []
    for line in PAGE.read_text().splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split()[-1]
        elif found := re.fullmatch(r"   ~?([A-Za-z][\w.]*)", line):
            names.append(f"{module}.{found[1]}")
    return names


NAMES = listed()


def documented(name: str) -> tuple[Any, NumpyDocString]:
    """A public object, and the sections of its docstring."""
    found = pydoc.locate(name)
    assert found is not None, name
    return found, NumpyDocString(inspect.getdoc(found) or "")


def is_result(found: Any, doc: NumpyDocString) -> bool:
    """Whether a class is one that functions return and users do not create."""
    return inspect.isclass(found) and not doc["Parameters"]


def attributes(doc: NumpyDocString) -> list[str]:
    """Names in the section Attributes; several may share an entry."""
    return [one for said in doc["Attributes"] for one in said.name.split(", ")]


# The page


def test_the_page_lists_every_public_name_once() -> None:
    own = [name for name in NAMES if re.fullmatch(r"fusiform\.\w+", name)]
    plots = [name for name in NAMES if re.fullmatch(r"fusiform\.plot\.\w+", name)]
    assert sorted(own) == sorted(f"fusiform.{name}" for name in fusiform.__all__)
    assert sorted(plots) == sorted(f"fusiform.plot.{name}" for name in plot.__all__)
    assert len(NAMES) == len({*NAMES})


def test_the_page_lists_the_methods_of_public_classes() -> None:
    classes = [getattr(fusiform, name) for name in fusiform.__all__]
    on_page = {".".join(name.split(".")[-2:]) for name in NAMES}
    for one in [*filter(inspect.isclass, classes), Query]:
        for name, member in vars(one).items():
            if isinstance(member, staticmethod | classmethod):
                member = member.__func__
            if inspect.isfunction(member) and not name.startswith("_"):
                full = f"{one.__name__}.{name}"
                callback = is_dataclass(one) and name in {own.name for own in fields(one)}
                assert callback or (full in INTERNAL) != (full in on_page), full


# Docstrings


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_are_complete(name: str) -> None:
    found, doc = documented(name)
    faults = {code: said for code, said in validate(name)["errors"] if code not in UNCHECKED}
    if is_result(found, doc):
        faults.pop("PR01", None)  # attributes take the place of parameters
        own = [one.name for one in fields(found)] if is_dataclass(found) else []
        assert attributes(doc)[: len(own)] == own
    assert not faults
    assert all(said.type and said.desc for said in doc["Attributes"])
    # numpydoc reads "UserError : text" as a name and its type.
    assert all(re.fullmatch(r"\w+", said.type) and said.desc for said in doc["Raises"])
    raises = re.search(r"^\s+raise UserError\b", inspect.getsource(found), re.MULTILINE)
    assert inspect.isclass(found) or not raises or doc["Raises"]


@pytest.mark.parametrize("name", NAMES)
def test_classes_that_are_returned_have_a_page(name: str) -> None:
    _, doc = documented(name)
    pages = {one.rpartition(".")[2] for one in NAMES}
    for said in doc["Returns"] + doc["Yields"] + doc["Attributes"]:
        without_modules = re.sub(r"\w+\.[\w.]+", "", said.type)
        assert {*re.findall(r"\b[A-Z]\w+", without_modules)} <= pages | OTHERS


# Examples


@pytest.fixture(scope="module")
def _one_thread() -> Iterator[None]:
    """Run networks in one thread: so small, they would wait for others on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(_one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the page describes."""
    root: Path = tmp_path_factory.mktemp("examples")
    own = {"resize": 64, "crop": 64}
    network = Network("resnet18", weights="none", preprocessing=own)
    other = Network("resnet18", weights="none", seed=1, preprocessing=own)
    design = Design(layers=["layer3.1", "layer4.1"])
    for seed, name in enumerate(("stimuli", "other-stimuli")):
        fusiform.make_stimuli(root / name, per_category=4, size=32, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        store = fusiform.scan(network, "stimuli", "r18.zarr", design=design)
        fusiform.scan(other, "stimuli", "r18-seed1.zarr", design=design)
        fusiform.scan(network, "other-stimuli", "r18-other.zarr", design=design)
        units = UnitRequest(top=5)
        fusiform.record(store="r18.zarr", output="r18.responses.zarr", units=units)
    rows = [f"FFA,{name},{len(name) % 5}\n" for name in store.categories]
    (root / "regions.csv").write_text("region,category,response\n" + "".join(rows))
    return root


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run there, and leave no figure open."""
    from matplotlib import pyplot

    monkeypatch.chdir(folder)
    yield
    pyplot.close("all")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("in_folder")
def test_examples_run(name: str) -> None:
    found, doc = documented(name)
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name])
    examples = doctest.DocTestParser().get_examples(inspect.getdoc(found) or "")
    if not is_result(found, doc):
        assert any(one.want for one in examples), f"{name} has no example that shows its output"
    assert not any(one.options.get(doctest.SKIP) for one in examples)
    test = doctest.DocTest(examples, {"fusiform": fusiform}, name, None, 0, None)
    said: list[str] = []
    failed, _ = doctest.DocTestRunner().run(test, out=said.append)
    assert not failed, "".join(said)


@pytest.mark.usefixtures("in_folder")
def test_attributes_exist() -> None:
    top = Criterion("rest", "top 1%")
    store = fusiform.open_store("r18.zarr")
    found = [
        store, fusiform.open_recording("r18.responses.zarr"), store.query("faces:"),
        store.query("faces:", "layer4.1").counts(), fusiform.summary(store, top),
        fusiform.analyse(store, top, analyses="shares"), fusiform.info("r18.zarr"),
        fusiform.check_stimuli("stimuli"),
    ]  # fmt: skip
    for one in [*found, *(rows[0] for rows in (store.layers, found[4], found[5].shares))]:
        names = attributes(NumpyDocString(inspect.getdoc(type(one))))
        assert names
        assert not [name for name in names if not hasattr(one, name)], type(one)
