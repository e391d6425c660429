"""The Python process of a page: runs its ``python`` blocks one after the other, as a reader would who pastes them.

It reads a JSON object a line from stdin, ``{"kind", "code", "place", "line"}``, and answers with one a line on stdout:
``{"printed"}`` or ``{"failure"}``, a traceback. Stdout of the blocks is what they print; what their own processes print
goes to stderr. It imports nothing of the tests, and is a script so that a page cannot either.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import linecache
import os
import sys
import traceback
import types
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = [""]
    sys.path[0] = ""  # as in a shell: the working folder, in place of the folder of this script
    for line in sys.stdin:
        task = json.loads(line)
        try:
            answer = {"printed": RUN[task["kind"]](task, vars(module))}
        except BaseException:  # SystemExit too: a block that leaves has failed
            answer = {"failure": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


def run_code(task: dict[str, Any], namespace: dict[str, Any]) -> str:
    code, place = "\n" * task["line"] + task["code"], task["place"]
    linecache.cache[place] = (len(code), None, code.splitlines(keepends=True), place)  # for tracebacks
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, place, "exec"), namespace)
    return out.getvalue()


def run_doctest(task: dict[str, Any], namespace: dict[str, Any]) -> str:
    test = doctest.DocTestParser().get_doctest(task["code"], namespace, task["place"], None, 0)
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=report.write, clear_globs=False)
    namespace.update(test.globs)
    assert not runner.failures, report.getvalue()
    return ""


def build_config(task: dict[str, Any], namespace: dict[str, Any]) -> str:
    import rag_rerank

    reranker = rag_rerank.build(json.loads(task["code"]))
    assert rag_rerank.build(rag_rerank.to_config(reranker)) == reranker, "to_config builds another reranker"
    return ""


RUN = {"code": run_code, "doctest": run_doctest, "config": build_config}

if __name__ == "__main__":
    main()
