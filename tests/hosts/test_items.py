"""Ids of a call: the items' own where each is unique, and always different ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rag_rerank.hosts import make_ids, tag_ids

own = st.none() | st.sampled_from(["", "0", "1", "2", "position 0", "position 1", "position position 1", "x"])


@given(own_ids=st.lists(own, max_size=8))
def test_ids_differ_and_are_the_items_own_where_no_other_has_them(own_ids: list[str | None]) -> None:
    ids = make_ids(own_ids)
    assert len(set(ids)) == len(ids) == len(own_ids)
    positions = 0
    for position, (id, own_id) in enumerate(zip(ids, own_ids, strict=True)):
        if own_id and own_ids.count(own_id) == 1:
            assert id == own_id
        else:
            assert id.removeprefix("position ").removeprefix("position ").removeprefix("position ") == str(position)
            positions += id != own_id
    tag = tag_ids(ids, own_ids)
    assert (tag == {}) == (positions == 0)
    if positions:
        assert tag["rag_rerank.ids"].startswith(f"{positions} of {len(ids)} are positions")
