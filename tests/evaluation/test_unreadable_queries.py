from support.unreadable_texts import OTHER_SCRIPTS

from rag_rerank import Candidate
from rag_rerank.evaluation import Judged, JudgedQuery, evaluate
from rag_rerank.evaluation.report import FIRST_STAGE


def test_an_evaluation_counts_the_queries_that_a_model_cannot_read_and_says_so() -> None:
    def judged_query(id: str, text: str) -> JudgedQuery:
        texts = ("The bridge is old.", "Two million people live in the city.", "Порт лежит к югу от города.")
        candidates = tuple(Candidate(f"{id}.{i}", text) for i, text in enumerate(texts))
        return JudgedQuery(id=id, text=text, candidates=candidates, grades={f"{id}.1": 1}, metadata={})

    queries = [judged_query("en", "how many people live in the city?")]
    queries += [judged_query(language, OTHER_SCRIPTS[language][0]) for language in ("ru", "th", "ko")]
    evaluation = evaluate(Judged(name="made up", queries=tuple(queries), fingerprint="1"), ["embedded"])
    by_name = {system.name: system for system in evaluation.systems}
    assert by_name["embedded"].degraded == 4
    assert by_name["embedded"].errors == 0
    assert by_name["embedded"].measures["RR@10"].mean == by_name[FIRST_STAGE].measures["RR@10"].mean == 0.5
    assert "the model cannot read the query" in str(evaluation.to_dict())
