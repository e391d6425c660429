"""What the name of a licence tells: whom it binds to what. Names are read, no licence is interpreted."""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["Demand", "demands", "goes_with", "hub_id"]

Demand = Literal["share-alike", "non-commercial", "no derivatives", "unknown"]
"""What a licence asks for beyond naming its authors; ``"unknown"`` where there is none, or its name is not known."""

_WORDS: dict[Demand, frozenset[str]] = {
    "share-alike": frozenset(
        ("sa", "sharealike", "gpl", "agpl", "lgpl", "gfdl", "odbl", "mpl", "eupl", "osl", "sharing")
    ),
    "non-commercial": frozenset(("nc", "noncommercial", "research")),
    "no derivatives": frozenset(("nd", "noderivatives", "noderivs")),
}
_PERMISSIVE = frozenset(
    ("apache", "mit", "bsd", "isc", "zlib", "cc", "attribution", "cc0", "pddl", "unlicense", "odc", "cdla", "etalab")
)
_FILLING = re.compile(r"-(licence|license|version|only|or-later|v(?=\d))")
_HUB = frozenset(
    """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0
    cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-permissive-1.0 cdla-permissive-2.0
    cdla-sharing-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 mit
    mpl-2.0 ms-pl odbl odc-by ofl-1.1 openrail osl-3.0 pddl unlicense zlib
    """.split()  # noqa: SIM905 - forty names
)
"""Those of the hub's licence identifiers (https://huggingface.co/docs/hub/repositories-licenses) that are met here."""


def demands(licence: str | None) -> frozenset[Demand]:
    """Return what a licence asks for, as far as its name tells; of several licences, what all of them do."""
    return frozenset(demand for part in _parts(licence) for demand in _asked(part))


def goes_with(licence: str | None, declared: str | None) -> bool:
    """Whether all that a licence asks for is kept by weights under a declared one, as far as names tell."""
    kept = demands(declared)
    return all(
        _plain(part) in map(_plain, _parts(declared)) if "share-alike" in asked else asked - {"unknown"} <= kept
        for part in _parts(licence)
        for asked in [_asked(part)]
    )


def _parts(licence: str | None) -> list[str]:
    """Return the names of licences that hold together."""
    return re.split(r"\s+and\s+|\s*[;+&]\s*", (licence or "").lower())


def _asked(name: str) -> frozenset[Demand]:
    joined = re.sub(r"\b(non|no|share)[ -](?=commercial|deriv|alike)", r"\1", name)
    words = {word.removesuffix("v") for word in re.findall(r"[a-z]+0?(?![a-z])", joined)}
    found: set[Demand] = {demand for demand, known in _WORDS.items() if words & known}
    known = bool(found or words & _PERMISSIVE or "public domain" in name)
    return frozenset(found if known else {"unknown"})


def hub_id(licence: str | None) -> str | None:
    """Return the hub's identifier of a licence, or ``None`` where it has none that is known here."""
    plain = {"cc0": "cc0-1.0", "apache": "apache-2.0"}.get(_plain(licence), _plain(licence))
    return plain if plain in _HUB else None


def _plain(licence: str | None) -> str:
    """Return a name as the hub spells names: ``"Apache License, Version 2.0"`` is ``"apache-2.0"``."""
    return _FILLING.sub("", re.sub(r"[^a-z0-9.]+", "-", (licence or "").lower()).strip("-"))
