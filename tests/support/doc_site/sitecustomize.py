"""What every Python process of a page does first: providers without a variable for their URL are at `DOC_SERVER`, and
no other machine can be reached.

The SDKs of Cohere and Voyage, the dialects of providers (Jina, OpenRouter and others), and the providers of decision
models (TypeSafe, OpenAI, Ollama ...) have their URL in code, which is changed when their module is imported; a process
that does not use them imports nothing. (Cohere's SDK also reads ``CO_API_URL``; with that, list prices would not be
known.)
"""

import dataclasses
import importlib.abc
import importlib.util
import os
import socket
import sys
import types

SERVER = os.environ["DOC_SERVER"]


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


CHANGES = {
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
