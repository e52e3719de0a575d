"""A clone as Git for Windows makes it has the bytes that were committed. Run on every system."""
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = [f"data/checkpoints/{path.name}" for path in (ROOT / "data" / "checkpoints").glob("level16-*")]
FILES = [".ci/run", ".gitattributes", ".github/workflows/test.yml", "Makefile", "pyproject.toml",
         "constraints.txt", "environment.yml", "benchmarks/guidance.csv", "data/captions.csv",
         "data/manifest.json", "data/packages.json", "data/checkpoints/manifest.json",
         *WEIGHTS, "data/sheets/noto-4.png", "data/build.py",
         "docs/samples.png", "course_lib/data.py",
         "notebooks/00_welcome.ipynb", "tests/small_slice.json", "README.md"]


def git(*args, cwd):
    subprocess.run(["git", "-c", "user.name=test", "-c", "user.email=test@example.org", *args],
                   cwd=cwd, check=True, capture_output=True)


def clone(folder: Path, files) -> Path:
    """Commit these files of the working tree, and clone them with `core.autocrlf=true`."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    for name in files:
        (folder / "origin" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / "origin" / name)
    git("init", "-q", cwd=folder / "origin")
    git("-c", "core.autocrlf=false", "add", "-A", cwd=folder / "origin")
    git("commit", "-q", "-m", "some files", cwd=folder / "origin")
    git("clone", "-q", "-c", "core.autocrlf=true", "origin", "clone", cwd=folder)
    return folder / "clone"


def test_a_clone_with_autocrlf_has_the_same_bytes(tmp_path):
    copy = clone(tmp_path, FILES)
    for name in FILES:
        assert (copy / name).read_bytes() == (ROOT / name).read_bytes(), name
    expected = json.loads((copy / "data" / "manifest.json").read_text("utf-8"))["captions.csv"]["sha256"]
    assert hashlib.sha256((copy / "data" / "captions.csv").read_bytes()).hexdigest() == expected


def test_without_gitattributes_it_would_not(tmp_path):
    """The check above can fail: this is what a clone on Windows was like."""
    copy = clone(tmp_path, ["data/captions.csv"])
    assert (copy / "data" / "captions.csv").read_bytes().count(b"\r\n") > 10_000


def test_an_editor_on_windows_brings_no_crlf(tmp_path):
    """What is added with CRLF is committed with LF: code, not the data that have a hash."""
    copy = clone(tmp_path, [".gitattributes", "Makefile"])
    (copy / "Makefile").write_bytes((ROOT / "Makefile").read_bytes().replace(b"\n", b"\r\n") + b"# mine\r\n")
    git("commit", "-q", "-a", "-m", "mine", cwd=copy)
    done = subprocess.run(["git", "show", "HEAD:Makefile"], cwd=copy, check=True, capture_output=True)
    assert done.stdout == (ROOT / "Makefile").read_bytes() + b"# mine\n"
