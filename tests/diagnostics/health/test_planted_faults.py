"""Each planted fault gives its finding and no other one; an environment without a fault gives none."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from support.api.one_answer_server import one_answer_server

import rag_rerank
from rag_rerank.backends.lexical import LexicalReranker
from rag_rerank.compose.cache.cache_stores import FileStore
from rag_rerank.diagnostics.health import folders, imports, machine, missing, packages, self_test, weights
from rag_rerank.diagnostics.health.environment import PROXIES, key_variables
from rag_rerank.diagnostics.health.finding import Finding, Subject
from rag_rerank.diagnostics.health.imports import check_imports, import_modules
from rag_rerank.diagnostics.health.report import SECTIONS, HealthReport, Section, examine
from rag_rerank.types import Scores

EMBEDDED = Path(rag_rerank.__file__).parent / "models" / "late-minilm-v1"
MINILM, PINNED = "models--cross-encoder--ms-marco-MiniLM-L6-v2", "c5ee24cb16019beea0893ab7796b1df96625c6b8"
KEY = "co-0123456789abcdef"

SHORT = [
    section._replace(checks=[check for check in section.checks if check is not check_imports]) for section in SECTIONS
]
"""All checks but the one that starts a process."""

NO_CALL = [section for section in SHORT if not section.alone]
"""All of these but the self-test, for faults of models that would be prepared for it first."""


class Plant:
    """What a fault is planted with."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        self.folder = folder
        self.patch = patch
        self.stack = stack
        self.sections = SHORT

    def serve(self, *args: Any, **options: Any) -> str:
        """Start a server with one answer, and return its address."""
        server = self.stack.enter_context(one_answer_server(*args, **options))
        url: str = server.url
        return url

    def write(self, node: Any) -> str:
        """Write a config file."""
        file = self.folder / "reranker.json"
        file.write_text(json.dumps(node))
        return str(file)

    def cohere(self, base_url: str) -> str:
        """Write a config with a server in the place of Cohere's, and set a key."""
        self.patch.setenv("CO_API_KEY", KEY)
        return self.write({"type": "cohere", "base_url": base_url})

    def distribution(self, name: str, version: str, *requirements: str) -> str:
        """Put a distribution before those that are installed."""
        folder = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (folder / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {text}" for text in requirements)]))
        self.patch.syspath_prepend(self.folder)
        return "lexical"

    def cached_model(self, damage: str = "") -> str:
        """Put a model into an empty hub cache, with the names that the hub's client gives to files."""
        repository = self.folder / "hub" / MINILM
        snapshot, blobs = repository / "snapshots" / PINNED, repository / "blobs"
        (snapshot / "onnx").mkdir(parents=True)
        blobs.mkdir()
        for name in ("onnx/model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"):
            content = (EMBEDDED / Path(name).name).read_bytes()
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            blob = blobs / (hashlib.sha256(content).hexdigest() if name.endswith("onnx") else git)
            blob.write_bytes(content + (b" " if name == damage else b""))
            (snapshot / name).symlink_to(blob)
        self.patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(self.folder / "hub"))
        self.sections = NO_CALL
        return "minilm"


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plant]:
    for name in (*key_variables(), *PROXIES, *map(str.lower, PROXIES), *machine._VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(self_test, "now", lambda: 0.0)  # a busy machine is no fault here
    with ExitStack() as stack:
        yield Plant(tmp_path, monkeypatch, stack)


def closed_port() -> str:
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


def look(spec: str, *, seconds: float = 30.0, sections: Any = SHORT) -> HealthReport:
    return examine(spec, Subject(None, timeout=seconds), sections=sections)


def faults(report: HealthReport) -> list[Finding]:
    return [finding for finding in report.findings if finding.level != "ok"]


def missing_key(plant: Plant) -> str:
    return plant.write({"type": "cohere", "base_url": plant.serve(401)})


def quoted_key(plant: Plant) -> str:
    plant.patch.setenv("JINA_API_KEY", f'"{KEY}"')
    return "lexical"


def key_with_a_line_break(plant: Plant) -> str:
    plant.patch.setenv("CO_API_KEY", f"{KEY}\n")
    return plant.write({"type": "cohere", "base_url": plant.serve(401)})


def absent_package(plant: Plant) -> str:
    plant.sections = NO_CALL
    plant.patch.setattr(missing, "find_spec", lambda name: None if name == "lmdb" else name)
    return plant.write({"type": "late_interaction", "store": {"path": "vectors"}})


def old_package(plant: Plant) -> str:
    return plant.distribution("tenacity", "1.0")


def adapter_of_another_release(plant: Plant) -> str:
    return plant.distribution("langchain-rag-rerank", "9.0", "rag-rerank>=9,<10")


def two_runtimes(plant: Plant) -> str:
    return plant.distribution("onnxruntime-gpu", "1.22.0")


def damaged_package(plant: Plant) -> str:
    copy = plant.folder / "late-minilm-v1"
    copy.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (copy / name).write_bytes((EMBEDDED / name).read_bytes())
    (copy / "model.onnx").write_bytes((EMBEDDED / "model.onnx").read_bytes()[:-1])
    locate = weights.locate

    def locate_copy(model: str, **options: Any) -> Any:
        folder = locate(model, **options)
        return type(folder)(copy, folder.name, None, folder.row) if model == "late-minilm-v1" else folder

    plant.patch.setattr(weights, "locate", locate_copy)
    return "lexical"


def damaged_download(plant: Plant) -> str:
    return plant.cached_model(damage="config.json")


def absent_model(plant: Plant) -> str:
    plant.patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(plant.folder / "empty"))
    return "minilm"


