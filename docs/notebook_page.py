"""A notebook in jupytext's percent format as a page: its text, its code, and what running it shows."""

import os
import tempfile
import textwrap
from base64 import b64decode
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient


def executed(source: Path, folder: Path, env: dict[str, str] | None = None) -> nbformat.NotebookNode:
    """The notebook after all its cells ran in `folder`, which keeps its tracking database."""
    notebook = jupytext.read(source)
    kept = dict(os.environ)
    os.environ.update(env or {})
    try:
        client = NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        return client.execute()
    finally:
        os.environ.clear()
        os.environ.update(kept)


def run_apart(source: Path) -> nbformat.NotebookNode:
    """The notebook executed offline in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        env = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "SKILLNEURONS_STATE": f"{folder}/state"}
        src = str(Path(__file__).parent.parent / "src")
        env |= {"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": src, "COLUMNS": "110"}
        env |= {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "TQDM_DISABLE": "1"}
        return executed(source, Path(folder), env)


def markdown(source: Path, pictures: Path, run: bool) -> str:
    """The page; `pictures` is a folder for those that the cells drew."""
    notebook = run_apart(source) if run else jupytext.read(source)
    told = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            told.append(cell.source)
            continue
        told.append(f"```python\n{cell.source}\n```")
        for place, output in enumerate(cell.get("outputs", [])):
            told += _shown(output, pictures / f"{source.stem}-{number}-{place}.png", source.parent)
    return "\n\n".join(told) + "\n"


def _shown(output: nbformat.NotebookNode, picture: Path, page: Path) -> list[str]:
    if output.output_type == "stream":
        lines = [textwrap.fill(line, 110) if len(line) > 118 else line for line in output.text.rstrip().splitlines()]
        return ["\n".join(["```text", *lines, "```"])] if output.name == "stdout" else []
    data = output.get("data", {})
    if "image/png" in data:
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(b64decode(data["image/png"]))
        return [f"![{data.get('text/plain', 'picture')}]({os.path.relpath(picture, page)})"]
    if "text/plain" in data:
        text = data["text/plain"]
        return [f"```text\n{text}\n```"]
    return []
