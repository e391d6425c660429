"""Errors and warnings link to pages that exist; the link is beside the message, and once."""

import copy
import inspect
import pickle
import re
import traceback
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner

from rag_rerank import (
    AllFailed,
    CalibrationMap,
    ConfigError,
    CostExceeded,
    Packing,
    RerankError,
    Stage,
    TruncationWarning,
    UnusableKey,
    build,
    documentation,
    errors,
    recording,
    registry,
)
from rag_rerank.cli import app
from rag_rerank.documentation import BUDGET, PAGES, RECORDS, SITE, THRESHOLDS, page_of_type
from rag_rerank.errors import RerankWarning

ROOT = Path(__file__).parents[2]
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, (RerankError, RerankWarning))
}


def test_the_address_of_the_site_is_the_same_everywhere() -> None:
    assert f"\nsite_url: {SITE}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'[project.urls]\nDocumentation = "{SITE}"\n' in project


def anchors(text: str) -> set[str]:
    """Return the ids of the headings of a page as mkdocs makes them, and those that are written out."""
    headings = re.findall(r"^#+ (.*?)(?: \{#([\w-]+)\})?$", text, re.MULTILINE)
    slugs = {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading, _ in headings}
    return slugs | {own for _, own in headings}


@pytest.mark.parametrize(
    "page", sorted({*PAGES.values(), BUDGET, RECORDS, *map(page_of_type, (*registry.BUILT_IN, "Stage"))})
)
def test_each_page_and_each_section_exists(page: str) -> None:
    path, _, anchor = page.partition("#")
    file = ROOT / "docs" / f"{path.rstrip('/')}.md"
    assert path.endswith("/") and file.is_file()
    assert not anchor or anchor in anchors(file.read_text(encoding="utf-8"))


def test_the_table_names_classes_that_exist_and_each_has_the_page_of_its_base() -> None:
    assert set(PAGES) <= set(CLASSES)
    for kind in CLASSES.values():
        base_pages = {base.page for base in kind.__mro__[1:] if issubclass(base, (RerankError, RerankWarning))}
        assert kind.page in {PAGES.get(kind.__name__, ""), *base_pages}
    assert CLASSES["QueryTruncationWarning"].page == CLASSES["TruncationWarning"].page == "how-to/long-documents/"
    assert RerankError("x").url is None and RerankError("x").page == ""


def test_a_traceback_shows_the_link_and_the_message_does_not() -> None:
    error = AllFailed("all 2 members failed")
    assert str(error) == "all 2 members failed"
    assert error.url == f"{SITE}how-to/fallback/"
    if hasattr(error, "add_note"):  # Python 3.11
        assert traceback.format_exception(error)[-1].rstrip() == f"More: {error.url}"


def test_an_error_about_a_type_links_to_its_section() -> None:
    def page(spec: object) -> str:
        with pytest.raises(ConfigError) as caught:
            build(spec)  # type: ignore[arg-type]
        return caught.value.page

    assert page({"type": "cascade", "stagse": []}) == "reference/rerankers/#cascade"
    assert page({"type": "cascade", "stages": []}) == "reference/rerankers/#cascade"
    assert page({"type": "cascade", "stages": [{"reranker": "lexical", "depth": 0}]}) == "reference/rerankers/#stage"
    assert page({"type": "cascade", "stages": [{"reranker": {"type": "lexical", "b": 2}}]}).endswith("#lexical")
    assert page({"type": "fallback", "members": ["no-such-type"]}) == "reference/rerankers/"
    assert page({"type": "lexical", "b": "high"}) == "reference/rerankers/#lexical"
    assert page({"type": "cohere", "api_key": "your-api-key"}) == "how-to/providers/"
    assert page("nothing") == "reference/rerankers/"


def test_errors_about_records_contexts_and_maps_link_to_their_pages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Packing(source=3)  # type: ignore[arg-type]
    assert caught.value.page == BUDGET
    with pytest.raises(ConfigError) as caught:
        CalibrationMap.load(tmp_path / "none.json")
    assert caught.value.page == THRESHOLDS
    (tmp_path / "other").write_text("something else\n")
    with pytest.raises(ConfigError) as caught, recording(tmp_path / "other"):
        pass
    assert caught.value.page == RECORDS


def test_errors_in_a_file_keep_their_page(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("{type: fallback, members: [{type: lexical, b: 2}, lexical]}")
    with pytest.raises(ConfigError) as caught:
        build(tmp_path / "c.yaml")
    assert caught.value.page == "reference/rerankers/#lexical"
    run = CliRunner().invoke(app, ["config", "check", str(tmp_path / "c.yaml")])
    message, link = run.stderr.splitlines()
    assert run.exit_code == 2 and message.startswith("Error: ") and link == f"More: {caught.value.url}"


def test_errors_are_copied_and_pickled_with_their_page() -> None:
    with pytest.raises(ConfigError) as caught:
        Stage(reranker="lexical")  # type: ignore[arg-type]
    for error in (caught.value.under("stages[0]", page="x/"), UnusableKey("no", path="api_key"), CostExceeded("no")):
        for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert (str(twin), twin.page, twin.url) == (str(error), error.page, error.url)
            assert twin.__notes__ == error.__notes__ == [f"More: {error.url}"]


def test_a_warning_ends_with_the_link_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("texts were cut", TruncationWarning, stacklevel=1)
    text = f"texts were cut ({documentation.page_url('how-to/long-documents/')})"
    assert str(caught[0].message) == text
    assert str(TruncationWarning(text)) == str(copy.copy(caught[0].message)) == text
