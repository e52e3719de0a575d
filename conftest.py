"""For all tests and for `pytest --nbval notebooks`: no network, and nbval as strict as it can be."""
import importlib.util
import os
from pathlib import Path

import pytest

OFFLINE = Path(__file__).parent / "tests" / "offline"


def pytest_configure(config):
    block_network()
    if getattr(config.option, "nbval", False):
        config.option.nbval_cell_timeout = 600


def block_network() -> None:
    """Loopback only, in this process and in every Python that it starts (see tests/offline)."""
    spec = importlib.util.spec_from_file_location("offline", OFFLINE / "sitecustomize.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    paths = [str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ.update(PYTHONPATH=os.pathsep.join(paths), HF_HUB_OFFLINE="1")


def pytest_collection_modifyitems(items):
    """nbval compares stored text only: not warnings, and not HTML or SVG, which hold random ids."""
    files = {item.parent for item in items if hasattr(item, "output_timeout")}
    for file in files:
        file.skip_compare += ("stderr", "text/html", "image/svg+xml")
    for item in items:
        if item.parent in files:
            item.output_timeout = 120  # 5 s in nbval: too short for a large figure on a busy machine


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of the repository."""
    return Path(__file__).parent
