"""No output of the command shows a key, a password, a query of a URL, or the name of a user."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_rerank.cli import app
from rag_rerank.diagnostics.health import imports
from rag_rerank.diagnostics.health.finding import Finding
from rag_rerank.diagnostics.health.redaction import Redaction

SECRETS = {
    "a key in the environment": "co-quoted 'key' 4711abcdef",
    "a key that no provider is known for": "zq-Unlisted-8842-Service",
    "a key in the config": "inline-Key-0042-Config",
    "a key in the body": "body-Token-9193-Field",
    "a variable in a URL": "gateway-Part-5521-Path",
    "a password of a proxy": "p@ss:word/Proxy-77",
    "a user of a proxy": "proxy-user-31415",
    "a password of the hub's mirror": "mirror-Pass-2718",
    "a query of the hub's mirror": "sig-Query-16180",
    "a password in netrc": "netrc-Pass-57721",
    "a key in the wrong field": "sk-wrongField0123456789abcdef",
}


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, an environment and a config full of secrets."""
    home = tmp_path / "home" / "mallory"
    home.mkdir(parents=True)
    (home / ".netrc").write_text(f"machine 127.0.0.1 login me password {SECRETS['a password in netrc']}\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("getpass.getuser", lambda: "mallory")
    monkeypatch.setenv("CO_API_KEY", SECRETS["a key in the environment"])
    monkeypatch.setenv("ACME_ACCESS_TOKEN", SECRETS["a key that no provider is known for"])
    monkeypatch.setenv("GATEWAY", SECRETS["a variable in a URL"])
    proxy = f"{SECRETS['a user of a proxy']}:{quote(SECRETS['a password of a proxy'], safe='')}"
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy}@proxy.invalid:3128")
    mirror = f"me:{SECRETS['a password of the hub' + chr(39) + 's mirror']}@mirror.invalid"
    query = SECRETS["a query of the hub's mirror"]
    monkeypatch.setenv("HF_ENDPOINT", f"https://{mirror}/hub?sig={query}")
    monkeypatch.setenv("HF_HOME", str(home / ".cache"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(home / f"{SECRETS['a key that no provider is known for']}.pem"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(imports, "import_modules", lambda modules: {name: imports.Import() for name in modules})
    node = {
        "type": "fallback",
        "members": [
            "cohere",
            {
                "type": "http",
                "dialect": "vllm",
                "base_url": "http://127.0.0.1:9/${GATEWAY}/v1",
                "model": "org/model",
                "api_key": SECRETS["a key in the config"],
                "extra_body": {
                    "session_token": SECRETS["a key in the body"],
                    "nested": [{"opaque": "aB3xQ9zR7tK2mW5v"}],
                },
            },
            {"type": "cached", "reranker": "embedded", "path": str(home / "scores.db")},
        ],
    }
    (home / "reranker.json").write_text(json.dumps(node))
    (home / "wrong.json").write_text(json.dumps({"type": "cohere", "timeout": SECRETS["a key in the wrong field"]}))
    return home


def spellings(secret: str) -> set[str]:
    return {secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}


@pytest.mark.parametrize("config", ["reranker.json", "wrong.json"])
def test_no_output_shows_what_is_secret(planted: Path, config: str) -> None:
    bundle = planted / "bundle.json"
    arguments = ["doctor", "-c", str(planted / config), "--timeout", "0.5", "--bundle", str(bundle)]
    arguments += ["--json"] if config == "wrong.json" else []
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 1
    outputs = {"stdout": result.output, "bundle": bundle.read_text(encoding="utf-8")}
    for output, content in outputs.items():
        shown = {name for name, secret in SECRETS.items() for one in spellings(secret) if one in content}
        assert shown == set(), output
        assert "mallory" not in content.replace(str(bundle), ""), output
        assert "aB3xQ9zR7tK2mW5v" not in content, output
    report = json.loads(outputs["bundle"])
    assert report["schema"] == 1
    assert report["environment"]["CO_API_KEY"] == "set"
    assert report["environment"]["HTTPS_PROXY"] == "http://***@proxy.invalid:3128"
    assert "ACME_ACCESS_TOKEN" not in report["environment"]
    if config == "reranker.json":
        assert report["config"]["members"][1]["extra_body"]["session_token"] == "***"
        assert report["config"]["members"][1]["base_url"] == "http://127.0.0.1:9/***/v1"
        assert report["config"]["members"][2]["path"] == "~/scores.db"
    else:
        assert report["config"] is None and report["findings"][0]["check"] == "config"
        assert json.loads(result.stdout)["findings"] == report["findings"]


@settings(max_examples=40)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zs")), min_size=8, max_size=40))
def test_a_secret_is_masked_in_every_spelling(secret: str) -> None:
    text = " | ".join(sorted(spellings(secret)))
    finding = Redaction((secret,)).finding(Finding("check", "problem", text, f"what {text}", text))
    node = Redaction((secret,)).node({text: [text], "api_key": "x", "model": text})
    for spelling in spellings(secret):
        if spelling not in "*** | what check model api_key":
            assert spelling not in json.dumps([finding.where, finding.what, finding.advice, node], ensure_ascii=False)


def test_paths_lose_the_home_folder_and_nothing_else() -> None:
    redaction = Redaction((), home="/home/ann", user="ann")
    assert redaction.text("/home/ann/x, /home/anna/x and /home/ann") == "~/x, /home/anna/x and ~"
    assert redaction.text("/mnt/c/Users/ann/x of ann's") == "/mnt/c/Users/USER/x of ann's"
    assert redaction.text("https://u:p@host/a?k=v#f and http://host/b") == "https://***@host/a?*** and http://host/b"


def test_a_reference_and_a_commit_stay_readable() -> None:
    node = {"api_key": "${CO_API_KEY}", "revision": "c5ee24cb16019beea0893ab7796b1df96625c6b8", "depth": 50}
    assert Redaction(()).node(node) == node