def moving_revision(plant: Plant) -> str:
    plant.cached_model()
    (plant.folder / "hub" / "models--someone--else").symlink_to(plant.folder / "hub" / MINILM)
    (plant.folder / "hub" / MINILM / "refs").mkdir()
    (plant.folder / "hub" / MINILM / "refs" / "main").write_text(PINNED)
    return "onnx:someone/else"


def unwritable_cache(plant: Plant) -> str:
    (plant.folder / "file").write_text("no folder")
    plant.patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(plant.folder / "file" / "hub"))
    return "lexical"


def full_disk(plant: Plant) -> str:
    plant.patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(plant.folder / "hub"))
    usage = folders.shutil.disk_usage

    def small(path: Path) -> Any:
        return usage(path)._replace(free=2**20) if Path(path).is_relative_to(plant.folder) else usage(path)

    plant.patch.setattr(folders.shutil, "disk_usage", small)
    return "lexical"


def closed_server(plant: Plant) -> str:
    return plant.cohere(closed_port())


def wrong_path(plant: Plant) -> str:
    return plant.cohere(f"{plant.serve(404)}/v9")


def unknown_host(plant: Plant) -> str:
    return plant.cohere("http://no-such-host.invalid")


def untrusted_certificate(plant: Plant) -> str:
    return plant.cohere(plant.serve(401, tls=True))


def no_tls(plant: Plant) -> str:
    return plant.cohere(plant.serve(401).replace("http:", "https:"))


def login_page(plant: Plant) -> str:
    return plant.cohere(plant.serve(200, content_type="text/html; charset=utf-8"))


def redirect(plant: Plant) -> str:
    return plant.cohere(plant.serve(308))


def dead_gateway(plant: Plant) -> str:
    return plant.cohere(plant.serve(503))


def wrong_clock(plant: Plant) -> str:
    return plant.cohere(plant.serve(401, ahead=-900))


def too_many_threads(plant: Plant) -> str:
    plant.patch.setenv("OMP_NUM_THREADS", "4096")
    return "lexical"


def strange_threads(plant: Plant) -> str:
    plant.patch.setenv("OMP_NUM_THREADS", "all")
    return "lexical"


def more_workers_than_cores(plant: Plant) -> str:
    plant.patch.setattr(machine, "cores", lambda: 1)
    plant.cached_model()
    return plant.write({"type": "onnx", "model": "minilm", "workers": 1, "threads": 3})


def little_memory(plant: Plant) -> str:
    plant.sections = NO_CALL
    plant.patch.setattr(machine, "memory_limit", lambda: 2**20)
    return "embedded"


def broken_store(plant: Plant) -> str:
    plant.sections = NO_CALL
    (plant.folder / "vectors").mkdir()
    (plant.folder / "vectors" / "data.mdb").write_bytes(b"no database" * 1000)
    return plant.write({"type": "late_interaction", "store": {"path": "vectors"}})


