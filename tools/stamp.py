"""Write the course's address into the notebooks (Colab badge, bootstrap cell), and fold what is to be folded.

    python tools/stamp.py           # stamp (`make stamp`)
    python tools/stamp.py --check   # change nothing, exit 1 where a stamp is old

The address is `Repository` under [project.urls] in pyproject.toml, and nowhere else.
"""
import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
BADGE = "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
BOOTSTRAP = '''\
# For Colab only: fetch the course. Elsewhere this cell does nothing.
import importlib.util
import os
import subprocess
import sys

if "COLAB_RELEASE_TAG" in os.environ and not importlib.util.find_spec("course_lib"):
    repo = os.path.abspath("noise-to-emoji")
    if not os.path.exists(f"{repo}/course_lib"):
        url = os.environ.get("COURSE_REPO", "{address}")
        subprocess.run(["git", "clone", "--depth", "1", url, repo], check=True)
    sys.path.insert(0, repo)
    os.environ["PYTHONPATH"] = repo  # for `!python -m course_lib.recipes`
    from course_lib.runtime import install_missing
    install_missing(repo)'''


def address() -> str:
    """The public address of the course, without a trailing slash."""
    return re.search(r'^Repository = "(.+?)/?"', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)[1]


def badge(path: str) -> str:
    """The badge line for a notebook at `path` in the repository (Colab opens GitHub addresses)."""
    repo = address().removeprefix("https://github.com/").removesuffix(".git")
    return f"{BADGE}(https://colab.research.google.com/github/{repo}/blob/main/{path})"


def stamp(notebook, path: str):
    """Badge under the title of the first text cell, bootstrap as the first code cell; in place."""
    title = notebook.cells[0]
    if title.cell_type != "markdown":
        raise ValueError(f"{path}: the first cell must be text, with the title")
    lines = [line for line in title.source.split("\n") if not line.startswith(BADGE)]
    rest = "\n".join(lines[1:]).strip("\n")
    title.source = f"{lines[0]}\n\n{badge(path)}\n\n{rest}".rstrip("\n")

    first = next((c for c in notebook.cells if c.cell_type == "code"), None)
    if first is None or "bootstrap" not in first.metadata.get("tags", []):
        first = nbformat.v4.new_code_cell(id="bootstrap")
        notebook.cells.insert(1, first)
    first.metadata.update(tags=["bootstrap"], slideshow={"slide_type": "skip"})
    first.source = BOOTSTRAP.replace("{address}", address())
    for cell in notebook.cells:
        fold(cell.metadata)


def fold(metadata) -> None:
    """Folded where it has the tag `hide-input`, open elsewhere; in place."""
    metadata.pop("jupyter", None)
    metadata.pop("cellView", None)
    if "hide-input" in metadata.get("tags", []):
        metadata.update(jupyter={"source_hidden": True}, cellView="form")  # JupyterLab, Colab


def notebooks() -> list[Path]:
    """All notebooks of the course: the core path in order, then labs and solutions."""
    folder = ROOT / "notebooks"
    parts = ("*.ipynb", "labs/*.ipynb", "solutions/*.ipynb")
    return [path for part in parts for path in sorted(folder.glob(part))]


def main(check: bool) -> int:
    old = []
    for path in notebooks():
        text = path.read_text(encoding="utf-8")
        notebook = nbformat.reads(text, as_version=4)
        stamp(notebook, path.relative_to(ROOT).as_posix())
        new = nbformat.writes(notebook) + "\n"
        if new.strip() != text.strip():
            old.append(path)
            if not check:
                path.write_text(new, "utf-8", newline="\n")
    for path in old:
        print(f"{'not stamped' if check else 'stamped'}: {path.relative_to(ROOT)}")
    return int(check and bool(old))


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
