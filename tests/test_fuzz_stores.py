"""Mutated stores: a short run of what ``python -m tests.fuzz.stores`` does at length."""

from __future__ import annotations

from .fuzz import stores


def test_mutated_stores_are_read_or_refused() -> None:
    # What is run at length begins with these. All kinds of mutations are among them.
    outcomes, peak = stores.run(count=40, seed=0)
    assert len(outcomes) == 40
    failures = [outcome for outcome in outcomes if outcome.failed]
    assert not failures, stores.report(outcomes, peak, 0)
    assert len({outcome.kind for outcome in outcomes}) > 4
    assert {outcome.checked for outcome in outcomes} >= {"damaged"}
    assert 0 < peak < stores.BYTES
