"""The prompt that a causal reranker ships: its chat template, and the ids of the answer words.

This is the form in which sentence-transformers saves a causal reranker: ``modules.json`` names the modules
``Transformer`` and ``LogitScore``, ``LogitScore`` has the ids of the answer words, and the chat template puts a message
of the role ``query`` and one of the role ``document`` into the prompt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rag_rerank.backends.local.model_files import ModelFolder, read_json
from rag_rerank.backends.local.torch_models.prompt_templates import PromptTemplate
from rag_rerank.errors import ModelLoadError

__all__ = ["ShippedPrompt", "ships_prompt"]

_QUERY, _TEXT = "Qz7query", "Dz7text"
"""Words that no chat template has; where they stand in the rendered prompt, the query and the text stand."""

_PROBES = (("  who? ", " It was {he}. \n"), ("x", "a"), ("what is <b>?", "\n\n1. one\n2. two 🙂"))
"""Queries and texts with what a template might change: spaces at the ends, braces, signs of markup."""

_NOT_RENDERING = frozenset({"max_length", "padding", "restore_suffix", "return_tensors", "truncation"})
"""Stored options of a chat template that do not change the text of a prompt."""


def ships_prompt(folder: ModelFolder) -> bool:
    """Whether a folder holds a causal reranker as sentence-transformers saves it."""
    modules = folder.path / "modules.json"
    return modules.is_file() and any(part.endswith(".LogitScore") for part in _types(folder))


@dataclass(frozen=True, kw_only=True, slots=True)
class ShippedPrompt:
    """The prompt of a causal reranker, read from its own files.

    Args:
        template: The prompt; its answer words are not used.
        answers: The ids of the positive answer word and, if there is one, of the negative.
        whole_ids: Returns the ids of the prompt for a query and a text, as the files define it, for a check.
    """

    template: PromptTemplate
    answers: tuple[int, ...]
    whole_ids: Callable[[str, str], list[int]]

    @classmethod
    def of(cls, folder: ModelFolder) -> ShippedPrompt:
        """Read the prompt of a folder that `ships_prompt`.

        Raises:
            ModelLoadError: The chat template is absent or broken, or does not put the query and then the text, both
                unchanged, into one prompt.
        """
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(folder.path, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds of errors for broken files
            raise ModelLoadError(f"{folder.name}: its tokenizer cannot be loaded: {error}") from error
        settings = _read_settings(folder, "sentence_bert_config.json")
        options = settings.get("processing_kwargs", {}).get("chat_template", {})
        options = {name: value for name, value in options.items() if name not in _NOT_RENDERING}
        is_flat = settings.get("modality_config", {}).get("message", {}).get("format", "flat") == "flat"
        system = _system_prompt(folder)

        def message(role: str, text: str) -> dict[str, Any]:
            return {"role": role, "content": text if is_flat else [{"type": "text", "text": text}]}

        def render(query: str, text: str) -> str:
            messages = [message("query", query), message("document", text)]
            if system is not None:
                messages.insert(0, message("system", system))
            try:
                prompt: str = tokenizer.apply_chat_template(messages, tokenize=False, **options)
            except Exception as error:  # a template may raise anything; jinja2 has classes of its own
                raise ModelLoadError(f"{folder.name}: its chat template cannot be used: {error}") from error
            return prompt

        lead, after = _frame(folder, render)
        if after and not after.startswith(tuple(tokenizer.get_added_vocab())):
            raise _boundary_error(folder)

        def whole_ids(query: str, text: str) -> list[int]:
            ids: list[int] = tokenizer(render(query, text), add_special_tokens=False)["input_ids"]
            return ids

        architectures: list[str] = folder.config.get("architectures") or [""]
        return cls(
            template=PromptTemplate(
                architecture=architectures[0], before=(), lead=lead, after=(after,) if after else (), positive=""
            ),
            answers=_answers(folder),
            whole_ids=whole_ids,
        )

    def check(self, folder: ModelFolder, ids_of: Callable[[str, str], list[int]]) -> None:
        """Check that a function makes the same ids as the files define, for a few queries and texts.

        Raises:
            ModelLoadError: It does not.
        """
        for query, text in _PROBES:
            if ids_of(query, text) != self.whole_ids(query, text):
                raise _boundary_error(folder)


def _boundary_error(folder: ModelFolder) -> ModelLoadError:
    return ModelLoadError(
        f"{folder.name}: its chat template has words of its own right behind the text, which can become one token with "
        "it, so that the text cannot be cut without changing the prompt; this library does not run such a model"
    )


def _frame(folder: ModelFolder, render: Callable[[str, str], str]) -> tuple[str, str]:
    """Return the prompt up to the text, with ``{query}`` in it and its own braces doubled, and what comes after it."""
    prompt = render(_QUERY, _TEXT)
    head, _, rest = prompt.partition(_QUERY)
    middle, _, after = rest.partition(_TEXT)
    if prompt.count(_QUERY) != 1 or prompt.count(_TEXT) != 1 or _TEXT in head:
        raise ModelLoadError(
            f"{folder.name}: its chat template does not put the query and then the text into the prompt, each once; "
            "this library does not know such a prompt"
        )
    for query, text in _PROBES:
        if render(query, text) != f"{head}{query}{middle}{text}{after}":
            raise ModelLoadError(f"{folder.name}: its chat template changes the query or the text; it cannot be used")
    head, middle = (part.replace("{", "{{").replace("}", "}}") for part in (head, middle))
    return f"{head}{{query}}{middle}", after


def _answers(folder: ModelFolder) -> tuple[int, ...]:
    part = next(m["path"] for m in _modules(folder) if m["type"].endswith(".LogitScore"))
    ids = _read_settings(folder, f"{part}/config.json")
    positive, negative = ids.get("true_token_id"), ids.get("false_token_id")
    if not isinstance(positive, int):
        raise ModelLoadError(f"{folder.name}: {part}/config.json does not name the token whose logit is the score")
    return (positive,) if negative is None else (positive, int(negative))


def _system_prompt(folder: ModelFolder) -> str | None:
    """Return the prompt that sentence-transformers gives as the system message, if one is the default."""
    settings = _read_settings(folder, "config_sentence_transformers.json")
    name = settings.get("default_prompt_name")
    prompt: str | None = settings.get("prompts", {}).get(name) if name else None
    return prompt or None


def _read_settings(folder: ModelFolder, name: str) -> Mapping[str, Any]:
    file = folder.path / name
    settings: Mapping[str, Any] = read_json(file, folder.name) if file.is_file() else {}
    return settings


def _modules(folder: ModelFolder) -> list[Mapping[str, str]]:
    modules: list[Mapping[str, str]] = json.loads((folder.path / "modules.json").read_text(encoding="utf-8"))
    return modules


def _types(folder: ModelFolder) -> list[str]:
    try:
        return [module["type"] for module in _modules(folder)]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelLoadError(f"{folder.name}: modules.json cannot be read: {error}") from error
