"""The files that set the course up agree with each other, and the tests cannot reach the network."""
import re
import socket
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from course_lib.runtime import requirements


def direct(root):
    """name -> Requirement, for every dependency and every extra in pyproject.toml."""
    extras = re.search(r"optional-dependencies\](.*?)^\[project", (root / "pyproject.toml").read_text(),
                       re.M | re.S)[1]
    lines = requirements(root) + re.findall(r'"([^"]+)"', extras)
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def test_pyproject_has_floors_only(root):
    for need in direct(root).values():
        assert [s.operator for s in need.specifier] == [">="], f"{need}: exact pins belong in constraints.txt"


def test_constraints_pin_every_direct_dependency(root):
    pins = {}
    for line in (root / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            pins[canonicalize_name(pin.name)] = next(iter(pin.specifier)).version
    assert pins["torch"] == "2.13.0"
    for name, need in direct(root).items():
        assert name in pins, f"run `make pins`: {name} is not in constraints.txt"
        assert Version(pins[name]) in need.specifier


def test_conda_has_the_same_floors(root):
    lines = re.findall(r"^  - ([a-z-]+>=\S+)$", (root / "environment.yml").read_text(), re.M)
    renamed = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    conda = {renamed.get(r.name, r.name): r.specifier for r in map(Requirement, lines)}
    assert conda.pop("python") == ">=3.10"
    wanted = {r.name: r.specifier for r in map(Requirement, [*requirements(root), "jupyterlab>=4"])}
    assert conda == wanted


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
