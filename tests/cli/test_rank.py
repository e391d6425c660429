"""``rag-rerank rank`` and the command line in general: input, stdout, stderr and exit codes."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from click.testing import CliRunner, Result
from support.api.rerank_server import Answer, RerankServer
from support.calibration_maps import answerability_map_for
from support.tiny_tokenizers import EMBEDDED

import rag_rerank
from rag_rerank import Ranking
from rag_rerank.backends.api.pricing import listed_models
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.backends.local import catalogue
from rag_rerank.cli import app
from rag_rerank.cli.models.listing import Use

QUERY = "how tall is K2?"
LINES = [
    {"id": "garda", "text": "Lake Garda is 346 m deep.", "score": 3.2, "metadata": {"page": 4, "tags": ["lake"]}},
    {"id": "k2", "text": "K2 is 8,611 m tall, says a tall guide to K2."},
    {"text": "   "},
    {"id": 17, "text": "Почему? 温度は重要です。"},
]

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a file and returns its path."""

    def write(content: str | bytes, name: str = "candidates.jsonl") -> str:
        file = tmp_path / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(file)

    return write


@pytest.fixture
def candidates(write: Write) -> str:
    return write("\n".join(json.dumps(line) for line in LINES) + "\n")


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False, **options)


def rank(*arguments: str, reranker: str = "lexical", query: str = QUERY, **options: Any) -> Result:
    return run("rank", "--reranker", reranker, "--query", query, *arguments, **options)


