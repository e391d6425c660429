"""The hub's identifiers of licences. Names are looked up; no licence is interpreted."""

from __future__ import annotations

import re

__all__ = ["hub_id"]

_IDS = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0
    cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-permissive-1.0 cdla-permissive-2.0
    cdla-sharing-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 mit
    mpl-2.0 ms-pl odbl odc-by ofl-1.1 openrail osl-3.0 pddl unlicense zlib
    """.split()  # noqa: SIM905 - forty names
)
"""The common ones of https://huggingface.co/docs/hub/repositories-licenses."""

_SHORT_NAMES = {"cc0": "cc0-1.0", "apache": "apache-2.0"}

_FILLERS = re.compile(r"-(licence|license|version|only|or-later|v(?=\d))")


def hub_id(licence: str | None) -> str | None:
    """Return the hub's identifier of a licence, or ``None`` if none is known.

    ``"Apache License, Version 2.0"`` is ``"apache-2.0"``.
    """
    name = _FILLERS.sub("", re.sub(r"[^a-z0-9.]+", "-", (licence or "").lower()).strip("-"))
    name = _SHORT_NAMES.get(name, name)
    return name if name in _IDS else None
