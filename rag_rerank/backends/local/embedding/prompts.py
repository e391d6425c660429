"""What goes before a query and a text: known families, what a checkpoint says, and what the user sets.

Many embedding models were trained with a few words before each query, and some before each text too. Without them they
rank worse, and nothing fails. Checkpoints that were saved by a recent sentence-transformers name theirs; those of the
families below often do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_rerank.backends.local.model_files import read_json

__all__ = ["DEFAULT_INSTRUCTION", "FAMILIES", "PLACE", "Family", "Prompts", "family_of", "read_settings"]

SETTINGS = "config_sentence_transformers.json"

PLACE = "{instruction}"
"""Where the instruction stands in the prompt of a query."""

DEFAULT_INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"
"""The instruction where nobody gives one: that of the cards of multilingual-e5-large-instruct and Qwen3-Embedding."""

_INSTRUCTED = re.compile(r"\AInstruct: (?P<instruction>.+)(?P<end>\nQuery: ?)\Z", re.DOTALL)
"""A prompt of a checkpoint that holds an instruction, as those of Qwen3-Embedding and e5-mistral do."""

_SEARCH = "Represent this sentence for searching relevant passages: "


@dataclass(frozen=True)
class Family:
    """Models that were trained with the same prompts.

    Args:
        name: The name of the family, for notes.
        pattern: Matches the end of the models' ids, in lower case.
        query: What goes before a query.
        text: What goes before a text.
        source: Where that is said.
    """

    name: str
    pattern: str
    query: str
    text: str = ""
    source: str = "the models' cards, and model_prompts of mteb 2.26"


FAMILIES = (
    Family("E5 instruct", r"(multilingual-e5-large|e5-mistral-7b)-instruct", "Instruct: {instruction}\nQuery: "),
    Family("E5", r"(multilingual-)?e5-(small|base|large)(-v2)?", "query: ", "passage: "),
    Family("BGE, English", r"bge-(small|base|large)-en(-v1\.5)?", _SEARCH),
    Family("BGE, Chinese", r"bge-(small|base|large)-zh(-v1\.5)?", "为这个句子生成表示以用于检索相关文章："),
    Family("Arctic Embed 1.5", r"snowflake-arctic-embed-m-v1\.5", _SEARCH),
    Family("mxbai-embed", r"mxbai-embed-large-v1", _SEARCH),
    Family(
        "Nomic Embed",
        r"(nomic-embed-text-v\d(\.\d)?(-moe|-unsupervised|-ablated)?|modernbert-embed-base)",
        "search_query: ",
        "search_document: ",
    ),
    Family("Qwen3 Embedding", r"qwen3-embedding-[\d.]+b", "Instruct: {instruction}\nQuery:"),
)
"""The families whose prompts are known here; the first that matches counts."""


def family_of(*names: str) -> Family | None:
    """Return the family of a model by its id, or by the name of its folder; ``None`` where none is known.

    Args:
        names: Names of one model, the surest first.
    """
    for name in names:
        last = name.rstrip("/\\").replace("\\", "/").rpartition("/")[2].lower()
        for family in FAMILIES:
            if re.fullmatch(family.pattern, last):
                return family
    return None


def read_settings(folder: Path, name: str) -> Mapping[str, Any]:
    """Return the content of ``config_sentence_transformers.json``; nothing where there is none.

    Raises:
        ModelLoadError: It cannot be read.
    """
    file = folder / SETTINGS
    return read_json(file, name) if file.is_file() else {}


@dataclass(frozen=True)
class Prompts:
    """What goes before a query and a text.

    Args:
        query: What goes before a query, maybe with a `PLACE` for an instruction.
        text: What goes before a text.
        instruction: The instruction that stands in the prompt where nobody gives one.
        notes: Remarks for the trace: whose prompts they are, where no file of the model says it, and which the model
            was trained with, where these are others.
    """

    query: str = ""
    text: str = ""
    instruction: str = DEFAULT_INSTRUCTION
    notes: tuple[str, ...] = ()

    @property
    def takes_instruction(self) -> bool:
        """Whether the prompt of a query has a place for an instruction."""
        return PLACE in self.query

    def query_prompt(self, instruction: str | None) -> str:
        """Return what goes before a query with this instruction; with ``None``, the one of the model."""
        return self.query.replace(PLACE, self.instruction if instruction is None else instruction)

    @classmethod
    def resolve(
        cls,
        names: tuple[str, ...],
        settings: Mapping[str, Any],
        query_prompt: str | None,
        text_prompt: str | None,
    ) -> Prompts:
        """Return the user's prompts, else those that the checkpoint names, else those of its family.

        Args:
            names: Names of the model, the surest first.
            settings: The settings of the checkpoint; see `read_settings`.
            query_prompt: The user's prompt for queries; ``None`` for the model's own.
            text_prompt: That for texts.
        """
        of_checkpoint = settings.get("prompts")
        prompts = (
            {key: text for key, text in of_checkpoint.items() if text} if isinstance(of_checkpoint, Mapping) else {}
        )
        default = prompts.get(settings.get("default_prompt_name"), "")
        own_query = str(prompts.get("query", default))
        own_text = next((str(prompts[key]) for key in ("document", "passage", "corpus") if key in prompts), default)
        instruction, notes = DEFAULT_INSTRUCTION, []
        if (instructed := _INSTRUCTED.match(own_query)) is not None:
            instruction = instructed["instruction"]
            own_query = f"Instruct: {PLACE}{instructed['end']}"
        family = family_of(*names)
        if family is not None and not (own_query or own_text):
            own_query, own_text = family.query, family.text
            if query_prompt is None or text_prompt is None:
                notes.append(f"the prompts are those of {family.name}: {_words(own_query, own_text)}")
        query = own_query if query_prompt is None else query_prompt
        text = own_text if text_prompt is None else text_prompt
        if (query, text) != (own_query, own_text) and (own_query or own_text):
            notes.append(f"the model was trained with other prompts: {_words(own_query, own_text)}")
        return cls(query, text, instruction, tuple(notes))


def _words(query: str, text: str) -> str:
    return f"{query!r} before a query, {repr(text) if text else 'nothing'} before a text"