def locked_score_cache(plant: Plant) -> str:
    plant.sections = NO_CALL
    file = plant.folder / "scores.db"
    FileStore(str(file), 10, None).close()
    other = plant.stack.enter_context(closing(sqlite3.connect(file, isolation_level=None)))
    other.execute("BEGIN IMMEDIATE")
    plant.patch.setattr(folders, "_LOCK_SECONDS", 0.01)
    return plant.write({"type": "cached", "reranker": "embedded", "path": "scores.db"})


def foreign_score_cache(plant: Plant) -> str:
    plant.sections = NO_CALL
    with closing(sqlite3.connect(plant.folder / "scores.db")) as other:
        other.execute("CREATE TABLE songs (name TEXT)")
    return plant.write({"type": "cached", "reranker": "embedded", "path": "scores.db"})


def wrong_order(plant: Plant) -> str:
    score = LexicalReranker.score

    def reverse(self: LexicalReranker, query: str, texts: Any) -> Scores:
        scores = score(self, query, texts)
        return Scores([-value for value in scores.values], scores.scale)

    plant.patch.setattr(LexicalReranker, "score", reverse)
    return "lexical"


def slow_model(plant: Plant) -> str:
    times = iter([0.0, 1.0, 9.0])
    plant.patch.setattr(self_test, "now", lambda: next(times))
    return "lexical"


def bad_proxy(plant: Plant) -> str:
    plant.patch.setenv("HTTPS_PROXY", "http://user:pass-word@[half")
    return "lexical"


def bad_certificates(plant: Plant) -> str:
    plant.patch.setenv("REQUESTS_CA_BUNDLE", str(plant.folder / "none.pem"))
    return "lexical"


def misspelt_config(plant: Plant) -> str:
    return plant.write({"type": "cohere", "modle": "rerank-v3.5"})


FAULTS: list[tuple[Callable[[Plant], str], str, str, str]] = [
    (missing_key, "key", "problem", "set CO_API_KEY"),
    (quoted_key, "key", "warning", "remove the quotes"),
    (key_with_a_line_break, "key", "problem", "line break"),
    (absent_package, "package", "problem", 'pip install "rag-rerank[store]"'),
    (old_package, "package", "problem", "version 1.0 is installed"),
    (adapter_of_another_release, "package", "problem", "langchain-rag-rerank needs"),
    (two_runtimes, "package", "warning", "overwrites"),
    (damaged_package, "weights", "problem", "model.onnx was damaged"),
    (damaged_download, "weights", "problem", "config.json was damaged"),
    (absent_model, "model", "problem", "rag-rerank pull onnx:minilm"),
    (moving_revision, "weights", "warning", f"revision: {PINNED}"),
    (unwritable_cache, "cache", "warning", "set HF_HUB_CACHE"),
    (full_disk, "disk", "warning", "make room"),
    (closed_server, "server", "problem", "refuses the connection"),
    (wrong_path, "server", "problem", "answered 404: nothing takes requests at /v9/v2/rerank"),
    (unknown_host, "server", "problem", "no address is known"),
    (untrusted_certificate, "server", "problem", "is not trusted (self-signed certificate)"),
    (no_tls, "server", "problem", "does not speak TLS"),
    (login_page, "server", "problem", "web page"),
    (redirect, "server", "problem", "redirect"),
    (dead_gateway, "server", "problem", "503"),
    (wrong_clock, "clock", "problem", "it is 90"),
    (too_many_threads, "threads", "warning", "4096 threads"),
    (strange_threads, "threads", "warning", "whole numbers"),
    (more_workers_than_cores, "threads", "warning", "3 on 1 cores"),
    (little_memory, "memory", "problem", "1 MiB"),
    (broken_store, "store", "problem", "cannot be used as a store"),
    (locked_score_cache, "store", "problem", "locked"),
    (foreign_score_cache, "store", "problem", "database of something else"),
    (wrong_order, "self-test", "problem", "wrong text first"),
    (slow_model, "self-test", "warning", "slow"),
    (bad_proxy, "environment", "problem", "http://host:port"),
    (bad_certificates, "environment", "problem", "holds no certificates"),
    (misspelt_config, "config", "problem", "unknown key 'modle'"),
]


def test_an_environment_without_a_fault_has_no_finding(plant: Plant) -> None:
    hub = plant.cached_model()
    for spec, sections in ((hub, NO_CALL), ("embedded", SHORT), (plant.cohere(plant.serve(401)), SHORT)):
        report = look(spec, sections=sections)
        assert faults(report) == []
        assert report.is_healthy(strict=True)
        assert {"python", "package", "cpu", "weights", "clock"} <= {finding.check for finding in report.findings}


