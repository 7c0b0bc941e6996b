"""Every example runs, without a network, on tiny models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
OLD = Path(__file__).parent / "fixtures" / "version_0_1"
pytestmark = pytest.mark.slow


def run(name: str, *arguments: str | Path) -> list[str]:
    """Run a script; the lines that it prints."""
    command = [sys.executable, EXAMPLES / name, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()


def test_index_is_searched_by_script_and_by_langchain(tmp_path: Path) -> None:
    model, index, question = OLD / "joint", tmp_path / "index", "green cat dog"
    printed = run("index_and_search.py", index, OLD / "recordings", question, "--model", model, "--windows", "2/1")
    statuses, hits = printed[:2], printed[2:]
    assert [status.partition(": ")[2].split(",")[0] for status in statuses] == ["indexed", "indexed"]
    found = run("langchain_retriever.py", index, question)
    assert len(found) == len(hits) > 0
    names = [[Path(line.split()[0]).name for line in lines] for lines in (found, hits)]
    assert names[0] == names[1] and set(names[0]) == {"a.wav", "b.wav"}


def test_fine_tuned_model_is_measured(tone_model: Path, tone_corpus: Path, tmp_path: Path) -> None:
    rows = run("fine_tune.py", tone_model, tone_corpus, tmp_path / "tuned", "--max-steps", "4")
    assert (tmp_path / "tuned" / "meta.json").is_file()
    found = {cells[0]: float(cells[2]) for line in rows if (cells := line.split())[1:2] == ["recall@1"]}
    assert {"text", "cascade", "clsr", "clsr-soft"} <= set(found) and all(0 <= value <= 1 for value in found.values())


def test_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"MODEL": OLD / "joint", "RECORDINGS": OLD / "recordings", "WINDOWS": "2/1", "QUESTION": "green cat dog"}
    for name, value in settings.items():
        monkeypatch.setenv(f"CLSR_{name}", str(value))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    results = [output["data"] for output in outputs if output.output_type == "execute_result"]
    assert any("text/html" in data and "<audio" in data["text/html"] for data in results)
    assert -1 <= float(results[-1]["text/plain"]) <= 1


def test_notebook_is_kept_without_outputs() -> None:
    content = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
    assert all(not cell["outputs"] and cell["execution_count"] is None
               for cell in content["cells"] if cell["cell_type"] == "code")  # fmt: skip
