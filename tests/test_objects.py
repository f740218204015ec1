"""Stimuli that are Python objects: mappings, Datasets and streams; stores in memory."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

import fusiform
from fusiform import Design, Network, Resources, Stimuli, Store, UnitRequest, UserError

from . import reference

CATEGORIES = ("faces", "places", "words")
SIDE = 16
SMALL = {"resize": SIDE, "crop": SIDE}
EACH = 9


def pictures(category: int, number: int = EACH) -> NDArray[np.uint8]:
    """Pictures ``[n, 20, 24, 3]`` of a category."""
    rng = np.random.default_rng(category)
    return (rng.integers(0, 256, (number, 20, 24, 3)) // (category + 1)).astype(np.uint8)


MAPPING = {name: pictures(category) for category, name in enumerate(CATEGORIES)}


class Small(nn.Module):
    """A convolution, batch normalisation and a pooled read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(4, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.norm(self.conv(images)).relu().mean((2, 3))))


@pytest.fixture
def net() -> Small:
    torch.manual_seed(0)
    return Small()


class Pairs(Dataset[Any]):
    """A Dataset of the pictures of ``MAPPING``, category by category in turn."""

    classes = CATEGORIES

    def __init__(self, as_input: Callable[[NDArray[np.uint8]], Any] = Image.fromarray) -> None:
        self.as_input = as_input

    def __len__(self) -> int:
        return len(CATEGORIES) * EACH

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        row, label = divmod(number, len(CATEGORIES))
        return self.as_input(MAPPING[CATEGORIES[label]][row]), label


def as_tensor(picture: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)


def as_floats(picture: NDArray[np.uint8]) -> torch.Tensor:
    return as_tensor(picture).float() / 255


def small(module: nn.Module) -> Network:
    return Network(module, preprocessing=SMALL)


def numbers(store: Store) -> dict[str, NDArray[Any]]:
    """Every array of a store's layers."""
    return {
        f"{layer.name}/{name}": np.asarray(values)
        for layer in store.layers
        for name, values in store.dataset(layer.name).data_vars.items()
    }