def process(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([sys.executable, "-m", "rag_rerank", *arguments], capture_output=True, check=False, **options)


# rank: the table


def test_the_table_names_ranks_moves_scores_coverage_and_scale(candidates: str) -> None:
    result = rank(candidates)
    assert result.exit_code == 0
    assert result.stderr == ""
    table, facts = result.stdout.split("\n\n")
    heading, *rows = table.splitlines()
    assert heading.split() == ["rank", "was", "score", "read", "id", "text"]
    assert [row.split()[:3] for row in rows] == [["1", "2", "↑1"], ["2", "1", "↓1"], ["3", "4", "↑1"], ["4", "3", "↓1"]]
    assert [row.index("  " + text[:5]) for row, text in zip(rows[:2], ("K2 is", "Lake "), strict=True)] == [
        heading.index("  text")
    ] * 2
    assert "100%" in rows[0]
    assert "[blank text]" in rows[3] and "–" in rows[3]
    assert "unbounded: only the order means something" in facts
    assert "4 candidates in" in facts and "tokens" in facts


def test_an_instruction_that_nothing_takes_is_an_error(candidates: str) -> None:
    result = run("rank", "-r", "lexical", "-q", QUERY, "--instruction", "find lakes", candidates)
    assert result.exit_code == 2
    assert "lexical takes no instruction" in result.stderr


def test_an_instruction_is_sent(
    candidates: str, write: Write, rerank_server: RerankServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOYAGE_API_KEY", "key")
    config = write(json.dumps({"type": "voyage", "base_url": rerank_server.voyage_url}), "voyage.json")
    result = rank("--instruction", "find lakes", candidates, reranker=config)
    assert result.exit_code == 0, result.output
    assert rerank_server.received[0].body["query"] == f"find lakes\nQuery: {QUERY}"


def test_an_unchanged_rank_is_an_equals_sign(write: Write) -> None:
    assert rank(write("K2 K2\nGarda", "plain.txt")).stdout.splitlines()[1].split()[:3] == ["1", "1", "="]


def test_top_k_cuts_the_table_but_not_the_count(candidates: str) -> None:
    result = rank(candidates, "--top-k", "1")
    assert len(result.stdout.split("\n\n")[0].splitlines()) == 2
    assert "4 candidates" in result.stdout


def test_control_characters_are_not_printed(write: Write) -> None:
    result = rank(write(json.dumps({"id": "a\x1b[31m", "text": "K2 \x1b[2J\r\n\u202e tall \ud800"})))
    assert not set("\x1b\r\u202e\ud800") & set(result.stdout)
    assert "K2" in result.stdout


def test_a_long_text_is_cut_to_one_line_with_an_ellipsis(write: Write) -> None:
    for columns in (80, 120):
        result = rank(write("K2 " * 500, "plain.txt"), env={"COLUMNS": str(columns)})
        row = result.stdout.splitlines()[1]
        assert row.endswith("…")
        assert len(row) == columns


def test_a_cut_text_is_a_warning_on_stderr_and_a_share_in_the_table(write: Write) -> None:
    file = write("K2 is tall. " * 400 + "\nshort", "plain.txt")
    result = rank(file, reranker="embedded")
    assert result.stderr.startswith("Warning: late_interaction:embedded read only the beginning of texts")
    assert result.stderr.count("\n") == 1
    cut = next(row for row in result.stdout.splitlines() if "K2 is tall" in row)
    assert result.stdout.count("100%") == 1  # the short one is read whole
    percent = next(cell for cell in cut.split() if cell.endswith("%"))
    assert 0 < int(percent[:-1]) < 100


def test_no_candidates_are_no_error(write: Write) -> None:
    result = rank(write("\n \n"))
    assert (result.exit_code, result.stdout) == (0, "no candidates\n")


def test_an_answer_by_a_fallback_is_noted(
    candidates: str, write: Write, monkeypatch: pytest.MonkeyPatch, rerank_server: RerankServer
) -> None:
    monkeypatch.setenv("CO_API_KEY", "a-key")
    rerank_server.then(Answer(503))
    node = {
        "type": "fallback",
        "members": [
            {"type": "cohere", "base_url": rerank_server.url, "retry": {"attempts": 1}},
            "lexical",
        ],
    }
    result = rank(candidates, "--trace", reranker=write(json.dumps(node), "r.json"))
    assert result.exit_code == 0
    assert "degraded: lexical answered in place of cohere:rerank-v3.5" in result.stdout
    assert "failed: BackendUnavailable" in result.stderr
    assert "a-key" not in result.output


# rank: the time of the call, and what fits


def test_a_call_that_is_not_done_in_time_is_an_error_of_one_line(candidates: str) -> None:
    result = rank(candidates, "--timeout", "1e-6", reranker="embedded")
    assert result.exit_code == 2
    message, link = result.stderr.splitlines()
    assert result.stdout == "" and link.endswith("reference/rerankers/#deadline")
    assert message.startswith("Error: ") and "1e-06 s" in message


def test_the_size_of_the_context_and_the_dropped_ids_are_printed(candidates: str) -> None:
    result = rank(candidates, "--max-tokens", "20", "--tokenizer", str(EMBEDDED))
    assert result.stdout.splitlines()[-3:] == [
        "fits   1 of 4 texts; 18 of 42 tokens",
        "out    max_tokens: garda, 17",
        "out    blank: 2",
    ]


def test_json_has_the_context_with_max_tokens(candidates: str) -> None:
    output = json.loads(rank(candidates, "--max-tokens", "20", "--tokenizer", str(EMBEDDED), "--json").stdout)
    assert output["context"]["text"] == LINES[1]["text"]
    assert [drop["id"] for drop in output["context"]["dropped"]] == ["garda", "17", "2"]
    assert output["context"]["tokens"] <= 20


def test_a_wrong_tokenizer_is_an_error_before_any_call(candidates: str) -> None:
    options = ("--max-tokens", "20", "--tokenizer", "nowhere/")
    result = rank(candidates, *options, reranker="voyage")  # has no key, and is not reached
    assert result.exit_code == 2
    assert "there is no file" in result.stderr


# rank: JSON


def test_json_is_one_object_of_schema_1_with_everything_in_it(candidates: str) -> None:
    result = rank(candidates, "--json", "--trace", "--top-k", "3")
    output = json.loads(result.stdout)
    keys = ["answerable", "degraded", "hits", "query", "scale", "schema", "substituted", "trace", "usage"]
    assert sorted(output) == keys and output["answerable"] is None
    assert output.pop("schema") == 1
    ranking = Ranking.from_dict(output)
    assert [hit.id for hit in ranking] == ["k2", "garda", "17"]
    assert output["hits"][1]["candidate"] == LINES[0]
    keys = ["candidate", "coverage", "rank", "raw_score", "score", "spans", "unscored", "window"]
    assert sorted(output["hits"][0]) == keys
    assert len(ranking.trace.scores) == 3 and list(ranking.trace.unscored) == ["2"]
    assert result.stderr.startswith("lexical  ")


def test_json_of_the_embedded_model_is_pure_even_when_texts_are_cut(write: Write) -> None:
    result = rank(write("K2 is tall. " * 400, "plain.txt"), "--json", reranker="embedded")
    coverage = json.loads(result.stdout)["hits"][0]["coverage"]
    assert 0 < coverage["seen"] < coverage["total"]
    assert result.stderr.startswith("Warning: ")


def test_json_keeps_lone_surrogates_and_stays_ascii(write: Write) -> None:
    result = rank(write('{"text": "K2 \\ud800 温"}'), "--json")
    assert result.stdout.isascii()
    assert json.loads(result.stdout)["hits"][0]["candidate"]["text"] == "K2 \ud800 温"


# rank: files


def test_standard_input_is_read_for_a_dash(candidates: str) -> None:
    content = Path(candidates).read_bytes()
    assert json.loads(rank("-", "--json", input=content).stdout)["hits"][0]["candidate"]["id"] == "k2"
    assert "<stdin>:1: not UTF-8 at byte 3" in rank("-", input=b"K2\xff").stderr


def test_plain_lines_end_at_line_feeds_only_and_blank_ones_are_skipped(write: Write) -> None:
    file = write(b"\xef\xbb\xbfK2 is tall\r\n\n \nLake\x0bGarda\xe2\x80\xa8deep\n", "plain.txt")
    hits = json.loads(rank(file, "--json").stdout)["hits"]
    assert [(hit["candidate"]["id"], hit["candidate"]["text"]) for hit in hits] == [
        ("0", "K2 is tall"),
        ("1", "Lake\x0bGarda\u2028deep"),
    ]


def test_the_format_may_be_forced(write: Write) -> None:
    file = write('{"text": "K2"}\n{broken\n')
    hits = json.loads(rank(file, "--json", "--format", "lines").stdout)["hits"]
    assert sorted(hit["candidate"]["text"] for hit in hits) == ['{"text": "K2"}', "{broken"]
    assert "plain.txt:1: not valid JSON" in rank(write("K2", "plain.txt"), "--format", "jsonl").stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\nplain', "candidates.jsonl:2: not valid JSON"),
        ('\n{"text": "a"', "candidates.jsonl:2: not valid JSON"),
        ('{"text', "candidates.jsonl:1: not valid JSON: Unterminated string"),
        ('{"text": "a"}\n["a"]', "candidates.jsonl:2: expected a JSON object with 'text', got list"),
        ('{"txt": "a"}', "candidates.jsonl:1: unknown key 'txt'; did you mean 'text'?"),
        ('{"id": "a"}', "candidates.jsonl:1: 'text' is missing"),
        ('{"text": null}', "candidates.jsonl:1: candidate '0': text must be a string, got None"),
        ('{"text": "a", "id": true}', "candidates.jsonl:1: candidate id must be a non-empty string, got True"),
        ('{"text": "a", "id": ""}', "candidates.jsonl:1: candidate id must be a non-empty string"),
        ('{"text": "a", "score": NaN}', "candidates.jsonl:1: not valid JSON: NaN is not JSON"),
        ('{"text": "a", "score": "high"}', "candidates.jsonl:1: candidate '0': score must be a number"),
        ('{"text": "a", "metadata": [1]}', "candidates.jsonl:1: candidate '0': metadata must be a mapping"),
        ('{"text": "a", "id": 1}\n\n{"text": "b", "id": "1"}', "candidates.jsonl:3: the id '1' is taken by "),
        ('{"text": ' + "[" * 100_000, "candidates.jsonl:1: not valid JSON"),
    ],
)
def test_a_wrong_line_is_named_with_file_and_number(write: Write, content: str, message: str) -> None:
    result = rank(write(content))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def ids_and_texts(file: str, *arguments: str) -> list[tuple[str, str]]:
    hits = json.loads(rank(file, "--json", *arguments).stdout)["hits"]
    return sorted((hit["candidate"]["id"], hit["candidate"]["text"]) for hit in hits)


