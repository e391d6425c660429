"""All checks of an installation and a config, run side by side, and what they say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rag_rerank._version import __version__
from rag_rerank.config import build, to_config
from rag_rerank.diagnostics.health.environment import PROXIES, check_environment, check_keys, key_variables
from rag_rerank.diagnostics.health.finding import Finding, Level, Subject, error_finding, error_text
from rag_rerank.diagnostics.health.folders import check_caches, check_stores
from rag_rerank.diagnostics.health.imports import check_imports
from rag_rerank.diagnostics.health.machine import check_memory, check_processor, check_threads
from rag_rerank.diagnostics.health.missing import check_needs
from rag_rerank.diagnostics.health.packages import check_packages, check_python, find_versions
from rag_rerank.diagnostics.health.redaction import Redaction
from rag_rerank.diagnostics.health.self_test import check_live, check_ranking
from rag_rerank.diagnostics.health.servers import check_servers
from rag_rerank.diagnostics.health.weights import check_weights
from rag_rerank.errors import RerankError
from rag_rerank.execution.clock import now, start_thread, wait_for_any

__all__ = ["SCHEMA", "HealthReport", "Section", "examine"]

SCHEMA = 1
"""Version of the JSON object; it grows when a key changes its meaning or is removed."""

_VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "HF_ASSETS_CACHE", "HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "LANG"),
    *("LC_ALL", "MKL_NUM_THREADS", "NO_PROXY", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "REQUESTS_CA_BUNDLE"),
    *("SSL_CERT_DIR", "SSL_CERT_FILE", "TOKENIZERS_PARALLELISM", "TRANSFORMERS_OFFLINE", "XDG_CACHE_HOME", *PROXIES),
)
"""The environment variables whose values a bundle shows; of those with keys it says whether they are set."""


class Section(NamedTuple):
    """Checks under one heading.

    Args:
        title: The heading.
        checks: The functions.
        seconds: Seconds after which each of them is no longer waited for.
        alone: Whether it measures times, and so runs when the others have ended.
    """

    title: str
    checks: Sequence[Callable[[Subject], Iterator[Finding]]]
    seconds: float = 60.0
    alone: bool = False


SECTIONS = (
    Section("Python and packages", (check_python, check_packages, check_imports), 150.0),
    Section("Processor, threads and memory", (check_processor, check_threads, check_memory)),
    Section("What the config needs", (check_needs,)),
    Section("Models, caches and stores", (check_weights, check_caches, check_stores), 300.0),
    Section("Environment and keys", (check_environment, check_keys)),
    Section("Servers and clock", (check_servers,)),
    Section("Self-test", (check_ranking, check_live), 300.0, alone=True),
)


@dataclass(frozen=True)
class HealthReport:
    """What all checks say.

    Args:
        sections: The findings under their headings, as they may be shown.
        config: The config without defaults, and without keys; ``None`` if it cannot be built.
        environment: The variables that matter, and whether those with keys are set.
    """

    sections: Mapping[str, tuple[Finding, ...]]
    config: Any = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all sections."""
        return tuple(finding for findings in self.sections.values() for finding in findings)

    def count(self, level: Level) -> int:
        """Return how many findings have this level."""
        return sum(finding.level == level for finding in self.findings)

    def is_healthy(self, *, strict: bool = False) -> bool:
        """Whether there is no problem, and, if ``strict``, no warning either."""
        return not self.count("problem") and not (strict and self.count("warning"))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "schema": SCHEMA,
            "rag_rerank": __version__,
            "healthy": self.is_healthy(),
            "problems": self.count("problem"),
            "warnings": self.count("warning"),
            "findings": [
                {"section": title, **finding.to_dict()}
                for title, findings in self.sections.items()
                for finding in findings
            ],
        }

    def to_bundle(self) -> dict[str, Any]:
        """Return what a bug report needs: the findings, the versions, the config and the environment."""
        return {
            **self.to_dict(),
            "versions": find_versions(),
            "config": self.config,
            "environment": dict(self.environment),
        }


def examine(spec: str, subject: Subject, *, sections: Sequence[Section] = SECTIONS) -> HealthReport:
    """Run all checks for a config.

    A check that fails itself, or gives no result in time, is a warning; the others go on.

    Args:
        spec: A name or a config file; if it cannot be built, that is a finding.
        subject: How to examine it; its reranker is replaced.
        sections: The checks.
    """
    config_findings: tuple[Finding, ...] = ()
    try:
        subject = replace(subject, reranker=build(spec))
    except RerankError as error:
        config_findings = (error_finding("config", spec, error, "rag-rerank config check FILE shows the place"),)
    except Exception as error:  # such as that of a package that cannot be imported, which another check names
        config_findings = (
            Finding(
                "config", "problem", spec, f"it cannot be built ({error_text(error)})", "mend the other findings first"
            ),
        )
    redaction = Redaction.collect(subject.reranker, _read_text(spec))
    rows = [(section, check) for section in sections for check in section.checks]
    beside = [row for row in rows if not row[0].alone]
    outcomes = {check: start_thread(partial(_run, check, subject)) for _, check in beside}
    begin = now()
    findings = {check: _wait(outcomes[check], section.seconds, begin, check) for section, check in beside}
    for section, check in rows:
        if section.alone:
            findings[check] = _wait(start_thread(partial(_run, check, subject)), section.seconds, now(), check)
    visible = {
        section.title: tuple(redaction.finding(one) for check in section.checks for one in findings[check])
        for section in sections
    }
    if config_findings:
        visible = {"Config": tuple(map(redaction.finding, config_findings)), **visible}
    return HealthReport(visible, _describe_config(subject, redaction), _describe_environment(redaction))


def _run(check: Callable[[Subject], Iterator[Finding]], subject: Subject) -> tuple[Finding, ...]:
    try:
        rows = tuple(check(subject))
        return tuple(row if row.level == "ok" or row.advice else replace(row, advice="see the page") for row in rows)
    except Exception as error:  # a report with all other findings is worth more than none
        advice = "report it, with the file that --bundle writes"
        return (Finding("doctor", "warning", check.__name__, f"the check itself failed ({error_text(error)})", advice),)


def _wait(
    outcome: Future[tuple[Finding, ...]], seconds: float, begin: float, check: Callable[..., object]
) -> tuple[Finding, ...]:
    """Return the findings of a check, or one that says that there are none yet."""
    if not outcome.done():
        wait_for_any([outcome], max(0.0, begin + seconds - now()))
    if outcome.done():
        return outcome.result()
    what = f"the check gave no result in {seconds:g} s"
    advice = "look for a disk or a network folder that does not answer"
    return (Finding("doctor", "warning", check.__name__, what, advice),)


def _read_text(spec: str) -> str:
    """Return the text of a config file; empty for a name and for a file that cannot be read."""
    try:
        return Path(spec).read_text(encoding="utf-8-sig", errors="replace")
    except (OSError, ValueError):
        return spec


def _describe_config(subject: Subject, redaction: Redaction) -> Any:
    if subject.reranker is None:
        return None
    try:
        return redaction.node(to_config(subject.reranker))
    except RerankError as error:
        return redaction.text(str(error))


def _describe_environment(redaction: Redaction) -> dict[str, str]:
    names = [spelling for name in _VARIABLES for spelling in dict.fromkeys((name, name.lower()))]
    values = {name: redaction.text(os.environ[name]) for name in names if os.environ.get(name)}
    keys = {name: "set" if os.environ[name] else "empty" for name in key_variables() if name in os.environ}
    return {**values, **keys}
