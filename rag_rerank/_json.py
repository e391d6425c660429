"""Reading JSON as the standard has it."""

from __future__ import annotations

import json
from typing import Any, NoReturn

__all__ = ["parsed"]


def parsed(text: str | bytes) -> Any:
    """Return the value of a JSON text (RFC 8259).

    Raises:
        ValueError: It is not JSON: Python alone would also take NaN and Infinity. Or it is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