ARRAY = [{"id": "a", "text": "K2 is tall"}, {"id": "b", "text": "Lake Garda"}]
AS_OBJECTS = [("a", "K2 is tall"), ("b", "Lake Garda")]
AS_TEXTS = [("0", "K2 is tall"), ("1", "Lake Garda")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps(ARRAY), AS_OBJECTS),
        (json.dumps(ARRAY, indent=2), AS_OBJECTS),
        ("\n\n" + json.dumps(ARRAY, indent=2) + "\n", AS_OBJECTS),
        (json.dumps([row["text"] for row in ARRAY]), AS_TEXTS),
        (json.dumps(["K2 is tall", ARRAY[1]]), [("0", "K2 is tall"), ("b", "Lake Garda")]),
        (json.dumps({"query": "q", "candidates": ARRAY}), AS_OBJECTS),
        (json.dumps({"documents": [row["text"] for row in ARRAY]}, indent=1), AS_TEXTS),
        (json.dumps(ARRAY[0], indent=2), AS_OBJECTS[:1]),
        ("\n".join(map(json.dumps, ARRAY)), AS_OBJECTS),
        ('{"text": "K2 is tall"}\n"Lake Garda"\n', AS_TEXTS),
        ("[1] K2\n[sic] Garda", [("0", "[1] K2"), ("1", "[sic] Garda")]),
        ("[]", []),
    ],
)
@pytest.mark.parametrize("encode", ["plain", "bom", "gzip", "gzip with bom", "stdin", "stdin gzip"])
def test_json_arrays_json_lines_and_texts_are_read_in_every_wrapping(
    write: Write, content: str, expected: list[tuple[str, str]], encode: str
) -> None:
    data = (b"\xef\xbb\xbf" if "bom" in encode else b"") + content.encode()
    data = gzip.compress(data, mtime=0) if "gzip" in encode else data
    if "stdin" in encode:
        hits = json.loads(rank("-", "--json", input=data).stdout)["hits"]
        assert sorted((hit["candidate"]["id"], hit["candidate"]["text"]) for hit in hits) == expected
    else:
        assert ids_and_texts(write(data, "candidates")) == expected


