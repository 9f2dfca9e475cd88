import os
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_runs_from_top_to_bottom(path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    notebook = nbformat.read(path, as_version=4)
    assert any(cell.outputs for cell in notebook.cells if cell.cell_type == "code"), "They are read on the web, too."
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": path.parent}}).execute(env=os.environ.copy())
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