def require_equal(one: Store, other: Store) -> None:
    own, its = numbers(one), numbers(other)
    assert own.keys() == its.keys()
    for name, values in own.items():
        np.testing.assert_array_equal(values, its[name], err_msg=name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, own in MAPPING.items():
        (tmp_path / "png" / name).mkdir(parents=True)
        for number, picture in enumerate(own):
            Image.fromarray(picture).save(tmp_path / "png" / name / f"{number}.png")
    return tmp_path / "png"


# The same images in every form


@pytest.mark.parametrize(
    "source",
    [
        MAPPING,
        {name: [Image.fromarray(one) for one in own] for name, own in MAPPING.items()},
        {name: torch.stack([as_tensor(one) for one in own]) for name, own in MAPPING.items()},
        Pairs(),
        Pairs(np.asarray),
        Pairs(as_tensor),
        Pairs(as_floats),
        Subset(Pairs(), range(len(Pairs()))),
    ],
    ids=["arrays", "PIL", "tensors", "D-PIL", "D-array", "D-uint8", "D-float", "subset"],
)
def test_the_same_images_give_the_same_bits_in_every_form(
    source: Any, net: Small, folder: Path, tmp_path: Path
) -> None:
    design = Design(batch_size=4, null=3)
    files = fusiform.scan(small(net), folder, tmp_path / "files.zarr", design=design)
    found = fusiform.scan(small(net), source, tmp_path / "found.zarr", design=design)
    require_equal(files, found)
    np.testing.assert_array_equal(files.counts, found.counts)
    assert found.design == files.design
    assert fusiform.check(tmp_path / "found.zarr").problems == ()


def test_moments_are_those_of_plain_loops(net: Small) -> None:
    inputs = {name: torch.stack([as_floats(one) for one in own]) for name, own in MAPPING.items()}
    store = fusiform.scan(net, inputs)
    net.eval()
    with torch.no_grad():
        own = [net(images).double().numpy() for images in inputs.values()]
    layer = store.layer("out")
    (slab, _), *_ = store.slabs(layer)
    for fold, moments in enumerate(store.moments(layer, slab)):
        for category, responses in enumerate(own):
            expected = [reference.moments(unit) for unit in responses[fold::2].T]
            count, mean, m2 = map(np.array, zip(*expected, strict=True))
            assert (moments.count[category] == count).all()
            np.testing.assert_allclose(moments.mean[category], mean, rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(moments.m2[category], m2, rtol=1e-3, atol=1e-9)


def test_a_stream_has_the_moments_of_a_mapping_up_to_rounding(net: Small) -> None:
    whole = fusiform.scan(small(net), MAPPING, design=Design(folds=3))
    loader = DataLoader(Pairs(as_tensor), batch_size=5)
    found = fusiform.scan(small(net), loader, design=Design(folds=3))
    np.testing.assert_array_equal(whole.counts, found.counts)
    own, its = numbers(whole), numbers(found)
    for name in own:
        if name.endswith(("/mean", "/m2")):
            np.testing.assert_allclose(own[name], its[name], rtol=1e-5, atol=1e-6, err_msg=name)
    for name in ("sha256", "category", "fold"):
        column = f"stimulus_{name}"
        assert whole.stimulus_column(column).tolist() == found.stimulus_column(column).tolist()
    assert "stream" in " ".join(found.provenance["notes"])


def test_a_generator_is_a_stream_and_is_asked_once(net: Small, tmp_path: Path) -> None:
    asked = []

    def batches() -> Iterator[Any]:
        for start in range(0, EACH, 3):
            asked.append(start)
            yield (
                np.concatenate([own[start : start + 3] for own in MAPPING.values()]),
                [name for name in CATEGORIES for _ in range(3)],
            )

    stimuli = Stimuli(batches(), categories=CATEGORIES)
    store = fusiform.scan(small(net), stimuli, tmp_path / "stream.zarr")
    assert asked == [0, 3, 6]
    assert store.counts.sum() == 3 * EACH
    assert fusiform.check(tmp_path / "stream.zarr").problems == ()


# What the network takes


class Two(nn.Module):
    """A network of a sentence of tokens and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.mixed = nn.Linear(6, 6)

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.mixed(self.embedding(tokens) * scale[:, None, None])


@pytest.mark.parametrize("form", [tuple, dict])
def test_tuples_and_dictionaries_are_the_arguments(form: type) -> None:
    torch.manual_seed(1)
    net, tokens, scale = (
        Two(),
        torch.randint(0, 11, (2, 6, 7)),
        torch.rand(2, 6, dtype=torch.double),
    )

    def given(row: int) -> Any:
        both = {"tokens": tokens[row], "scale": scale[row]}
        return both if form is dict else tuple(both.values())

    store = fusiform.scan(net, {"sentences": given(0), "lists": given(1)})
    (layer,) = (one for one in store.layers if one.name == "mixed")
    assert (layer.dims, layer.shape) == (("token", "channel"), (7, 6))
    net.eval()
    expected = net(tokens[0], scale[0].float()).double().mean(0).detach()
    mean = (numbers(store)["mixed/mean"][0] * 3).sum(0) / 6
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
    assert store.provenance["preprocessing"] == {"inputs": "as given"}
    assert store.network.preprocessing is None
    assert fusiform.plan(net, {"sentences": given(0), "lists": given(1)}).stimuli == 12


def test_inputs_of_another_rank_are_shown_as_they_are() -> None:
    sound = nn.Sequential(nn.Conv1d(1, 3, 5), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    store = fusiform.scan(sound, {"speech": torch.randn(6, 1, 50), "noise": torch.rand(6, 1, 50)})
    assert [layer.shape for layer in store.layers] == [(3, 46), (3, 46), (3, 1), (3,)]


# A network of the program


def test_a_module_is_given_back_as_it_was(net: Small) -> None:
    net.train()
    net.norm.eval()
    net(torch.rand(4, 3, SIDE, SIDE)).sum().backward()
    before = copy.deepcopy(net.state_dict())
    gradients = [one.grad.clone() for one in net.parameters() if one.grad is not None]
    strides = [one.stride() for one in net.parameters()]
    drawn = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    class Drawing(Pairs):
        def __getitem__(self, number: int) -> tuple[Any, Any]:
            torch.rand(1), np.random.rand(), random.random()
            return super().__getitem__(number)

    for source in (MAPPING, Drawing(), DataLoader(Pairs(as_tensor), batch_size=5)):
        fusiform.scan(small(net), source)
        fusiform.plan(small(net), MAPPING)
        assert [one.training for one in net.modules()] == [True, True, False, True, True]
        assert all(one.equal(before[name]) for name, one in net.state_dict().items())
        kept = [one.grad for one in net.parameters()]
        assert all(one.equal(two) for one, two in zip(gradients, kept, strict=True))
        assert [one.stride() for one in net.parameters()] == strides
        assert all(one.requires_grad for one in net.parameters())
        assert not any(one._forward_hooks or one._forward_pre_hooks for one in net.modules())
        assert torch.get_rng_state().equal(drawn[0])
        assert np.random.get_state()[1].tolist() == drawn[1]
        assert random.getstate() == drawn[2]


def test_a_module_is_given_back_after_an_error(net: Small) -> None:
    class Broken(Pairs):
        def __getitem__(self, number: int) -> tuple[Any, Any]:
            if number == 20:
                raise RuntimeError("a reader of the program failed")
            return super().__getitem__(number)

    with pytest.raises(RuntimeError, match="a reader of the program failed"):
        fusiform.scan(small(net), Broken())
    assert net.training
    assert not any(one._forward_hooks for one in net.modules())


def test_training_goes_on_as_without_scans(net: Small) -> None:
    def trained(scans: bool) -> dict[str, torch.Tensor]:
        own = copy.deepcopy(net)
        optimiser = torch.optim.Adam(own.parameters())
        torch.manual_seed(3)
        for _ in range(2):
            optimiser.zero_grad()
            own(torch.rand(4, 3, SIDE, SIDE)).square().sum().backward()
            optimiser.step()
            if scans:
                fusiform.scan(small(own), MAPPING)
        return own.state_dict()

    without, with_scans = trained(False), trained(True)
    assert all(values.equal(with_scans[name]) for name, values in without.items())


def test_a_network_is_in_one_scan_at_a_time(net: Small) -> None:
    class Nested(Pairs):
        def __getitem__(self, number: int) -> tuple[Any, Any]:
            fusiform.scan(small(nn.Sequential(net)), MAPPING)
            return super().__getitem__(number)

    net.train()
    with pytest.raises(UserError, match="in one scan at a time; Sequential or a part of it is in"):
        fusiform.scan(small(net), Nested())
    assert net.training
    fusiform.scan(small(net), MAPPING)


def test_autocast_of_the_program_does_not_apply(net: Small) -> None:
    usual = fusiform.scan(small(net), MAPPING)
    with torch.autocast("cpu", torch.bfloat16):
        require_equal(usual, fusiform.scan(small(net), MAPPING))
        loader = DataLoader(Pairs(as_tensor), batch_size=5)
        assert fusiform.scan(small(net), loader).layers == usual.layers
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("module", [nn.Conv2d(3, 2, 3, device="meta"), nn.LazyConv2d(2, 3)])
def test_a_network_without_weights_is_refused(module: nn.Module) -> None:
    with pytest.raises(UserError, match="has some without values, lazy or on the device meta"):
        fusiform.scan(module, MAPPING)


# A store in memory


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_store_in_memory_is_copied(copied: Callable[[Store], Store], net: Small) -> None:
    store = fusiform.scan(small(net), MAPPING)
    other = copied(store)
    require_equal(store, other)
    fusiform.save_contrast(other, "own", contrast="words > faces")
    assert "own" in other.saved
    assert "own" not in fusiform.open_store(store.path).saved


def test_a_store_in_memory_is_a_store(
    net: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = fusiform.scan(small(net), MAPPING, design=Design(null=5))
    written = fusiform.scan(small(net), MAPPING, tmp_path / "a.zarr", design=Design(null=5))
    require_equal(written, store)
    assert store.frame().equals(written.frame())
    assert list(store.frame()["contrast"].unique()) == list(CATEGORIES)
    assert repr(store).startswith("<fusiform.Store memory: Small (as given), ")
    query = "words: t > 0"
    assert store.query(query).counts().frame().equals(written.query(query).counts().frame())
    mask = store.mask("words", "conv", fusiform.Criterion("rest", "top 1%"))
    assert mask.shape == (4, SIDE, SIDE)
    fusiform.save_contrast(store, "kept", contrast="words > faces")
    fusiform.save_contrast(store, "kept", contrast="faces > words")
    assert store.saved["kept"]["contrasts"] == ["faces > words"]
    assert "kept" in store.tree()["conv"].children
    assert fusiform.analyse(store, resamples=5).shares
    kept = fusiform.archive(store.path, tmp_path / "kept.zarr.zip")
    require_equal(store, fusiform.open_store(kept))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "kept.zarr.zip"]
    with pytest.raises(UserError, match="does not say where: name them"):
        _ = store.stimuli


def test_a_store_in_memory_is_freed_with_its_last_name(net: Small) -> None:
    gc.collect()
    gc.disable()
    try:
        for source in (MAPPING, DataLoader(Pairs(as_tensor), batch_size=5)):
            store = fusiform.scan(small(net), source)
            store.frame()
            place = weakref.ref(store.path)
            del store
            assert place() is None
    finally:
        gc.enable()


def test_files_are_scanned_into_memory(net: Small, folder: Path, tmp_path: Path) -> None:
    files = fusiform.scan(small(net), folder, tmp_path / "a.zarr")
    require_equal(files, fusiform.scan(small(net), folder))


@pytest.mark.parametrize("in_memory", [True, False])
def test_responses_to_objects_are_recorded(net: Small, tmp_path: Path, in_memory: bool) -> None:
    store = fusiform.scan(small(net), MAPPING)
    output = None if in_memory else tmp_path / "r.zarr"
    shuffled = Subset(Pairs(), torch.randperm(len(Pairs())).tolist())
    for source in (MAPPING, shuffled):
        recording = fusiform.record(
            small(net), source, output, store=store, units=UnitRequest(random=4), overwrite=True
        )
        assert recording.layers[-1].name == "out"
        rows = recording.dataset("out")["response"]
        assert rows.shape == (3 * EACH, 4)
        by_category = np.asarray(rows).reshape(3, EACH, 4).mean(1)
        unit = np.asarray(recording.dataset("out")["unit"])
        mean = numbers(store)["out/mean"][..., unit]
        expected = (mean * store.counts[..., None]).sum(1) / EACH
        np.testing.assert_allclose(by_category, expected, rtol=1e-4, atol=1e-6)


# Stopping and resuming


class Stopped(Pairs):
    """A Dataset whose program is stopped at a number of requests."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.asked = at, 0

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        self.asked += 1
        if self.asked == self.at:
            raise RuntimeError("stopped")
        return super().__getitem__(number)


def test_a_dataset_resumes_as_files_do(net: Small, tmp_path: Path) -> None:
    output, design = tmp_path / "a.zarr", Design(batch_size=4)
    whole = fusiform.scan(small(net), Pairs(), design=design)
    with pytest.raises(RuntimeError, match="stopped") as caught:
        fusiform.scan(small(net), Stopped(at=45), output, design=design)
    assert "the same command resumes it" in caught.value.__notes__[-1]

    class Brighter(Pairs):
        def __getitem__(self, number: int) -> tuple[Any, Any]:
            image, label = super().__getitem__(number)
            return (image.point(lambda x: x // 2) if number == 0 else image), label

    with pytest.raises(UserError, match="faces/0 has changed, and was shown: scan as then") as told:
        fusiform.scan(small(net), Brighter(), output, design=design)
    assert "\n" not in str(told.value)
    again = Stopped(at=-1)
    require_equal(whole, fusiform.scan(small(net), again, output, design=design))
    assert len(Pairs()) < again.asked < 2 * len(Pairs())  # shown from the middle on


def test_a_scan_into_memory_that_fails_promises_nothing(net: Small) -> None:
    with pytest.raises(RuntimeError, match="stopped") as caught:
        fusiform.scan(small(net), Stopped(at=45), design=Design(batch_size=4))
    assert not getattr(caught.value, "__notes__", [])


# Mistakes


class Changing(Pairs):
    """A Dataset with random augmentation."""

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        image, label = super().__getitem__(number)
        return Image.fromarray(np.roll(np.asarray(image), random.randrange(1, 9), 0)), label


class Relabelled(Pairs):
    """A Dataset whose labels change."""

    asked = 0

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        self.asked += 1
        image, label = super().__getitem__(number)
        return image, label if self.asked <= len(self) else (label + 1) % 3


class Numbered(Pairs):
    """A Dataset that counts its classes."""

    classes = 3  # type: ignore[assignment]


class Several(Pairs):
    """A Dataset of items of another form."""

    def __init__(self, item: Any, number: int = 5) -> None:
        super().__init__()
        self.item, self.number = item, number

    def __getitem__(self, number: int) -> Any:
        return self.item if number == self.number else super().__getitem__(number)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield as_tensor(MAPPING["faces"][0]), 0


def one_batch(labels: Any) -> Stimuli:
    """A stream of nine pictures with these labels, of categories a and b."""
    return Stimuli(iter([(MAPPING["faces"], labels)]), categories=["a", "b"])


FACE = MAPPING["faces"][0]
TOKENS = torch.zeros(4, 7, dtype=torch.long)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "two or more categories of different names; got none"),
        ({"faces": MAPPING["faces"]}, "two or more categories .* got faces"),
        ({"a": MAPPING["faces"], 3: MAPPING["words"]}, "names of categories are texts; got 'a', 3"),
        ({**MAPPING, "words": MAPPING["words"][:3]}, r"4 with `folds=2`\); words has 3"),
        ({**MAPPING, "words": MAPPING["words"][:0]}, "words has 0"),
        ({**MAPPING, "words": []}, "words has 0"),
        ({**MAPPING, "words": MAPPING["words"] / 255}, r"words is float64 \[9, 20, 24, 3"),
        ({**MAPPING, "words": MAPPING["words"][0]}, r"words is uint8 \[20, 24, 3\]"),
        ({**MAPPING, "words": MAPPING["words"][..., :1]}, r"words/0 is an array of uint8"),
        ({**MAPPING, "words": TOKENS}, r"form of the first, a picture; words/0 is int64 \[7\]"),
        ({"a": TOKENS, "b": TOKENS[:, 1:]}, r"the first, int64 \[7\]; b/0 is int64 \[6\]"),
        ({"a": TOKENS, "b": TOKENS.int()}, r"b/0 is int32 \[7\]"),
        ({"a": (TOKENS, TOKENS[1:]), "b": TOKENS}, "those of a have 3, 4: give as many"),
        ({"a": TOKENS.to_sparse(), "b": TOKENS}, "a dense block; a is a sparse_coo tensor"),
        ({"a": TOKENS.to("meta"), "b": TOKENS}, "a dense block; a is a meta tensor"),
        ({"a": [TOKENS[0].to("meta")] * 4, "b": TOKENS}, "a/0 is a meta tensor"),
        ({"a": torch.tensor(1.0), "b": TOKENS}, "a are several, .* got Tensor: collect them"),
        ({"a": iter(MAPPING["faces"]), "b": MAPPING["words"]}, "collect them in a list"),
        ({**MAPPING, "faces": MAPPING["faces"][:, :0]}, r"faces/0 is an array of uint8 \[0, 24, 3"),
        ({**MAPPING, "words": [Image.new("RGB", (0, 9))] * 4}, "words/0 is Image: convert it"),
        ({**MAPPING, "words": "words/"}, "words are several, .* got str"),
        ({**MAPPING, "words": 3}, "words are several, .* got int"),
        ({**MAPPING, "words": ["a.png"] * 5}, "words/0 is str: convert it"),
        (Changing(), "asks for each at least twice; faces/0 has changed"),
        (Relabelled(), "the label of item 0 has changed"),
        (Numbered(), "names of categories are texts; got 3: give texts, those of a Dataset in"),
        (Several((FACE, 3)), "that of item 5 is 3, and categories are faces, places, words"),
        (Several((FACE, -1)), "that of item 5 is -1"),
        (Several((FACE, "dogs")), "that of item 5 is 'dogs'"),
        (Several((FACE, 0.5)), "that of item 5 is 0.5"),
        (Several((FACE, torch.eye(3)[0])), "that of item 5 is tensor"),
        (Several(FACE), r"gives \(input, label\); item 5 is a ndarray"),
        (Several((FACE, 0, 1)), "item 5 is a tuple of 3"),
        (Several((FACE.astype(float), 0)), r"item 5 is an array of float64 \[20, 24, 3\]"),
        (Several((None, 0)), "item 5 is NoneType"),
        (Several((torch.zeros(7), 0)), "a picture; item 5 is float32"),
        (Stimuli(Pairs(), categories=["a", "b"]), "item 2 is 2, and categories are a, b"),
        (Stimuli(Pairs(), categories=["a", "b", "b"]), "different names; got a, b, b"),
        (Stimuli(Pairs(), categories=[*CATEGORIES, "dogs"]), "dogs has 0"),
        ([(FACE, 0)] * 4, "list has no `classes`: give `categories`"),
        (Stimuli(iter([]), categories=["a", "b"]), "this one has none"),
        (Stimuli(iter([FACE]), categories=["a", "b"]), "batch 0 is a ndarray"),
        (Stimuli(Endless(), categories=["a", "b"]), "labels of batch 0 are a single int"),
        (one_batch(torch.tensor(0)), "labels of batch 0 are a single Tensor: give batches"),
        (one_batch([0] * 8), "9 inputs and labels 8"),
        (one_batch([2] * 9), "of batch 0 is 2"),
        (one_batch([0] * 9), "the stream had 0 of b"),
        (
            Stimuli(iter([(TOKENS, [0] * 4), (TOKENS[:, 1:], [0] * 4)]), categories=["a", "b"]),
            r"batch 1 is int64 \[6\]",
        ),
        (
            Stimuli(iter([(own[:n], [0] * n) for n, own in ((2, TOKENS), (3, TOKENS))]),
                    categories=["a", "b"]),
            "larger than the first, of 2; batch 1 has 3",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_one_line(source: Any, said: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    stimuli = Stimuli.of(source)
    first = next(iter(source.values()), None) if isinstance(source, dict) else None
    tokens = isinstance(first, torch.Tensor | tuple) or "batch 1" in said
    net = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2)) if tokens else small(Small())
    with pytest.raises(UserError, match=said) as caught:
        fusiform.scan(net, stimuli, tmp_path / "a.zarr")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"groups": {"a": "faces"}}, "`groups` is for stimuli in files"),
        ({"root": "/data"}, "`root` is for stimuli in files"),
        ({"on_error": "skip"}, "`on_error` is for stimuli in files"),
        ({"categories": ["a", "b"]}, "`categories` name the labels of a Dataset"),
    ],
)
def test_options_of_files_are_refused_for_objects(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Stimuli(MAPPING, **options)


class Unsized(Dataset[Any]):
    def __getitem__(self, number: int) -> tuple[Any, int]:
        return FACE, 0


@pytest.mark.parametrize("source", [3, None, 2.5, object(), Pairs, Unsized()])
def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(UserError, match=r"stimuli are a path or URL, .* a Dataset with `__len__`"):
        Stimuli(source)


def test_bytes_are_no_source() -> None:
    with pytest.raises(UserError, match="a location is a path or a URL"):
        Stimuli(b"stimuli")


def test_names_of_categories_may_be_of_a_kind_of_text(net: Small) -> None:
    names = [np.str_(name) for name in CATEGORIES]
    mapping = dict(zip(names, MAPPING.values(), strict=True))
    for source in (mapping, Stimuli(Pairs(), categories=names)):
        assert fusiform.scan(small(net), source).categories == CATEGORIES


def test_an_error_of_the_programs_files_is_not_of_the_scan(net: Small, tmp_path: Path) -> None:
    class Full(Stopped):
        def __getitem__(self, number: int) -> tuple[Any, Any]:
            try:
                return super().__getitem__(number)
            except RuntimeError:
                raise OSError(28, "no space") from None

    for at in (5, 45):
        with pytest.raises(UserError, match=r"failed with OSError .*no space") as told:
            fusiform.scan(small(net), Full(at), tmp_path / "a.zarr", design=Design(batch_size=4))
        assert "cannot write" not in str(told.value)


def test_what_is_beyond_a_picture_is_told_by_its_range(net: Small) -> None:
    with pytest.raises(UserError, match=r"float32 \[3, 20, 24\] from -0.5 to 0.\d+: convert"):
        fusiform.scan(small(net), Pairs(lambda one: as_floats(one) - 0.5))


def test_categories_are_for_objects_and_names() -> None:
    with pytest.raises(UserError, match="`categories` name the labels"):
        Stimuli("folder", categories=["a", "b"])
    with pytest.raises(UserError, match="`categories` are names"):
        Stimuli(Pairs(), categories=[0, 1])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["workers", "decode_workers", "scheduler"])
