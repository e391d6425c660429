"""What a dialect is: the fields of a request, the places in an answer, the limits, the hosts and the keys, as data."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from rag_rerank.backends.api.http_transport import as_json
from rag_rerank.errors import BackendError, ConfigError
from rag_rerank.execution.instruction import check_field
from rag_rerank.types import Scale

__all__ = ["Dialect", "Refusal"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """An error answer whose body says more than its status.

    Args:
        status: HTTP status; ``None`` where builds differ in it.
        words: Words in its body, in lower case.
        kind: The error class for it.
        advice: How to mend it, where the class alone does not say so.
    """

    status: int | None
    words: str
    kind: type[BackendError]
    advice: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Dialect:
    """The wire format of one kind of server.

    A place in an answer is the names of its fields with dots between them, such as ``usage.cost``.

    Args:
        title: The server's name in messages.
        path: The path behind the base URL; where a server guards some of its paths only, one that its key guards.
            ``{model}`` and ``{project}`` in it are replaced; a model in the path is not in the body.
        key_header: Header that carries the key.
        key_prefix: What stands before the key in it.
        headers: Further headers. One with ``{project}`` is left out where there is no project.
        query: Field of the query.
        repeats_query: Whether the query is a list, with one copy for each text.
        wraps_query: Whether the query is wrapped in an object, as the texts are.
        texts: Field of the texts.
        text: Field of the object that each text is wrapped in; ``None`` where a text is sent as it is.
        id: Field of that object for the position of the text, sent as a string; ``None`` without one.
        model: Whether a request names the model: it must, it may, or it has no such field.
        model_field: Field of the model, in the body and in the answer.
        project_field: Field of the body for the project; ``None`` where it has none.
        project_variables: Environment variables with the project; a row that has them needs a project.
        instruction: Field for an instruction to the model; ``None`` where the server takes none.
        fixed_fields: Fields that decide what a score means; always sent.
        options: Other fields that are sent unless the user gives them.
        rows: Place of the rows; ``None`` where the body is the list of rows.
        index: Field of a row with the position of its text.
        score: Field of a row's score; ``None`` where the rows are the scores alone, in the order of the texts.
        scale: What a score is: ``sigmoid`` where it is a logit.
        decimals: To how many decimals scores are rounded, where that is so few that texts tie; else ``None``.
        cosine: Beginning of the names of models whose scores are cosines, and depend on all texts of a request.
        most_texts: Texts in a request at most: the server's limit, or 1,000 where none is known.
        most_bytes: Bytes of a request's body at most: the server's limit, or as many as an answer that repeats them may
            have.
        most_tokens: Tokens of a request at most, the query counted for each text; ``None`` for no limit.
        keeps_computing: Whether the server goes on with a request after its client has hung up.
        cuts: Whether it cuts what is longer than its model's window, unless ``cut_field`` says otherwise.
        cut_field: Field that says whether it cuts, or to how many tokens.
        usual_window: Tokens that most of its models read, for a note where it cuts and the real window is not known.
        tokens: Places of the number of tokens that were read.
        counts_characters: Whether it may count characters where others count tokens.
        tokens_in: Header with the tokens that were read, where the body does not name them.
        units: Places of the number of search units that were billed.
        unit_texts: Texts of a search unit, however long they are, where the answer does not name the units.
        cost: Place of the US dollars that were billed; ``None`` where the answer does not name them.
        error: Place of an error in an answer with status 200; ``None`` where none can be there.
        failure_score: A number that takes the place of a score where the server failed on a text.
        info: Path of what the server says about itself, in TEI's format.
        models: Path of the list of its models, in OpenAI's format.
        echoes_model: Whether the answer says nothing of the model that the server has: it repeats the name in the
            request, or has none. Then the list of models counts.
        default_url: The provider's own base URL; ``None`` for servers that users run.
        example_url: What a base URL looks like, for messages, where there is no default.
        hosts: The provider's own hosts, with all their subdomains, of which none may be a customer's. They need a key;
            other servers need none, and never get one from the environment.
        keys: Environment variables with the key for the provider's own hosts.
        refusals: Error answers whose body says more than their status.
    """

    title: str
    path: str
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    headers: Mapping[str, str] = field(default_factory=dict)
    query: str = "query"
    repeats_query: bool = False
    wraps_query: bool = False
    texts: str = "documents"
    text: str | None = None
    id: str | None = None
    model: Literal["needed", "optional", "absent"] = "needed"
    model_field: str = "model"
    project_field: str | None = None
    project_variables: tuple[str, ...] = ()
    instruction: str | None = None
    fixed_fields: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    rows: str | None = "results"
    index: str = "index"
    score: str | None = "relevance_score"
    scale: Scale = "relevance"
    decimals: int | None = None
    cosine: str | None = None
    most_texts: int = 1_000
    most_bytes: int = 16_000_000
    most_tokens: int | None = None
    keeps_computing: bool = False
    cuts: bool = True
    cut_field: str | None = None
    usual_window: int | None = None
    tokens: tuple[str, ...] = (
        *("usage.total_tokens", "usage.prompt_tokens"),
        *("meta.billed_units.input_tokens", "meta.tokens.input_tokens"),
    )
    counts_characters: bool = False
    tokens_in: str | None = None
    units: tuple[str, ...] = ("meta.billed_units.search_units",)
    unit_texts: int | None = None
    cost: str | None = None
    error: str | None = None
    failure_score: float | None = None
    info: str | None = None
    models: str | None = None
    echoes_model: bool = False
    default_url: str | None = None
    example_url: str = "http://gpu-box:8080"
    hosts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()

    def check_needs(self, base_url: str | None, model: str) -> None:
        """Check that a reranker says where the server is, and which model is meant, where that must be said.

        Raises:
            ConfigError: It does not.
        """
        if base_url is None and self.default_url is None:
            raise ConfigError(
                f"{self.title} needs base_url: where your server is, such as {self.example_url}", path="base_url"
            )
        if not model and self.model == "needed":
            raise ConfigError(f"{self.title} needs a model", path="model")

    def check_wishes(self, project: str | None, instruction: str | None, extra_body: Mapping[str, Any]) -> None:
        """Check that a request has a place for what a reranker wants to send.

        Raises:
            ConfigError: It has none, or the instruction is there twice.
        """
        if project is not None and not self.has_project:
            raise ConfigError(f"{self.title} has no place for a project; leave it out", path="project")
        check_field(instruction)
        if instruction is None:
            return
        if self.instruction is None:
            raise ConfigError(f"{self.title} takes no instruction; leave it out", path="instruction")
        if self.instruction in extra_body:
            raise ConfigError("instruction stands in extra_body too; give it once", path="instruction")

    def check_extra(self, extra_body: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of the fields that a user adds.

        Raises:
            ConfigError: A field that is not the user's to set (a cutoff would lose candidates), or no JSON.
        """
        own = {self.model_field, self.query, self.texts, self.project_field or "", *self.fixed_fields}
        reserved = {"top_n", "top_k", "topN", *own} & set(extra_body)
        if reserved:
            raise ConfigError(f"{', '.join(sorted(reserved))} cannot be set here", path="extra_body")
        try:
            copy: dict[str, Any] = json.loads(as_json(dict(extra_body)))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"JSON cannot hold it: {error}", path="extra_body") from error
        return copy

    @property
    def has_project(self) -> bool:
        """Whether a request names a project or an account."""
        places = (self.path, *self.headers.values())
        return self.project_field is not None or any("{project}" in place for place in places)

    def find_project(self, project: str | None) -> str:
        """Return the project of a request: the user's, or that of the environment; empty where none is needed.

        Raises:
            ConfigError: There is none, and the provider needs one.
        """
        values = (project, *(os.environ.get(variable, "").strip() for variable in self.project_variables))
        value = next(filter(None, values), "")
        if not value and self.project_variables:
            variables = " or ".join(self.project_variables)
            raise ConfigError(
                f"{self.title} needs a project: set {variables} in the environment, or give project", path="project"
            )
        return value

    def url(self, base_url: str | None, path: str) -> str:
        """Return the URL of a path; a version that ``base_url`` ends with too counts once."""
        base_url, version = base_url or self.default_url or "", re.match(r"/v\d+(?=/)", path)
        return base_url + (path.removeprefix(version[0]) if version and base_url.endswith(version[0]) else path)

    def url_path(self, model: str, project: str) -> str:
        """Return the path of a request."""
        return self.path.replace("{model}", quote(model, safe="/@:")).replace("{project}", quote(project, safe=""))

    def request_headers(self, key: str, project: str) -> dict[str, str]:
        """Return the headers that only this dialect has, with the key, if there is one."""
        headers = {
            name: value.replace("{project}", project)
            for name, value in self.headers.items()
            if project or "{project}" not in value
        }
        return {**headers, self.key_header: f"{self.key_prefix}{key}"} if key else headers

    def body(
        self,
        model: str,
        query: str,
        texts: Sequence[str],
        extra_body: Mapping[str, Any],
        *,
        instruction: str | None = None,
        project: str = "",
    ) -> dict[str, Any]:
        """Return the body of a request."""
        in_body = model and self.model != "absent" and "{model}" not in self.path
        names = {self.model_field: model} if in_body else {}
        if self.project_field and project:
            names[self.project_field] = project
        one_query: Any = {self.text: query} if self.wraps_query else query
        inputs = {
            self.query: [one_query] * len(texts) if self.repeats_query else one_query,
            self.texts: [self._wrap(position, text) for position, text in enumerate(texts)],
        }
        wish = {self.instruction: instruction} if self.instruction and instruction is not None else {}
        return {**names, **inputs, **self.options, **extra_body, **wish, **self.fixed_fields}

    def _wrap(self, position: int, text: str) -> Any:
        if self.text is None:
            return text
        return {**({self.id: str(position)} if self.id else {}), self.text: text}

    def text_bytes(self, query: str, text: str) -> int:
        """Return how many bytes a text adds to the body of a request."""
        copies = len(as_json(query)) + 1 if self.repeats_query else 0
        return len(as_json(self._wrap(self.most_texts, text))) + 1 + copies

    def read_tokens(self, window: int | None, extra_body: Mapping[str, Any]) -> int | None:
        """Return how many tokens of query and text together are read, where the rest is cut; else ``None``.

        Args:
            window: The window of the server's model, if it is known.
            extra_body: The fields that the user adds.
        """
        wish = {**self.options, **extra_body}.get(self.cut_field or "", self.cuts)
        if wish in (None, False, "NONE"):
            return None
        if isinstance(wish, int) and wish is not True and wish > 0:
            return min(wish, window or wish)
        return window

    def is_provider(self, url: str) -> bool:
        """Whether a base URL is the provider's own, and not a server of the user's."""
        host = (urlsplit(url).hostname or "").rstrip(".")
        return any(host == name or host.endswith(f".{name}") for name in self.hosts)

    def refusal(self, status: int, body: str) -> Refusal | None:
        """Return the refusal that matches an error answer; ``None`` if its status says enough."""
        lowered = body.casefold()
        return next((r for r in self.refusals if r.status in (None, status) and r.words in lowered), None)
