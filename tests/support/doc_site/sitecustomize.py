"""What every Python process of a page or a notebook does first: no other machine can be reached, providers without a
variable for their URL are at ``DOC_SERVER`` (in pages), and the encoder of late interaction runs once for each text.

The SDKs of Cohere and Voyage, the dialects of providers (Jina, OpenRouter and others), and the providers of decision
models (TypeSafe, OpenAI, Ollama ...) have their URL in code, which is changed when their module is imported; a process
that does not use them imports nothing. (Cohere's SDK also reads ``CO_API_URL``; with that, list prices would not be
known.)

The vectors of a text depend on no other text (`tests/golden/test_late_interaction.py`), so all processes of a test run
share them in the folder ``DOC_VECTORS``. A page can see none of it: stores, counts and traces are as always.
"""

import dataclasses
import importlib.abc
import importlib.util
import os
import socket
import sys
import types
from pathlib import Path

SERVER = os.environ.get("DOC_SERVER")
VECTORS = Path(os.environ["DOC_VECTORS"])


def change_cohere(module):
    module.ClientEnvironment.PRODUCTION._value_ = SERVER


def change_voyage(module):
    module.get_default_base_url = lambda api_key: f"{SERVER}/v1"


def change_dialects(module):
    rows = {
        name: dataclasses.replace(row, default_url=f"{SERVER}/{name}", hosts=("127.0.0.1",)) if row.default_url else row
        for name, row in module.DIALECTS.items()
    }
    module.DIALECTS = types.MappingProxyType(rows)


def change_decisions(module):
    server = SERVER.replace("127.0.0.1", "localhost")  # a server of one's own, at 127.0.0.1, is no provider
    rows = {
        name: dataclasses.replace(
            row, default_url=f"{server}/{row.wire}", hosts=() if name == "ollama" else ("localhost",)
        )
        if row.default_url
        else row
        for name, row in module.PROVIDERS.items()
    }
    module.PROVIDERS = types.MappingProxyType(rows)


def change_encoder(module):
    from hashlib import sha256

    import numpy as np

    run = module.OnnxEncoder.token_vectors

    def token_vectors(self, arrays):
        inputs = [np.ascontiguousarray(arrays[name]) for name in self._inputs]
        model = self._graph.file.parent.name.encode()
        keys = [
            sha256(b"".join((model, *(row.tobytes() for row in rows)))).hexdigest()
            for rows in zip(*inputs, strict=True)
        ]
        files = [VECTORS / f"{key}.npy" for key in keys]
        missing = [i for i, file in enumerate(files) if not file.exists()]
        if missing:
            rows = {name: array[missing] for name, array in zip(self._inputs, inputs, strict=True)}
            for i, vectors in zip(missing, run(self, rows), strict=True):
                draft = VECTORS / f"{keys[i]}.{os.getpid()}-{id(vectors)}"
                with draft.open("wb") as file:
                    np.save(file, vectors)
                draft.replace(files[i])
        return np.stack([np.load(file) for file in files])

    module.OnnxEncoder.token_vectors = token_vectors


CHANGES = {"rag_rerank.backends.local.late_interaction.token_encoder": change_encoder}
if SERVER:
    CHANGES |= {
        "cohere.environment": change_cohere,
        "voyageai.util": change_voyage,
        "rag_rerank.backends.api.dialects": change_dialects,
        "rag_rerank.backends.api.decisions.providers": change_decisions,
    }


class Changer(importlib.abc.MetaPathFinder):
    """Finds the modules of `CHANGES` as the finders after it do, and changes them once they are loaded."""

    def find_spec(self, name, path, target=None):
        change = CHANGES.pop(name, None)
        spec = importlib.util.find_spec(name) if change else None  # asks this finder again, which then knows no change
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module
        return spec


def refuse_other_machines(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", b"localhost", b"127.0.0.1"):
        raise socket.gaierror(socket.EAI_NONAME, f"the pages reach no other machine, and so not {host}")


sys.meta_path.insert(0, Changer())
sys.addaudithook(refuse_other_machines)