def test_resources_of_files_are_refused_for_objects(name: str, net: Small) -> None:
    resources = Resources(**{name: "tcp://x:1" if name == "scheduler" else 2})
    for function in (fusiform.scan, fusiform.plan, fusiform.record):
        with pytest.raises(UserError, match=f"`{name}` is for stimuli in files"):
            function(small(net), MAPPING, resources=resources)


def test_a_stream_refuses_what_needs_its_order(net: Small, folder: Path) -> None:
    loader = DataLoader(Pairs(as_tensor), batch_size=5)
    for design in (Design(null=3), Design(batch_size=4)):
        with pytest.raises(UserError, match="an order and batches of its own"):
            fusiform.scan(small(net), loader, design=design)
    with pytest.raises(UserError, match="a plan says how long"):
        fusiform.plan(small(net), loader)
    with pytest.raises(UserError, match="a recording has a row for every stimulus"):
        fusiform.record(small(net), loader)
    with pytest.raises(UserError, match="no `output`: name one"):
        fusiform.scan("resnet18", folder, resources=Resources(workers=2))


def test_a_stream_that_does_not_fit_into_memory_is_refused(net: Small, in_passes: None) -> None:
    with pytest.raises(UserError, match="the moments of all 6 groups in memory"):
        fusiform.scan(small(net), DataLoader(Pairs(as_tensor), batch_size=5))


