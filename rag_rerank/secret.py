"""Keys of providers, which no repr, log or trace shows."""

from __future__ import annotations

import os
import re

from rag_rerank.errors import AuthenticationError

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}\Z")


class Secret:
    """A key, or a reference ``"${VAR}"`` to the environment variable that holds it.

    ``repr``, ``str``, logs and traces show ``Secret(***)``; `rag_rerank.to_config` writes a reference, never a key.
    The variable is read at each use, so a new key takes effect at once.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | Secret) -> None:
        self._value: str = value._value if isinstance(value, Secret) else value

    @property
    def reference(self) -> str | None:
        """The text ``"${VAR}"`` of a reference; ``None`` for a key."""
        return self._value if _REFERENCE.match(self._value) else None

    def reveal(self) -> str:
        """Return the key itself.

        Raises:
            AuthenticationError: The environment variable is not set.
        """
        match = _REFERENCE.match(self._value)
        if not match:
            return self._value
        value = os.environ.get(match[1], "")
        if not value:
            raise AuthenticationError(
                f"the config refers to ${{{match[1]}}}, which is not set in the environment; set it to your key"
            )
        return value

    def __repr__(self) -> str:
        return f"Secret({self.reference or '***'})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))