@pytest.mark.parametrize(
    ("line", "candidate"),
    [
        ({"_id": "d1", "title": "K2", "text": "is tall"}, {"id": "d1", "text": "K2 is tall"}),
        ({"id": 7, "contents": "K2"}, {"id": "7", "text": "K2"}),
        ({"doc_id": "d", "body": "K2", "url": "x"}, {"id": "d", "text": "K2", "metadata": {"url": "x"}}),
        ({"content": "K2", "source": "s", "page": 3}, {"text": "K2", "metadata": {"source": "s", "page": 3}}),
        (
            {"id": None, "page_content": "K2", "metadata": {"a": 1}, "type": "Document"},
            {"text": "K2", "metadata": {"type": "Document", "a": 1}},
        ),
        (
            {"text": "K2", "content": "other", "_id": "b", "id": "a", "context": "c"},
            {"id": "a", "text": "K2", "metadata": {"content": "other", "_id": "b", "context": "c"}},
        ),
        ({"text": "K2", "title": ""}, {"text": "K2"}),
    ],
)
def test_the_keys_of_common_formats_are_known_and_others_are_metadata(
    write: Write, line: dict[str, Any], candidate: dict[str, Any]
) -> None:
    expected = {"id": "0", "score": None, "metadata": {}, **candidate}
    for content in (json.dumps(line), json.dumps([line])):
        (hit,) = json.loads(rank(write(content), "--json").stdout)["hits"]
        metadata = {key: value for key, value in hit["candidate"]["metadata"].items() if value != ""}
        assert {**hit["candidate"], "metadata": metadata} == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"text": "a"}, {"txt": "b"}]', "candidates.jsonl[1]: unknown key 'txt'; did you mean 'text'?"),
        ('[{"text": "a"}, {"id": "b"}]', "candidates.jsonl[1]: 'text' is missing"),
        ('[{"text": "a"}, 7]', "candidates.jsonl[1]: expected a text or a JSON object with 'text', got int"),
        ('[{"text": "a", "id": "x"}, {"text": "b", "id": "x"}]', "candidates.jsonl[1]: the id 'x' is taken by "),
        ('["a", "b"', "candidates.jsonl: not valid JSON: "),
        ('[{"text": NaN}]', "candidates.jsonl: not valid JSON: NaN is not JSON"),
        ('{"text": "a"}\n{"idd": "x", "text": "a"}', "candidates.jsonl:2: unknown key 'idd'; did you mean 'id'?"),
        ("K2".encode("utf-16"), "candidates.jsonl is UTF-16; save it as UTF-8"),
        (b"\x1f\x8bbroken", "cannot read "),
        (gzip.compress(b'{"text": "a"}', mtime=0)[:-9], "cannot read "),
        (gzip.compress(b"K2\xff", mtime=0), "candidates.jsonl:1: not UTF-8 at byte 3 of the line"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(write: Write, content: str | bytes, message: str) -> None:
    result = rank(write(content))
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_closed_standard_input_is_an_error_of_one_line() -> None:
    command = f"{sys.executable} -m rag_rerank rank -r lexical -q x - <&-"
    result = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert result.returncode == 2 and b"standard input is closed" in result.stderr
    assert result.stderr.count(b"\n") == 1


@pytest.mark.parametrize("option", ["-r", "--reranker", "-c", "--config"])
def test_every_command_takes_the_reranker_by_the_same_options(option: str, write: Write, candidates: str) -> None:
    config = write('{"type": "fallback", "members": ["embedded", "lexical"]}', "r.json")
    for spec in ("embedded", config):
        ranked = run("rank", option, spec, "-q", "K2", candidates)
        assert ranked.exit_code == 0 and ranked.stdout.startswith("rank")
        assert run("config", "check", option, spec).stdout == run("config", "check", spec).stdout != ""
        assert run("pull", option, spec).stdout == run("pull", spec).stdout != ""
        assert "negation" in run("probe", option, spec, "--kind", "negation").stdout
    for command, words in (("eval", ["nowhere"]), ("calibrate", ["nowhere", "-o", "x.json"])):
        result = run(command, *words, option, "embedded")
        assert result.exit_code == 2 and "No such option" not in result.stderr and "nowhere" in result.stderr


@pytest.mark.parametrize("command", [["pull"], ["tune"], ["config", "check"]])
def test_one_reranker_is_named_once(command: list[str]) -> None:
    for arguments in ([], ["minilm", "-r", "bge"]):
        result = run(*command, *arguments)
        assert result.exit_code == 2
        assert "name one reranker: as the argument, or with -r" in result.stderr


def test_null_means_absent_for_what_is_optional(write: Write) -> None:
    (hit,) = json.loads(rank(write('{"text": "a", "id": null, "score": null, "metadata": null}'), "--json").stdout)[
        "hits"
    ]
    assert hit["candidate"] == {"id": "0", "text": "a", "score": None, "metadata": {}}


# errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rank", "-r", "lexicl", "-q", "x", "{file}"], "unknown type 'lexicl'; did you mean 'lexical'?"),
        (["rank", "-r", "onnx:./nowhere", "-q", "x", "{file}"], "no such folder: ./nowhere"),
        (["rank", "-r", "nowhere.yaml", "-q", "x", "{file}"], "cannot read nowhere.yaml"),
        (["rank", "-r", "lexical", "-q", " ", "{file}"], "the query is blank"),
        (["rank", "-r", "lexical", "-q", "x", "nowhere.txt"], "cannot read nowhere.txt: No such file or directory"),
        (["rank", "-r", "lexical", "-q", "x", "."], "cannot read .: Is a directory"),
        (["config", "check", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["config", "check", "{file}"], "a config file ends in .yaml"),
        (["pull", "lexical"], "lexical runs no local model"),
        (["export", "./nowhere", "-o", "{file}"], "exists already"),
    ],
)
def test_an_error_is_one_line_a_link_and_exit_code_2(candidates: str, arguments: list[str], message: str) -> None:
    result = run(*(argument.format(file=candidates) for argument in arguments))
    assert result.exit_code == 2
    assert result.stdout == ""
    line, *link = result.stderr.splitlines()
    assert line.startswith("Error: ") and message in line
    assert len(link) <= 1 and all(text.startswith("More: https://") for text in link)


