"""pack(answerable=...): no context where it is too improbable that a text answers, and never without saying so."""

import pytest
from support.calibration_maps import answerability_map_for

from rag_rerank import Answerable, BackendUnavailable, ConfigError, Fallback, Packing, Ranking, pack
from rag_rerank.testing import ScriptedReranker


def ranking(*scores: float, others: bool = False) -> Ranking:
    inner = ScriptedReranker(by_text={str(i): s for i, s in enumerate(scores)}, answers_on="sigmoid")
    down = ScriptedReranker(name="down", answers_on="sigmoid", error=BackendUnavailable("gone"))
    reranker = Fallback(members=(down, inner)) if others else inner
    return Answerable(reranker=reranker, map=answerability_map_for(reranker)).rerank("q", [*inner.by_text, " "])


def test_below_it_nothing_is_kept_and_each_hit_has_the_reason() -> None:
    context = pack(ranking(-2.0, -3.0), answerable=0.5)
    assert context.text == "" and len(context) == 0
    assert [drop.reason for drop in context.dropped] == ["answerable", "answerable", "blank"]
    (note,) = context.notes
    assert note.startswith("no text is in the context: the probability that a text answers is 0.1824, below answerable")


def test_from_it_on_all_is_kept() -> None:
    known = ranking(2.0, -3.0)
    assert known.answerable is not None
    assert len(pack(known, answerable=known.answerable)) == 2
    assert pack(known, answerable=0.5).notes == ()
    assert len(pack(known.top(1), answerable=0.5)) == 1


def test_without_a_map_it_is_an_error_that_names_the_command() -> None:
    plain = ScriptedReranker(by_text={"0": 1.0}, answers_on="sigmoid").rerank("q", ["0"])
    with pytest.raises(ConfigError, match=r"^answerable: the ranking of scripted .* calibrate JUDGED --answerable"):
        pack(plain, answerable=0.5)


@pytest.mark.parametrize("others", [True, False], ids=["substituted", "one text"])
def test_where_the_map_says_nothing_it_is_not_applied_and_a_note_says_why(others: bool) -> None:
    scores = (1.0, 2.0) if others else (1.0,)
    context = pack(ranking(*scores, others=others), answerable=0.5)
    assert len(context) == len(scores)
    (note,) = context.notes
    assert note.startswith("answerable=0.5 was not applied: ") and "answerable is unknown" in note


def test_the_option_is_a_probability() -> None:
    with pytest.raises(ConfigError, match=r"^answerable: expected a number in 0\.\.1, got 90"):
        Packing(answerable=90)
    assert Packing.from_dict({"answerable": 0.9}).to_dict() == {"answerable": 0.9}