@pytest.mark.parametrize(("fault", "check", "level", "words"), FAULTS, ids=[fault.__name__ for fault, *_ in FAULTS])
def test_a_planted_fault_is_the_only_finding(
    plant: Plant, fault: Callable[[Plant], str], check: str, level: str, words: str
) -> None:
    report = look(fault(plant), sections=plant.sections)
    assert [(finding.check, finding.level) for finding in faults(report)] == [(check, level)]
    (finding,) = faults(report)
    assert words in f"{finding.what} {finding.advice}"
    assert finding.advice and finding.page
    assert report.is_healthy() == (level == "warning") and not report.is_healthy(strict=True)


def test_a_package_that_ends_the_process_is_named_and_the_others_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_a.py").write_text("raise ImportError('libgomp.so.1: cannot open shared object file')")
    (tmp_path / "broken_b.py").write_text(f"import os; os.kill(os.getpid(), {int(signal.SIGILL)})")
    (tmp_path / "sound.py").write_text("print('a module that prints')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(imports, "CORE", {"broken_a": "broken-a", "broken_b": "broken-b", "sound": "sound"})
    broken_a, broken_b = (one for one in check_imports(Subject(None)) if one.level == "problem")
    assert "ImportError: libgomp.so.1: cannot open" in broken_a.what and broken_a.advice.endswith("broken-a")
    assert "SIGILL" in broken_b.what and "processor lacks" in broken_b.advice
    assert import_modules(["sound"])["sound"].error is None


def test_an_import_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "endless.py").write_text("import time; time.sleep(60)")
    monkeypatch.syspath_prepend(tmp_path)
    assert "longer than 0.5 s" in str(import_modules(["endless"], seconds=0.5)["endless"].error)


def test_a_check_that_fails_or_does_not_end_is_a_warning_and_the_others_go_on() -> None:
    def fail(subject: Subject) -> Iterator[Finding]:
        raise RuntimeError("an error of the check itself")
        yield

    def hang(subject: Subject) -> Iterator[Finding]:
        hanging.wait()
        yield

    def succeed(subject: Subject) -> Iterator[Finding]:
        yield Finding("sound", "ok", "here", "all is well")

    import threading

    hanging = threading.Event()
    try:
        report = look("lexical", sections=[Section("All", (fail, hang, succeed), 0.1)])
    finally:
        hanging.set()
    assert [(one.level, one.where) for one in report.findings] == [
        *(("warning", "fail"), ("warning", "hang"), ("ok", "here"))
    ]


def test_a_server_that_hangs_is_not_waited_for(plant: Plant) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        (finding,) = faults(look(plant.cohere(f"http://127.0.0.1:{silent.getsockname()[1]}"), seconds=0.2))
    assert (finding.check, finding.level) == ("server", "problem")
    assert "no answer in 0.2 s" in finding.what


def test_the_request_to_a_server_carries_neither_key_nor_text(plant: Plant) -> None:
    with one_answer_server(401) as server:
        look(plant.cohere(server.url))
        ((method, path, headers, body),) = server.received
    assert (method, path, body) == ("POST", "/v2/rerank", b"{}")
    assert "Authorization" not in headers and KEY not in str(headers)


def test_a_live_request_is_sent_only_where_it_is_allowed(plant: Plant, rerank_server: Any) -> None:
    plant.patch.setenv("CO_API_KEY", KEY)
    spec = plant.write({"type": "cohere", "base_url": rerank_server.url})
    subject = Subject(rag_rerank.build(spec), timeout=5)
    assert list(self_test.check_live(subject)) == []
    (finding,) = self_test.check_live(Subject(subject.reranker, live=True))
    assert (finding.check, finding.level) == ("live", "ok")
    assert [len(request.texts) for request in rerank_server.received] == [1]


def test_the_self_test_writes_nothing_into_a_store(plant: Plant) -> None:
    report = look(plant.write({"type": "late_interaction", "store": {"path": "vectors"}}))
    assert [one.check for one in report.findings if one.check == "self-test"] == ["self-test"]
    assert not (plant.folder / "vectors").exists()


def test_every_requirement_is_a_module_that_is_imported() -> None:
    rows = packages._always_needed(packages._requirements("rag-rerank") or [])
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in imports.CORE.values()}
    assert {re.sub(r"[-_.]+", "-", row.name).lower() for row in rows} - {"click"} <= names