@pytest.mark.parametrize(
    "arguments",
    [["rank"], ["rank", "-r", "lexical", "-q", "x", "-k", "0", "f"], ["ranking"], ["rank", "--jsn"], ["export", "x"]],
    ids=" ".join,
)
def test_bad_usage_is_exit_code_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr


def test_a_failed_call_prints_its_trace_on_request(
    candidates: str, write: Write, monkeypatch: pytest.MonkeyPatch, rerank_server: RerankServer
) -> None:
    monkeypatch.setenv("CO_API_KEY", "a-key")
    rerank_server.then(Answer(503))
    node = {"type": "cohere", "base_url": rerank_server.url, "retry": {"attempts": 1}}
    result = rank(candidates, "--trace", reranker=write(json.dumps(node), "r.json"))
    assert result.exit_code == 2
    trace, error = result.stderr.splitlines()[0], result.stderr.splitlines()[-2]
    assert trace.startswith("cohere:rerank-v3.5") and "failed: BackendUnavailable" in trace
    assert error.startswith("Error: ")


# models, config, pull


def test_models_lists_every_row_with_what_helps_to_choose() -> None:
    result = run("models").stdout
    lines = result.splitlines()
    for row in catalogue.models():
        line = next(line for line in lines if line.startswith(f"{row.alias or row.id} "))
        quality = next((f"{value:.3f} {name}" for name, value in row.quality.items()), "")
        languages = row.languages if row.languages.count(",") < 4 else "23 languages"
        for fact in (row.kind, f"{row.max_length:,}", languages, row.licence, quality):
            assert fact in line
        assert (" yes" in line) == row.gpu_advised
        assert not row.note or row.note in " ".join(result.split())
    for listed in listed_models():
        name = f"{listed.backend}:{listed.model}"
        line = next(line for line in lines if line.startswith((f"{name} ", f"{name[:47]}… ")))
        assert "$" in line
    assert max(map(len, lines)) <= 120
    shown = {next(iter(row.quality)) for row in (*catalogue.models(), *listed_models()) if row.quality}
    assert all(f"\n{name}: " in result for name in shown)


