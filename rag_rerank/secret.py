"""References to environment variables in configs, and keys of providers, which no repr, log or trace shows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rag_rerank._files import parse_json
from rag_rerank.errors import ConfigError, UnusableKey

__all__ = [
    "Secret",
    "check_key",
    "escape",
    "expand",
    "expand_inside",
    "has_reference",
    "mask_values",
    "parse_variable",
    "variables_of",
]

_SHORTEST_SECRET = 8
"""Characters of a variable's value that no message shows, quoted or not; a shorter one it does not show quoted."""

_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = re.compile(rf"\$\{{({_NAME})(?::-([^}}]*))?\}}")
_DOLLAR = re.compile(rf"\$\$|{_REFERENCE.pattern}|\$\{{[^}}]*\}}?|\$({_NAME})")
_TEMPLATE = re.compile(r"\{\{\s*([\w.-]+)\s*\}\}")
_PERCENT = re.compile(r"%([A-Za-z_]\w*)%\Z|.*?%([A-Z_][A-Z0-9_]{2,})%")
"""``%VAR%`` of Windows: alone, or in capitals, since ``%E4%`` is part of an encoded URL."""

_PLACEHOLDER = re.compile(
    r"<.*>|\[.*\]|\{.*\}|.*(\.\.\.|…).*|(\w{1,6}[-_])?[-_x*•.]{3,}"
    r"|(.*[-_])?your([-_]|own|api|key|token|secret).*|(insert|enter|replace|paste|put|add)[-_].*(key|token|here|me).*"
    r"|((my|the|some|an)[-_])?api[-_]?key([-_]?here)?|(?-i:[A-Z0-9_]*API_KEY)|(key|token)([-_]?goes)?[-_]?here"
    r"|change[-_]?(me|it|this)|to[-_]?do|placeholder|null|undefined",
    re.IGNORECASE,
)
"""What stands in documentation where a key belongs: ``your-api-key``, ``<key>``, ``sk-...``, ``COHERE_API_KEY``."""

_QUOTES = ("'", '"')
"""What a container's ``--env-file`` and some service managers keep of ``KEY="..."``."""

_OTHER_TOOLS = ("$(", "`", "env:", "env.", "env(", "os.environ", "os.getenv", "process.env")
"""Beginnings of references that a shell or another tool would have replaced."""


def has_reference(text: str) -> bool:
    """Whether a text refers to an environment variable."""
    return bool(_REFERENCE.search(text.replace("$$", "")))


def variables_of(text: str) -> set[str]:
    """Return the names of the environment variables that a text refers to."""
    return {match[1] for match in _REFERENCE.finditer(text.replace("$$", ""))}


def expand(text: str, path: str = "") -> str:
    """Return a text of a config with its references replaced.

    ``${VAR}`` is the value of an environment variable, which must not be empty; ``${VAR:-default}`` gives the default
    where it is not set or empty; ``$$`` is ``$``. A ``$VAR``, ``%VAR%`` or ``{{ VAR }}`` in a text without spaces is
    refused: another tool should have replaced it, or it is a misspelt reference.

    Raises:
        ConfigError: A reference is misspelt, or its variable is not set. No message holds the value of a variable.
    """
    if "$" not in text and "%" not in text and "{{" not in text:
        return text
    _refuse_other_references(text, path)

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        if match[3]:
            return match[0]
        if match[1] is None:
            raise ConfigError(f"{match[0]!r:.60} is no reference; write ${{VAR}} or ${{VAR:-default}}", path=path)
        content = os.environ.get(match[1]) or match[2]
        if content is None:
            raise ConfigError(f"${{{match[1]}}} {_state(match[1])}; set it, or write the value", path=path)
        return content

    return _DOLLAR.sub(value, text)


def escape(text: str, path: str = "") -> str:
    """Return the text from which `expand` makes this one.

    Raises:
        ConfigError: There is none: the text looks like a reference of another tool.
    """
    doubled = text.replace("$", "$$")
    for draft in (text, doubled):
        try:
            if expand(draft) == text:
                return draft
        except ConfigError:
            continue
    raise ConfigError("loading the config would take this text for a reference; change the text", path=path)


