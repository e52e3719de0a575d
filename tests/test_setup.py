"""The files that set the course up agree with each other, and the tests cannot reach the network."""
import ast
import re
import socket
import subprocess
import sys

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from course_lib.runtime import requirements


def direct(root):
    """name -> Requirement, for every dependency and every extra in pyproject.toml."""
    text = (root / "pyproject.toml").read_text("utf-8")
    extras = re.search(r"optional-dependencies\](.*?)^\[project", text, re.M | re.S)[1]
    lines = requirements(root) + re.findall(r'"([^"]+)"', extras)
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def test_pyproject_has_floors_only(root):
    for need in direct(root).values():
        assert [s.operator for s in need.specifier] == [">="], f"{need}: exact pins belong in constraints.txt"


def test_constraints_pin_every_direct_dependency(root):
    pins = {}
    for line in (root / "constraints.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            pins[canonicalize_name(pin.name)] = next(iter(pin.specifier)).version
    assert pins["torch"] == "2.13.0"
    for name, need in direct(root).items():
        assert name in pins, f"run `make pins`: {name} is not in constraints.txt"
        assert Version(pins[name]) in need.specifier


def test_conda_has_the_same_floors(root):
    lines = re.findall(r"^  - ([a-z-]+>=\S+)$", (root / "environment.yml").read_text("utf-8"), re.M)
    renamed = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    conda = {renamed.get(r.name, r.name): r.specifier for r in map(Requirement, lines)}
    assert conda.pop("python") == ">=3.10"
    wanted = {r.name: r.specifier for r in map(Requirement, [*requirements(root), "jupyterlab>=4"])}
    assert conda == wanted


def test_floors_are_printed_as_they_stand(root):
    """What CI installs to test the oldest versions: every dependency and every extra, once."""
    script = root / "tools" / "floors.py"
    out = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    lines = [Requirement(line) for line in out.stdout.splitlines()]
    printed = {canonicalize_name(r.name): str(r.specifier) for r in lines}
    assert len(printed) == len(lines)
    assert printed == {name: str(need.specifier).replace(">=", "==") for name, need in direct(root).items()}


# ---- CI -------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def workflow(root):
    """name of the job -> job, of the workflow on GitHub."""
    found = yaml.safe_load((root / ".github" / "workflows" / "test.yml").read_text("utf-8"))
    assert found["permissions"] == {"contents": "read"}
    return found


def combinations(job):
    """The entries of a job's matrix: every one with its os, python, ..."""
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    entries, include = [{}], matrix.pop("include", [])
    for key, values in matrix.items():
        entries = [entry | {key: value} for entry in entries for value in values]
    for extra in include:  # it completes an entry that it agrees with, or is one more
        same = [e for e in entries if all(extra[k] == e[k] for k in extra.keys() & matrix.keys())]
        for entry in same:
            entry.update(extra)
        entries += [] if same else [dict(extra)]
    return entries


def test_ci_covers_the_systems_and_every_python_that_pip_accepts(root, workflow):
    pip = combinations(workflow["jobs"]["pip"])
    python = re.search(r'requires-python = "(.+)"', (root / "pyproject.toml").read_text("utf-8"))[1]
    supported = {f"3.{minor}" for minor in range(8, 14)} & set(SpecifierSet(python).filter(
        f"3.{minor}" for minor in range(8, 14)))
    assert supported == {"3.10", "3.11", "3.12", "3.13"}
    for system in ("ubuntu", "macos", "windows"):
        assert {e["python"] for e in pip if e["os"] == system} == supported
        assert any(e.get("notebooks") for e in pip if e["os"] == system)
    assert {"os": "ubuntu", "python": "3.10", "versions": "floors", "notebooks": True} in pip
    assert any(e["versions"] == "newest" for e in pip)
    for job in workflow["jobs"].values():
        named = [step.get("with", {}).get("python-version") for step in job["steps"]]
        named += [e.get("python") for e in combinations(job)]
        assert set(named) <= supported | {None, "${{ matrix.python }}"}, "3.10 without quotes is 3.1"


def test_ci_installs_what_make_installs(root, workflow):
    makefile = (root / "Makefile").read_text("utf-8")
    assert f'-c constraints.txt -e "{workflow["env"]["EXTRAS"]}"' in makefile
    assert f"--no-deps {workflow['env']['MINILM']}" in makefile
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            assert "run" in step or re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])
            for file in re.findall(r"[\w./-]+\.(?:py|ipynb|yml)\b|constraints\.txt", step.get("run", "")):
                assert (root / file).exists(), f"{file}, which CI runs, is not there"


# ---- Windows --------------------------------------------------------------------------------------

def without_encoding(source):
    """The calls that open a text file in whatever encoding the system has."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name, text = getattr(node.func, "id", getattr(node.func, "attr", "")), ast.unparse(node)
            other = re.match(r"(Image|tarfile)\.", text) or re.search(r"utf-8|'[rwa]b\+?'", text)
            if name in ("open", "read_text", "write_text") and not other:
                yield text


def test_text_files_are_opened_with_an_encoding(root):
    """On Windows the encoding is another one than here."""
    found = {}
    for folder in ("course_lib", "tools", "benchmarks", "data", "tests"):
        for path in (root / folder).rglob("*.py"):
            found[path.name] = [*without_encoding(path.read_text("utf-8"))]
    known = found.pop("test_colab.py")
    assert len(known) == 1 and "installed.pth" in known[0], "a .pth file has the system's encoding"
    assert {name: calls for name, calls in found.items() if calls} == {}
    assert [*without_encoding("open(p); p.read_text(); open(p, 'rb'); p.write_text(x, 'utf-8')")] == [
        "open(p)", "p.read_text()"]


# ---- No network -----------------------------------------------------------------------------------

def test_no_network_here_nor_in_a_child():
    with pytest.raises(PermissionError, match="no network"), socket.socket() as s:
        s.connect(("192.0.2.1", 80))  # an address that is reserved for documentation
    with pytest.raises(PermissionError, match="no network"):
        socket.create_connection(("example.org", 80))
    code = "import urllib.request as u; u.urlopen('http://example.org')"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "the tests allow no network" in child.stderr


def test_loopback_is_open():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(server.getsockname()).close()