@pytest.mark.parametrize("use", get_args(Use))
def test_models_for_a_use_are_those_that_suit_it(use: str) -> None:
    output = json.loads(run("models", "--for", use, "--json").stdout)
    rows, listed = output["models"], output["api_models"]
    tests = {
        "cpu": lambda row: row["parameters"] < 140 or row["kind"] == "late",
        "gpu": lambda row: row["parameters"] >= 140 and row["kind"] != "late",
        "api": lambda row: False,
        "multilingual": lambda row: row["languages"] == "multilingual" or row["languages"].count(",") > 3,
        "long": lambda row: row["max_length"] >= 4096,
        "commercial": lambda row: row["commercial"],
    }
    every = json.loads(run("models", "--json").stdout)
    assert [row["id"] for row in rows] == [row["id"] for row in every["models"] if tests[use](row)]
    assert bool(listed) == (use not in ("cpu", "gpu"))
    assert rows or use == "api"


def test_several_uses_are_combined_and_an_empty_answer_says_so() -> None:
    rows = json.loads(run("models", "--for", "gpu", "--for", "multilingual", "--json").stdout)["models"]
    assert rows and all(row["gpu_advised"] and row["languages"] == "multilingual" for row in rows)
    assert run("models", "--for", "cpu", "--for", "api").stdout == "no known model suits all of these uses\n"
    result = run("models", "--check", "embedded", "--for", "cpu")
    assert result.exit_code == 2 and "--for goes with the list" in result.stderr


def test_a_licence_that_forbids_commercial_use_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    assert "NON-COMMERCIAL" not in run("models").stdout
    row = replace(catalogue.models()[0], licence="CC-BY-NC-4.0")
    monkeypatch.setattr(catalogue, "models", lambda: (row,))
    assert "CC-BY-NC-4.0 (NON-COMMERCIAL)" in run("models").stdout
    assert json.loads(run("models", "--json").stdout)["models"][0]["commercial"] is False


def test_models_as_json_hold_the_whole_catalogue() -> None:
    output = json.loads(run("models", "--json").stdout)
    assert output["schema"] == 1
    assert [row["id"] for row in output["models"]] == [row.id for row in catalogue.models()]
    facts = {"licence", "commercial", "revision", "max_length", "languages", "kind", "gpu_advised", "quality"}
    assert facts <= set(output["models"][0])
    assert {"backend", "model", "price", "source", "window", "quality"} <= set(output["api_models"][0])
    names = {name for row in (*output["models"], *output["api_models"]) for name in row["quality"]}
    assert names <= set(output["measures"])


