"""Smoke-test installed distributions: version, import, the first example of each description, the command.

python -I smoke.py VERSION NAME...

It runs in an empty environment, without extras and without the repository, and prints one line of what it saw.
"""

import contextlib
import importlib.metadata
import importlib.util
import io
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TEXTS = ["Lake Garda is 346 m deep.", "K2 was first climbed in 1954.", "K2 is 8,611 m high."]


def main(version: str, *names: str) -> None:
    """Check each distribution, or raise ``AssertionError``."""
    before = set(sys.modules)
    import rag_rerank

    loaded = {module.partition(".")[0] for module in set(sys.modules) - before}
    assert loaded <= {"rag_rerank", *sys.stdlib_module_names}, f"import loads {loaded - set(sys.stdlib_module_names)}"
    assert Path(rag_rerank.__file__).is_relative_to(sys.prefix), rag_rerank.__file__
    assert rag_rerank.__version__ == version
    assert not importlib.util.find_spec("torch"), "torch was installed"
    assert rag_rerank.build("embedded").rerank("how tall is K2?", TEXTS)[0].text == TEXTS[2]

    for name in names:
        assert importlib.metadata.version(name) == version, name
        printed = first_example(name)
        assert re.search(r"8[.,]?611", printed.splitlines()[0]), f"the example of {name} prints {printed!r}"

    command = str(Path(sys.executable).with_name("rag-rerank"))
    assert version in output_of(command, "--version")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "texts")
        file.write_text("\n".join(TEXTS), encoding="utf-8")
        answer = output_of(command, "rank", "--reranker", "embedded", "--query", "how tall is K2?", "--json", str(file))
    assert "8,611" in str(json.loads(answer.splitlines()[0])), answer
    print(f"{len(names)} examples, {len(list(importlib.metadata.distributions()))} packages")


def first_example(name: str) -> str:
    """Run the first example of a distribution's description, and return what it prints."""
    description = importlib.metadata.metadata(name).get_payload()
    example = re.search(r"^```python\n(.*?)^```$", description, re.MULTILINE | re.DOTALL)
    assert example, f"the description of {name} has no example"
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(example[1], f"description of {name}", "exec"), {"__name__": "__main__"})
    return output.getvalue()


def output_of(*command: str) -> str:
    """Return what a command prints."""
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
