"""Make the pictures of README.md anew: `python docs/pictures.py`, after `make demo`.

Needs what the project itself does not: `playwright` from the package index and a Chromium
(Debian's package), whose path is the first argument.
"""

import html
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from playwright.sync_api import Page, sync_playwright  # pyright: ignore[reportMissingImports]

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
EXERCISE, MISTAKE = "softmax_cross_entropy", "summed, not averaged"
STYLE = "body{margin:0;padding:14px 18px;background:#fff;font:13px/1.4 monospace;white-space:pre}"


def student_notebook(path: Path) -> None:
    """The release notebook with one wrong answer, run up to its test."""
    from autograder.contract import load

    notebook = nbformat.read(ROOT / "release/01_backprop/autodiff.ipynb", as_version=4)
    cells = {cell.id: number for number, cell in enumerate(notebook.cells)}
    mistake = next(m for m in load("01_backprop")[EXERCISE].mistakes if m.name == MISTAKE)
    answer = cells[EXERCISE.replace("_", "-")]
    notebook.cells[answer].source = mistake.source.strip()
    part = nbformat.v4.new_notebook(cells=notebook.cells[: answer + 2], metadata=notebook.metadata)
    os.environ["PYTHONPATH"] = str(ROOT)
    NotebookClient(part, allow_errors=True).execute()
    part.cells = part.cells[answer - 1 :]
    nbformat.write(part, path)


def student(page: Page, folder: Path) -> None:
    """JupyterLab with a wrong answer."""
    student_notebook(folder / "autodiff.ipynb")
    token = secrets.token_hex(8)
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=18888"]
    command += [f"--ServerApp.token={token}", f"--notebook-dir={folder}"]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        time.sleep(12)
        page.goto(f"http://127.0.0.1:18888/lab/tree/autodiff.ipynb?token={token}")
        page.wait_for_selector(".jp-Notebook .jp-OutputArea-output", timeout=60_000)
        page.add_style_tag(content=".Toastify { display: none }")  # the question about news
        page.keyboard.press("Control+B")
        time.sleep(3)
        page.locator(".jp-OutputArea-output").last.scroll_into_view_if_needed()
        time.sleep(2)
        page.screenshot(path=ROOT / "docs/student.png")
    finally:
        server.terminate()
        server.wait()


def feedback(page: Page) -> None:
    """The top of a feedback page of the demo's class."""
    path = ROOT / "class/feedback/04-mistakes-a/01_backprop/autodiff.html"
    page.goto(path.as_uri())
    page.screenshot(path=ROOT / "docs/feedback.png")


def verify(page: Page) -> None:
    """What `autograder verify` prints."""
    command = [sys.executable, "-m", "autograder", "verify", "01_backprop/activations"]
    env = {**os.environ, "COLUMNS": "110"}
    text = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    shown = html.escape(f"$ autograder verify 01_backprop/activations\n{text.stdout}")
    page.set_content(f"<style>{STYLE}</style>{shown}")
    page.set_viewport_size({"width": 1060, "height": 160})
    page.screenshot(path=ROOT / "docs/verify.png")


def main() -> None:
    """Take all three."""
    with sync_playwright() as play, tempfile.TemporaryDirectory() as folder:
        flags = [
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-sync",
        ]
        browser = play.chromium.launch(executable_path=sys.argv[1], args=flags)
        page = browser.new_page(viewport={"width": 1000, "height": 760})
        feedback(page)
        student(page, Path(folder))
        verify(page)
        browser.close()
    print(json.dumps([str(path.name) for path in sorted((ROOT / "docs").glob("*.png"))]))


if __name__ == "__main__":
    main()