def test_config_check_draws_the_tree_and_the_normal_form(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CO_API_KEY", "COHERE_API_KEY", "VOYAGE_API_KEY", "MY_KEY"):
        monkeypatch.delenv(name, raising=False)
    file = write(
        "type: fallback\nmembers:\n- type: cohere\n  api_key: ${MY_KEY}\n- type: voyage\n  model: rerank-2.5\n"
        "  api_key: as-it-is\n- type: cascade\n  stages: [{reranker: lexical, depth: 50}, {reranker: embedded}]\n",
        "r.yaml",
    )
    result = run("config", "check", file)
    assert result.exit_code == 1
    tree, normal, missing, links = result.stdout.split("\n\n")
    assert [line.rpartition("#")[2] for line in links.splitlines()[1:]] == [
        *("fallback", "cohere", "voyage", "cascade", "lexical", "late_interaction")
    ]
    assert [line.split("  (")[0] for line in tree.splitlines()] == [
        "fallback",
        "├─ cohere:rerank-v3.5",
        "├─ voyage:rerank-2.5",
        "└─ cascade",
        "   ├─ lexical",
        "   └─ late_interaction:embedded",
    ]
    assert missing == (
        "Missing on this machine:\n- cohere:rerank-v3.5: the config refers to ${MY_KEY}, which is not set in the "
        "environment; set it to your key"
    )
    assert "as-it-is" not in result.output
    again = run("config", "check", write(normal, "again.yaml"))
    assert again.stdout.split("\n\n")[1] == normal


def test_config_check_names_the_extra_that_is_not_installed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write('"torch:minilm"', "r.json")
    monkeypatch.setattr("rag_rerank.diagnostics.health.missing.find_spec", lambda name: name)
    assert "not installed" not in run("config", "check", file).stdout
    monkeypatch.setattr("rag_rerank.diagnostics.health.missing.find_spec", lambda name: None)
    result = run("config", "check", file)
    assert '- torch:minilm: sentence_transformers is not installed; pip install "rag-rerank[torch]"' in result.stdout
    assert result.exit_code == 1


def test_config_check_tells_all_that_is_missing_at_once(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "empty"))
    monkeypatch.delenv("VOYAGE_API_KEY", raising=False)
    (tmp_path / "bare").mkdir()
    members = ["voyage", "minilm", f"onnx:{tmp_path}/bare", "someone/else", "embedded", "minilm"]
    result = run("config", "check", write(json.dumps({"type": "fallback", "members": members}), "r.json"))
    assert result.exit_code == 1
    problems = result.stdout.split("Missing on this machine:\n")[1].split("\n\n")[0].splitlines()
    assert [problem.split(": ")[0] for problem in problems] == [
        *("- voyage:rerank-2.5", "- onnx:minilm", f"- onnx:{tmp_path}/bare", "- auto:someone/else")
    ]
    assert "rag-rerank pull onnx:minilm" in problems[1]
    assert "lacks files that onnx reads" in problems[2]
    assert run("config", "check", "embedded").exit_code == 0