@pytest.mark.parametrize(
    "source", [Pairs(lambda one: as_floats(one) - 0.5), Pairs(lambda one: TOKENS[0])]
)
def test_a_preprocessing_is_for_pictures(source: Any, net: Small) -> None:
    with pytest.raises(UserError, match="a preprocessing is for pictures"):
        fusiform.scan(small(net), source)


def test_a_decoder_is_for_files(net: Small) -> None:
    network = Network(net, preprocessing={**SMALL, "decoder": "torchvision"})
    with pytest.raises(UserError, match="`decoder` torchvision is for JPEG files"):
        fusiform.scan(network, MAPPING)


def test_inputs_that_the_network_does_not_take_are_refused(net: Small) -> None:
    with pytest.raises(UserError, match="must run on its stimuli as they are; it fails with"):
        fusiform.scan(net, {"a": torch.zeros(4, 7), "b": torch.ones(4, 7)})


def test_other_functions_refuse_objects_in_one_line() -> None:
    with pytest.raises(UserError, match="a location is a path") as caught:
        fusiform.check_stimuli(Stimuli(MAPPING))
    assert "\n" not in str(caught.value)


def test_a_stream_notes_what_files_note(net: Small) -> None:
    from fusiform.engine.scanning.progress import Listener

    grey = np.full((1, 20, 24, 3), 128, np.uint8)
    images = [np.concatenate([own, grey]) for own in MAPPING.values()]
    stream = ((own, [label] * len(own)) for label, own in enumerate(images))
    notes: list[str] = []
    stimuli = Stimuli(stream, categories=CATEGORIES)
    nn.init.constant_(net.out.bias, torch.inf)
    fusiform.scan(small(net), stimuli, progress=Listener(note=notes.append))
    assert f"nothing is visible in stimulus {EACH}" in "\n".join(notes)
    assert "5 of 5 units of out gave NaN or infinity for faces" in "\n".join(notes)
    assert "a scan that is stopped begins anew" in "\n".join(notes)
