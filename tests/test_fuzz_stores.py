"""A short run of the fuzzer of damaged stores (``python -m tests.fuzz.stores``)."""

from __future__ import annotations

from .fuzz import stores


def test_mutated_stores_are_read_or_refused() -> None:
    # The long run starts with these; they include every kind of mutation.
    outcomes, peak = stores.run(count=40, seed=0)
    assert len(outcomes) == 40
    failures = [outcome for outcome in outcomes if outcome.failed]
    assert not failures, stores.report(outcomes, peak, 0)
    assert len({outcome.kind for outcome in outcomes}) > 4
    assert {outcome.checked for outcome in outcomes} >= {"damaged"}
    assert 0 < peak < stores.BYTES