def expand_inside(value: Any, path: str) -> Any:
    """Return a mapping or a list with the references in its texts replaced.

    A reference that is a whole text and whose variable holds a number, a truth value or JSON becomes that value.

    Raises:
        ConfigError: As `expand` and `parse_variable`.
    """
    if isinstance(value, Mapping):
        return {key: expand_inside(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [expand_inside(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    text = expand(value, path)
    if has_reference(value) and re.fullmatch(r"-?\d+(\.\d+)?|true|false|null|[\[{].*", text, re.DOTALL):
        return parse_variable(text, value, path)
    return text


def parse_variable(text: str, source: str, path: str) -> Any:
    """Return the value of the JSON text that a reference (``source``) stands for.

    Raises:
        ConfigError: It is not JSON.
    """
    try:
        return parse_json(text, unique_keys=True)
    except ValueError:  # its message may quote the text
        raise ConfigError(f"the value of {source} begins like JSON and is none; mend the variable", path=path) from None


def mask_values(error: ConfigError, texts: Mapping[Any, str]) -> ConfigError:
    """Return an error in whose message references stand for the values of variables, which may be keys."""
    message = error.message
    for value, source in texts.items():
        if isinstance(value, str) and value:
            message = message.replace(repr(value), repr(source))
            message = message.replace(value, source) if len(value) >= _SHORTEST_SECRET else message
    if message == error.message:
        return error
    masked = type(error)(message, path=error.path, page=error.page)
    masked.__cause__ = None
    return masked


def check_key(key: str, path: str = "", where: str = "the API key") -> None:
    """Check that a text can be a key.

    Args:
        key: The text; no message holds it.
        path: The field that it belongs to.
        where: What the message calls it: ``"the key in COHERE_API_KEY"``.

    Raises:
        UnusableKey: It is empty, a placeholder or a reference that nothing replaced, or has white space or other
            characters that no key has.
    """
    if "${" in key:
        raise UnusableKey("a ${VAR} reference to a key must be the whole value, and look like that", path=path)
    problem = next(_problems(key), None)
    if problem:
        raise UnusableKey(f"{where} {problem}", path=path)


class Secret:
    """A key, or a reference ``"${VAR}"`` to the environment variable that holds it.

    ``repr``, ``str``, logs and traces show ``Secret(***)``; `rag_rerank.to_config` writes a reference, never a key.
    The variable is read at each use, so a new key takes effect at once.

    Args:
        value: The key, ``"${VAR}"`` or ``"${VAR:-default}"``. An empty default lets a server of your own go without.
        path: The field that it belongs to, for messages.

    Raises:
        ConfigError: The text cannot be a key: it is empty, has white space, is a placeholder, or is part of a text.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | Secret, *, path: str = "") -> None:
        self._value: str = value._value if isinstance(value, Secret) else value
        match = _REFERENCE.fullmatch(self._value)
        if match is None:
            check_key(self._value, path)
        elif match[2]:
            check_key(match[2], path, f"the default of ${{{match[1]}}}")

    @property
    def reference(self) -> str | None:
        """The text ``"${VAR}"`` of a reference, without its default, which may be a key; ``None`` for a key."""
        match = _REFERENCE.fullmatch(self._value)
        if match is None:
            return None
        return f"${{{match[1]}{':-' if match[2] == '' else ''}}}"

    def reveal(self) -> str:
        """Return the key itself; an empty text only for ``"${VAR:-}"``.

        Raises:
            UnusableKey: The environment variable is not set, or holds no key.
        """
        match = _REFERENCE.fullmatch(self._value)
        if not match:
            return self._value
        value = os.environ.get(match[1]) or match[2]
        if value is None:
            state = _state(match[1])
            raise UnusableKey(f"the config refers to ${{{match[1]}}}, which {state}; set it to your key")
        if value:
            check_key(value, where=f"the key in {match[1]}")
        return value

    def __repr__(self) -> str:
        return f"Secret({self.reference or '***'})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


def _problems(key: str) -> Iterator[str]:
    """Yield what is wrong with a key, in words that follow its name."""
    name = _other_reference(key)
    if name is not None or key.startswith(_OTHER_TOOLS):
        variable = name if name and name.isupper() and "_" in name else "VAR"  # a name in capitals is no key
        yield f"is a reference that nothing replaced; write ${{{variable}}}"
    if not key.strip():
        yield "is empty"
    if any(char.isspace() for char in key):
        yield "has white space or a line break, which no key has; remove it where the key is set"
    if key[:1] in _QUOTES or key[-1:] in _QUOTES:
        yield "begins or ends with a quote, which no key does; remove the quotes where the key is set"
    if not key.isascii() or not key.isprintable():
        yield "holds characters that no key has; copy it again"
    if _PLACEHOLDER.fullmatch(key):
        yield "is a placeholder; put your own key in its place, or ${VAR} with the variable that holds it"


def _refuse_other_references(text: str, path: str) -> None:
    name = _other_reference(text)
    if name is not None:
        raise ConfigError(
            f"{text!r:.60} holds a reference that nothing replaced; write ${{{name}}}"
            f"{', or $$ for a dollar sign' if '$' in text else ''}",
            path=path,
        )


def _other_reference(text: str) -> str | None:
    """Return the name in a ``$VAR``, ``%VAR%`` or ``{{ VAR }}`` of a text that has no spaces elsewhere."""
    if re.search(r"\s", _TEMPLATE.sub("", text).strip()):
        return None
    dollar = next((match[3] for match in _DOLLAR.finditer(text) if match[3]), None)
    template, percent = _TEMPLATE.search(text), _PERCENT.match(text)
    return dollar or (template and template[1]) or (percent and (percent[1] or percent[2])) or None


def _state(variable: str) -> str:
    return f"is {'empty' if variable in os.environ else 'not set'} in the environment"
