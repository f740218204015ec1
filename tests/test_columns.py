"""Columns of texts and hashes behave like lists of them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusiform.engine.registry import SHOWN
from fusiform.engine.stimuli import columns
from fusiform.engine.stimuli.columns import Content, Contents, Texts, storable
from fusiform.engine.store import identity

TEXTS = st.lists(st.text(st.characters(codec=None), max_size=8), max_size=30)


@given(TEXTS, st.data())
def test_a_text_column_behaves_like_a_list(texts: list[str], data: st.DataObject) -> None:
    found = Texts.of(texts)
    assert list(found) == texts == [found[i] for i in range(len(texts))]
    assert found == tuple(texts)
    assert found[::-1] == texts[::-1]
    assert list(found.storable()) == [storable(text) for text in texts]
    places = st.lists(st.integers(0, len(texts) - 1)) if texts else st.just([])
    order = data.draw(places)
    taken = found.take(np.array(order, np.int64))
    assert list(taken) == [texts[i] for i in order]


def test_a_text_column_is_copied_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_AT_ONCE", 7)
    texts = [f"{i * i:b}é" for i in range(100)]
    order = np.random.default_rng(0).permutation(100)
    found = Texts.of(texts)
    assert list(found) == texts
    assert list(found.take(order)) == [texts[i] for i in order]


def test_a_row_out_of_range_raises_index_error() -> None:
    found = Texts.of(["a", "b"])
    assert found[-1] == "b"
    for place in (2, -3):
        with pytest.raises(IndexError):
            found[place]
    assert found != ("a",)
    assert found != "ab"


def test_a_text_takes_four_bytes_besides_its_own() -> None:
    found = Texts.of(["abc"] * 1000)
    assert found.content.nbytes + found.ends.nbytes == 1000 * (3 + 4)


def test_a_content_column_stores_hashes_and_problems() -> None:
    digests = np.zeros((3, 32), np.uint8)
    digests[1] = np.frombuffer(hashlib.sha256(b"x").digest(), np.uint8)
    found = Contents(digests, {2: "is empty"})
    assert found == (
        Content("", ""),
        Content(hashlib.sha256(b"x").hexdigest(), ""),
        Content("", "is empty"),
    )


def plain_fingerprint(provenance: dict[str, Any], stimuli: dict[str, Any]) -> str:
    """The fingerprint as docs/reference/store.md defines it: the hash of one JSON text."""
    known = {name: provenance[name] for name in identity.IDENTITY if name in provenance}
    names = ("sha256", "category", "fold", "status")
    rows = zip(*(stimuli[f"stimulus_{name}"] for name in names), strict=True)
    known["stimuli"] = [
        [digest, int(k), int(f)] for digest, k, f, status in rows if status == SHOWN
    ]
    text = json.dumps(known, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("at_once", [1, 3, 100])
@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 9), st.booleans()), max_size=12))
def test_the_fingerprint_equals_that_of_one_json_text(
    at_once: int, rows: list[tuple[str, int, bool]]
) -> None:
    stimuli = {
        "stimulus_sha256": [digest for digest, _, _ in rows],
        "stimulus_category": [category for _, category, _ in rows],
        "stimulus_fold": np.zeros(len(rows), int),
        "stimulus_status": [SHOWN if shown else "is empty" for _, _, shown in rows],
    }
    provenance = {"model": '"stimuli":[]', "null": {"stimuli": []}, "other": 1, "folds": 2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "_BATCH", at_once)
        assert identity.fingerprint(provenance, stimuli) == plain_fingerprint(provenance, stimuli)


def test_the_fingerprint_changes_with_every_stimulus() -> None:
    rows = {
        "stimulus_sha256": ["a", "b"],
        "stimulus_category": [0, 1],
        "stimulus_fold": [0, 0],
        "stimulus_status": [SHOWN, SHOWN],
    }
    own = identity.fingerprint({"model": "m"}, rows)
    changed = [{**rows, name: values[::-1]} for name, values in rows.items() if len({*values}) > 1]
    assert len({own, *(identity.fingerprint({"model": "m"}, one) for one in changed)}) == 3
