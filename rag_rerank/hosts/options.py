"""The options that all adapters have, under the names that each host's users know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from inspect import Parameter, Signature, signature
from typing import Any, TypedDict, get_type_hints

from rag_rerank._checks import whole_number
from rag_rerank.base import Reranker
from rag_rerank.context import Context, Packing
from rag_rerank.errors import ConfigError, did_you_mean
from rag_rerank.execution.instruction import check_field, check_instruction
from rag_rerank.text.templates import TextTemplate
from rag_rerank.types import Ranking

__all__ = [
    "CONFIG_SCHEMA",
    "PACKING_SCHEMA",
    "HostOptions",
    "check_instruction_option",
    "make_signature",
    "parse_text_option",
    "resolve_options",
    "resolve_top_k",
]

CUTOFFS = ("top_k", "top_n", "k")
"""The cutoff under all its names: ours, that of LlamaIndex and Cohere, and that of LangChain's vector stores."""


CONFIG_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "object"}],
    "description": "A name, the path of a config file, or a config node; rag_rerank.json_schema() has the details.",
}
"""The JSON Schema of a reranker among the fields of an adapter."""

PACKING_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {option.name: {} for option in fields(Packing)},
    "additionalProperties": False,
}
"""The JSON Schema of ``context`` among the fields of an adapter."""


class HostOptions(TypedDict, total=False):
    """The keyword arguments of every adapter.

    - ``top_k``: how many to return; ``top_n`` and ``k`` are other names for it.
    - ``instruction``: what relevance means here, in words; see `rag_rerank.Reranker.rerank`.
    - ``context``: which of them go to the LLM.
    - ``on_context``, ``on_ranking``: called with the context and the ranking of each call.
    """

    top_k: int | None
    top_n: int | None
    k: int | None
    instruction: str | None
    context: Packing | Mapping[str, Any] | None
    on_context: Callable[[Context], object] | None
    on_ranking: Callable[[Ranking], object] | None


def make_signature(init: Callable[..., None], options: type, defaults: Mapping[str, Any]) -> Signature:
    """Return the signature of a constructor with its ``**options`` spelt out, for ``help`` and completion in notebooks.

    Args:
        init: The constructor.
        options: The `typing.TypedDict` of its keyword arguments.
        defaults: Their defaults; ``None`` for those that are not in it.
    """
    _, *own = signature(init).parameters.values()
    spelt_out = [
        Parameter(name, Parameter.KEYWORD_ONLY, default=defaults.get(name), annotation=hint)
        for name, hint in get_type_hints(options).items()
    ]
    return Signature([*(p for p in own if p.kind is not Parameter.VAR_KEYWORD), *spelt_out])


def resolve_options(options: Mapping[str, Any], kind: type, owner: type) -> dict[str, Any]:
    """Return the options of an adapter under the names of its fields, with a `Packing` for a mapping.

    Args:
        options: What the caller gave.
        kind: The `typing.TypedDict` of the options.
        owner: The adapter, a pydantic class; fields that a subclass adds are options too.

    Raises:
        ConfigError: An option is unknown, one of ``context`` is wrong, or the cutoff is; see `resolve_top_k`.
    """
    names = {*get_type_hints(kind), *getattr(owner, "model_fields", ())}
    for name in options:
        if name not in names:
            raise ConfigError(f"unknown option {name!r} of {owner.__name__}{did_you_mean(str(name), names)}")
    values = {name: value for name, value in options.items() if name not in CUTOFFS}
    if isinstance(values.get("context"), Mapping):
        values["context"] = Packing.from_dict(values["context"], path="context")
    if any(name in options for name in CUTOFFS):
        values["top_k"] = resolve_top_k(options)
    return values


def check_instruction_option(reranker: Reranker, instruction: str | None) -> None:
    """Check the option ``instruction`` of an adapter.

    Raises:
        ConfigError: It is blank or not a string, or no reranker inside takes an instruction.
    """
    check_field(instruction)
    try:
        check_instruction(reranker, instruction)
    except ConfigError as error:
        raise error.under("instruction") from None


def parse_text_option(text: str | Sequence[str] | None, content: str) -> TextTemplate | None:
    """Return the template of an option ``text``; ``None`` where the text is read alone.

    Args:
        text: A template, or metadata keys to read before the text.
        content: The name of the text in templates.

    Raises:
        ConfigError: See `TextTemplate.parse`.
    """
    try:
        return None if text is None else TextTemplate.parse(text, content=content)
    except ConfigError as error:
        raise error.under("text") from error.__cause__


def resolve_top_k(options: Mapping[str, Any]) -> int | None:
    """Return the cutoff among the options, whatever its name; ``None`` for all.

    Raises:
        ConfigError: It is given under two names, or is not a whole number of at least 1.
    """
    cutoffs = {name: options[name] for name in CUTOFFS if options.get(name) is not None}
    if not cutoffs:
        return None
    if len(cutoffs) > 1:
        both = " and ".join(f"{name}={value!r:.40}" for name, value in cutoffs.items())
        raise ConfigError(f"{both} are one option under two names; give top_k alone")
    ((name, value),) = cutoffs.items()
    return whole_number(value, 1, name)
