"""Import modules one after the other, in a process of its own: a broken binary may end the process.

It is started as a file, with the standard library alone. For each module it prints a line before and a line after, so
that the last line names the module that ended it.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

__all__: list[str] = []


def _facts(name: str, module: Any) -> dict[str, Any]:
    """Return what else is worth knowing of a module that was imported."""
    if name == "onnxruntime":
        return {"version": module.__version__, "providers": module.get_available_providers()}
    if name == "torch":
        cuda = module.cuda.is_available()
        gpus = [module.cuda.get_device_name(i) for i in range(module.cuda.device_count())] if cuda else []
        mps = bool(getattr(module.backends, "mps", None) and module.backends.mps.is_available())
        return {"version": module.__version__, "gpus": gpus, "mps": mps, "threads": module.get_num_threads()}
    return {}


def _main() -> None:
    request = json.loads(sys.stdin.read())
    sys.path[:] = request["path"]
    lines, sys.stdout = sys.stdout, sys.stderr  # modules may print
    for name in request["modules"]:
        print(json.dumps({"begin": name}), file=lines, flush=True)
        try:
            facts, error = _facts(name, importlib.import_module(name)), None
        except BaseException as exception:  # whatever an import raises is what was asked for
            facts, error = {}, f"{type(exception).__name__}: {exception}"
        print(json.dumps({"end": name, "error": error, "facts": facts}), file=lines, flush=True)


if __name__ == "__main__":
    _main()
