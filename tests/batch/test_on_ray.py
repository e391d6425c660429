"""Ray itself, on this machine: actors that die, and one limit for all."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.api.rerank_server import Answer, RerankServer
from support.api.scripted_replies import Rows
from support.batch_rows import read_rows, sample_rows, scored_ids, write_rows
from support.killing_reranker import KillingReranker, longest

from rag_rerank import AuthenticationError, ConfigError, build
from rag_rerank.batch import BatchReranker, RayActors, rerank_dataset, rerank_file
from rag_rerank.batch.answers import ANSWER_COLUMNS

ray = pytest.importorskip("ray", reason="needs the extra ray")
data = pytest.importorskip("ray.data", reason="needs the extra ray")

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own

ROWS = sample_rows(24)
KILLERS = tuple(ROWS[i]["query"] for i in (3, 10, 20))
LONGEST = {row["id"]: longest(row["candidates"], 3) for row in ROWS}


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Ray on this machine, or the cluster of RAY_ADDRESS."""
    variables = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
    own = {"address": "local", "num_cpus": 2, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    root = Path(__file__).parents[2]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        ray.init(
            **({} if os.environ.get("RAY_ADDRESS") else own),
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(map(str, (root, root / "tests")))}},
        )
        yield
        ray.shutdown()


def test_a_file_is_complete_and_equal_though_actors_die(tmp_path: Path) -> None:
    source, marks = write_rows(tmp_path / "in.jsonl", ROWS), tmp_path / "marks"
    marks.mkdir()
    batch = BatchReranker(KillingReranker(queries=KILLERS, marks=str(marks)), top_k=3)
    summary = rerank_file(
        source, tmp_path / "out.jsonl", batch, part_rows=2, part_workers=RayActors(actors=2, cpus=0.5)
    )
    assert len(list(marks.iterdir())) == len(KILLERS)  # as many actors died
    assert (summary.rows, summary.pairs, summary.failures) == (24, 24 * 15, {})
    rows = read_rows(tmp_path / "out.jsonl")
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert scored_ids(row["hits"] for row in rows) == list(LONGEST.values())
    rerank_file(source, tmp_path / "single.jsonl", batch, part_rows=2)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "single.jsonl").read_bytes()


def test_a_dataset_is_complete_and_equal_though_actors_die(tmp_path: Path) -> None:
    reranker = KillingReranker(queries=KILLERS, marks=str(tmp_path))
    rows = [{**row, "place": place} for place, row in enumerate(ROWS)]
    dataset = data.from_items(rows, override_num_blocks=6)
    answered = rerank_dataset(dataset, reranker, 3, actors=2, cpus=0.5, batch_rows=4).take_all()
    assert len(list(tmp_path.iterdir())) == len(KILLERS)
    assert sorted(row["place"] for row in answered) == list(range(24))
    assert {
        row["id"]: hits for row, hits in zip(answered, scored_ids(row["hits"] for row in answered), strict=True)
    } == (LONGEST)
    columns = ["id", "query", "relevant", "place", *ANSWER_COLUMNS]
    assert all(list(row) == columns for row in answered)


def test_actors_keep_one_limit_together(tmp_path: Path, rerank_server: RerankServer) -> None:
    in_flight: list[int] = []

    def answer_slowly(rows: Rows) -> Rows:
        time.sleep(0.05)
        in_flight.append(rerank_server.in_flight)  # counts texts
        return rows

    rerank_server.rule = lambda request: Answer(rows=answer_slowly)
    limits = {"concurrency": 2}
    provider = {"type": "cohere", "model": "rerank-v3.5", "base_url": rerank_server.url, "api_key": "Zq81mVtB4xHs"}
    source = write_rows(tmp_path / "in.jsonl", ROWS)
    for actors in (None, 2):
        batch = BatchReranker({**provider, "limits": limits}, top_k=1, workers=8)
        rerank_file(
            source, tmp_path / f"{actors}.jsonl", batch, part_rows=6, part_workers=RayActors(actors=actors, cpus=0.5)
        )
    assert max(in_flight) == 2 * len(ROWS[0]["candidates"])
    assert len(rerank_server.received) == 2 * len(ROWS)
    with pytest.raises(ConfigError, match="at most 2"):
        rerank_dataset(data.from_items(ROWS), build({**provider, "limits": limits}), actors=(1, 3))
    rerank_server.rule = lambda request: Answer(401)
    with pytest.raises(AuthenticationError):
        rerank_file(source, tmp_path / "refused.jsonl", BatchReranker(provider), part_workers=RayActors(cpus=0.5))
