from pathlib import Path

from click.testing import CliRunner

from rag_rerank.cli import app


def test_config_check_tells_the_languages_of_local_models(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(f"type: fallback\nmembers: [embedded, 'torch:bge', lexical, 'onnx:{tmp_path}']\n", encoding="utf-8")
    lines = CliRunner().invoke(app, ["config", "check", str(file)]).stdout.splitlines()
    assert lines[1].endswith("late_interaction:embedded  (languages: en)")
    assert lines[2].endswith("(languages: multilingual)")
    assert "languages" not in lines[3]
    assert lines[4].endswith("(languages: not known)")
