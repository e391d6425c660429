"""Run notebooks in place, and keep nothing in them that differs from machine to machine.

    python cookbook/run.py                                   # all notebooks
    python cookbook/run.py cookbook/01_first_rerank.ipynb    # some

Needs the dependency group ``cookbook``. Stops at the first cell that fails or writes to stderr; the file then stays as
it was.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

COOKBOOK = Path(__file__).parent

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def run_notebook(file: Path) -> nbformat.NotebookNode:
    """Run a notebook, and return it with its new outputs."""
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(COOKBOOK)}}
    ).execute()
    return notebook


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return the notebook without counts and metadata of one run, and with its printed lines in one piece a cell.

    Raises:
        SystemExit: A cell has written to stderr.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id, cell.metadata = f"cell-{number:02}", {}
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        outputs: list[nbformat.NotebookNode] = []
        for output in cell.outputs:
            if output.get("name") == "stderr":
                raise SystemExit(f"cell {number} writes to stderr:\n{output.text}")
            if "execution_count" in output:
                output.execution_count = None
            if outputs and output.output_type == outputs[-1].output_type == "stream":
                outputs[-1].text += output.text
            else:
                outputs.append(output)
        cell.outputs = outputs
    return notebook


def main(names: list[str]) -> None:
    """Run the notebooks that are named, or all."""
    for file in [Path(name) for name in names] or sorted(COOKBOOK.glob("*.ipynb")):
        print(file)
        nbformat.write(clean(run_notebook(file)), file, version=nbformat.NO_CONVERT)


if __name__ == "__main__":
    main(sys.argv[1:])