def test_config_check_tells_of_missing_maps_and_tokenizers(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = {"type": "windows", "reranker": "embedded", "tokens": 100}
    members = [
        {"type": "calibrated", "reranker": "embedded", "map": "no-map.json"},
        {**windows, "tokenizer": "./no-tokenizer.json"},
        {**windows, "tokenizer": "gpt-4o"},
    ]
    file = write(json.dumps({"type": "fallback", "members": members}), "r.json")
    monkeypatch.setattr(
        "rag_rerank.diagnostics.health.missing.find_spec", lambda name: None if name == "tiktoken" else name
    )
    result = run("config", "check", file)
    folder = Path(file).parent
    problems = result.stdout.split("Missing on this machine:\n")[1].split("\n\n")[0].splitlines()
    assert result.exit_code == 1 and len(problems) == 3
    assert f"{folder}/no-map.json" in problems[0] and problems[0].startswith(
        "- calibrated(late_interaction:embedded): "
    )
    assert f"{folder}/no-tokenizer.json" in problems[1]
    assert 'pip install "rag-rerank[tiktoken]"' in problems[2]


def test_config_check_tells_that_a_folder_of_vectors_needs_its_package(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rag_rerank.diagnostics.health.missing.find_spec", lambda name: None if name == "lmdb" else name
    )
    in_memory = run("config", "check", write('{"type": "late_interaction"}', "memory.json"))
    assert in_memory.exit_code == 0
    in_folder = run("config", "check", write('{"type": "late_interaction", "store": {"path": "v"}}', "folder.json"))
    assert in_folder.exit_code == 1
    assert 'lmdb is not installed; pip install "rag-rerank[store]"' in in_folder.stdout


def test_config_check_says_where_a_file_is_wrong(write: Write) -> None:
    result = run("config", "check", write('{"type": "cascade", "stages": [{"reranker": "embeded"}]}', "r.json"))
    assert result.exit_code == 2
    assert "r.json: stages[0].reranker: unknown type 'embeded'; did you mean 'embedded'?" in result.stderr


def test_config_schema_is_the_one_of_the_library() -> None:
    assert json.loads(run("config", "schema").stdout) == rag_rerank.json_schema()


def test_pull_of_a_packaged_model_says_where_it_is() -> None:
    label, path = run("pull", "embedded").stdout.split()
    assert label == "late_interaction:embedded"
    assert (Path(path) / "model.onnx").is_file()


def test_pull_of_a_config_takes_each_local_model(write: Write) -> None:
    file = write('{"type": "fallback", "members": ["cohere", "embedded", {"type": "cascade", "stages": []}]}', "r.json")
    assert "stages" in run("pull", file).stderr
    file = write('{"type": "fallback", "members": ["cohere", "embedded", "lexical"]}', "r.json")
    assert len(run("pull", file).stdout.splitlines()) == 1


# the process


def test_the_process_answers_as_the_module_and_knows_its_version(candidates: str) -> None:
    assert process("--version").stdout.decode().split()[-1] == rag_rerank.__version__
    result = process("rank", "-r", "lexical", "-q", QUERY, "--json", candidates)
    assert (result.returncode, result.stderr) == (0, b"")
    assert json.loads(result.stdout)["hits"][0]["candidate"]["id"] == "k2"


def test_the_process_ends_with_one_line_and_code_2_and_no_traceback(candidates: str) -> None:
    result = process("rank", "-r", "onnx:./nowhere", "-q", QUERY, candidates)
    assert result.returncode == 2
    message, link = result.stderr.decode().splitlines()
    assert message == "Error: no such folder: ./nowhere" and link.startswith("More: https://")


def test_a_terminal_without_the_letters_gets_question_marks(candidates: str) -> None:
    result = process("rank", "-r", "lexical", "-q", QUERY, candidates, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert result.returncode == 0
    assert b"?" in result.stdout


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_is_quiet_and_code_130(candidates: str) -> None:
    script = (
        "import os, signal, sys; from rag_rerank import cli; from rag_rerank.cli import rank\n"
        "rank.read_candidates = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        f"sys.argv = ['', 'rank', '-r', 'lexical', '-q', 'x', {candidates!r}]; cli.main()"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"")


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "many.txt"
    file.write_text("K2 is tall\n" * 20_000)
    command = f"{sys.executable} -m rag_rerank rank -r lexical -q K2 {file} | head -n 1"
    result = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    assert result.stdout.split() == [b"rank", b"was", b"score", b"read", b"id", b"text"]
    assert result.stderr == b""


def test_it_says_how_probable_an_answer_is_where_the_config_has_a_map(candidates: str, tmp_path: Path) -> None:
    answerability_map_for(LexicalReranker(), weights={"top": 0.0, "lead": 0.0}).save(tmp_path / "map.json")
    (tmp_path / "r.yaml").write_text("type: answerable\nreranker: lexical\nmap: map.json\n")
    options = ("-r", str(tmp_path / "r.yaml"), "-q", "how high is K2?", candidates)
    result = CliRunner().invoke(app, ["rank", *options], catch_exceptions=False)
    assert "answer 50% probable that at least one text answers the query" in result.stdout
