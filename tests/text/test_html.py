"""What a notebook shows of results: one escaped table, with limits, and what must be known above it."""

from html.parser import HTMLParser
from itertools import chain
from typing import Any

import pytest

from rag_rerank import Candidate, Coverage, Hit, Ranking, RelevantSpan, Trace, pack
from rag_rerank.evaluation import Drift, Regression
from rag_rerank.evaluation.probes.report import KindResult, ProbeReport
from rag_rerank.evaluation.report import Data, Evaluation, EvaluationSettings, MeanEstimate, System, Verdict
from rag_rerank.testing import ScriptedReranker
from rag_rerank.text.html import ROWS

EVIL = "<script>alert(1)</script>\"'&\x00\ud800<img src=x onerror=alert(1)>"


class Cells(HTMLParser):
    """The rows of all tables, and the text outside of them; refuses any tag that is not a table's."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.lines: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td"}, tag
        assert {name for name, _ in attrs} <= {"style", "dir"}
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag == "p":
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        else:
            self.lines[-1] += data


def test_a_ranking_is_a_table_of_moves_and_scores() -> None:
    reranker = ScriptedReranker(by_text={"a": 1.0, "b": 3.0, "c": 2.0})
    ranking = reranker.rerank("which?", [Candidate(f"id-{text}", text) for text in ("a", "b", "c", " ")])
    table = Cells(ranking._repr_html_())
    assert table.rows[0] == ["rank", "move", "score (unbounded)", "tokens read", "id", "text"]
    assert [row[:3] + row[4:] for row in table.rows[1:]] == [
        ["1", "▲ 1", "3", "id-b", "b"],
        ["2", "▲ 1", "2", "id-c", "c"],
        ["3", "▼ 2", "1", "id-a", "a"],
        ["4", "=", "not scored: blank text", "id-", ""],
    ]
    assert "which?" in table.lines[0]


def test_moves_hold_after_a_cutoff_and_a_pickle_and_are_left_out_where_unknown() -> None:
    import pickle

    reranker = ScriptedReranker(by_text={"a": 1.0, "b": 3.0, "c": 2.0})
    ranking = reranker.rerank("q", ["a", "b", "c"], top_k=1)
    assert Cells(pickle.loads(pickle.dumps(ranking))._repr_html_()).rows[1][1] == "▲ 1"
    assert Cells(Ranking.from_dict(ranking.to_dict())._repr_html_()).rows[1][1] == ""


async def test_moves_are_known_of_an_async_call() -> None:
    ranking = await ScriptedReranker(by_text={"a": 1.0, "b": 3.0}).arerank("q", ["a", "b"])
    assert Cells(ranking._repr_html_()).rows[1][1] == "▲ 1"


def test_what_must_be_known_of_the_scores_is_above_the_table() -> None:
    hits = (Hit(1, 0.5, 0.0, Candidate("a", "x"), Coverage(100, 25)),)
    trace = Trace(step="s", children=(Trace(step="inside", notes=("a note of a step",)),))
    ranking = Ranking("q", hits, "sigmoid", trace, degraded=("a fallback answered",), substituted=True)
    table = Cells(ranking._repr_html_())
    text = "\n".join(table.lines)
    for words in ("a fallback answered", "a note of a step", "another reranker", "1 of 1 texts"):
        assert words in text
    assert table.rows[1][3] == "25 of 100 (25%)"


def test_rows_have_a_limit_and_the_rest_is_counted() -> None:
    ranking = ScriptedReranker().rerank("q", [f"text {i}" * 500 for i in range(5000)])
    html = ranking._repr_html_()
    assert len(html) < 40_000
    table = Cells(html)
    assert len(table.rows) == ROWS + 1
    assert table.lines[-1] == f"and {5000 - ROWS:,} more hits"


def evaluation(name: str) -> Evaluation:
    mean = MeanEstimate(mean=0.5, low=0.4, high=0.6)
    return Evaluation(
        time="",
        version="",
        data=Data(name=name, fingerprint="", queries=7, candidates=1, judged=1, relevant=1, ceiling={}),
        settings=EvaluationSettings(measures=("nDCG@10", "RR"), depth=1, top_k=1, samples=1, seed=1),
        systems=(System(name=name, label=name, measures={"nDCG@10": mean}, p50=0.25, errors=2),),
        comparisons=(),
        slices=(),
        verdict=Verdict(rerank=False, words=f"Do not rerank {name}", reasons=(name,)),
        outcomes=(),
        stopped={name: name},
    )


def probe_report(name: str) -> ProbeReport:
    kinds = (KindResult(kind=name, passed=3, total=4, chance=0.5),)
    return ProbeReport(
        name=name,
        label=name,
        model=None,
        scale="sigmoid",
        suite=1,
        version="",
        time="",
        kinds=kinds,
        missed=(),
        truncated=2,
        degraded=1,
    )


def evil_values() -> list[Any]:
    candidate = Candidate(EVIL, EVIL, metadata={EVIL: EVIL})
    ranking = Ranking(
        EVIL,
        (Hit(1, 0.5, 0.0, candidate, unscored=None),),
        "sigmoid",
        Trace(step=EVIL, notes=(EVIL,)),
        degraded=(EVIL,),
    )
    unscored = Ranking(EVIL, (Hit(1, None, None, candidate, unscored=EVIL),), "sigmoid", Trace(step=EVIL, error=EVIL))
    mean = MeanEstimate(mean=-0.1, low=-0.2, high=0.0)
    fall = Regression(
        system=EVIL, field=EVIL, value=EVIL, measure=EVIL, queries=1, before=1, now=0, difference=mean, p_adjusted=0.01
    )
    return [
        ranking,
        unscored,
        ranking.trace,
        unscored.trace,
        pack(ranking),
        pack(ranking, min_score=0.9, min_score_scale="sigmoid"),
        evaluation(EVIL),
        probe_report(EVIL),
        Drift(falls=(fall,), tested=1, queries=1, notes=(EVIL,)),
    ]


@pytest.mark.parametrize("value", evil_values(), ids=lambda value: type(value).__name__)
def test_everything_is_escaped(value: Any) -> None:
    html = value._repr_html_()
    html.encode()  # no lone surrogate is left
    assert "\x00" not in html
    parts = Cells(html)  # refuses tags and attributes of others
    assert any("<script>alert(1)</script>" in text for text in [*parts.lines, *chain(*parts.rows)])


def test_a_context_shows_pieces_and_reasons() -> None:
    ranking = ScriptedReranker(by_text={"One two. Three four": 2.0}).rerank("q", ["b c d e f", "One two. Three four"])
    context = pack(ranking, max_tokens=2, tokenizer=lambda text: len(text.split()), trim="sentences")
    rows = Cells(context._repr_html_()).rows
    assert ["1", "1", "2", "characters 0 to 8", "One two."] in rows
    assert any(row[:3] == ["2", "0", "max_tokens"] for row in rows)


def test_a_trace_shows_its_steps() -> None:
    trace = Trace(
        step="cascade", children=(Trace(step="first", scores={"a": 1.0}), Trace(step="second", error="E: no"))
    )
    rows = Cells(trace._repr_html_()).rows
    assert [row[0] for row in rows] == ["step", "cascade", "› first", "› second"]
    assert "failed: E: no" in rows[3][4]


def test_an_evaluation_shows_verdict_and_systems() -> None:
    table = Cells(evaluation("docs")._repr_html_())
    assert "Do not rerank docs" in table.lines
    assert table.rows[0][:3] == ["system", "nDCG@10", "RR"]
    assert table.rows[1][:3] == ["docs", "0.500 [0.400, 0.600]", ""]


def test_a_probe_report_shows_each_kind() -> None:
    table = Cells(probe_report("negation")._repr_html_())
    assert table.rows[1][:3] == ["all", "3 of 4", "75%"]
    assert table.rows[2][0] == "negation"
    assert "Warning: only the beginning of 2 passages was read." in table.lines


def test_relevant_sentences_are_marked_and_a_long_rest_is_left_out() -> None:
    filler = "Nothing to see <here>. " * 40
    text = f"{filler}Garda is 346 m deep. {filler}"
    start = len(filler)
    spans = (RelevantSpan(0, 22, 0.1, -5.0), RelevantSpan(start, start + 20, 0.9, 5.0))
    html = Ranking(
        "q", (Hit(1, 0.5, 0.0, Candidate("a", text), spans=spans),), "sigmoid", Trace(step="s")
    )._repr_html_()
    assert html.count("<mark>") == 1 and "<mark>Garda is 346 m deep.</mark>" in html
    assert "<here>" not in html and "…" in html
    assert len(html) < 2_500
