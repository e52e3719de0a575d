"""What depends on where a notebook runs: the device, the seed, how long to train; and Colab.

Importing this module needs the standard library only: in Colab it runs before the course's
dependencies are there.
"""
import importlib.metadata
import inspect
import random
import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path


def device():
    """The fastest torch.device at hand: cuda, Apple's mps, or cpu."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def seed(n: int) -> None:
    """Set the random state of Python, numpy and torch (all devices)."""
    import numpy as np
    import torch

    random.seed(n)
    np.random.seed(n)  # noqa: NPY002 (libraries still draw from it)
    torch.manual_seed(n)


def budget(cpu: int, gpu: int) -> int:
    """The training steps that a live run affords here: `gpu` with CUDA, else `cpu`."""
    return gpu if device().type == "cuda" else cpu


def show(obj) -> None:
    """Show the source of a function, class or module of the library, highlighted in a notebook."""
    obj = inspect.unwrap(obj)
    source = textwrap.dedent(inspect.getsource(obj)).rstrip()
    name = obj.__name__ if inspect.ismodule(obj) else f"{obj.__module__}.{obj.__qualname__}"
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import Markdown, display

        display(Markdown(f"`{name}`\n\n````python\n{source}\n````"))
    else:
        print(f"# {name}\n{source}")


def requirements(repo: Path) -> list[str]:
    """The lines of `dependencies` in a repository's pyproject.toml."""
    # Python 3.10 has no tomllib, and this may run before anything is installed
    text = (repo / "pyproject.toml").read_text()
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)
    return re.findall(r'"([^"]+)"', block[1])


def install_missing(repo: str | Path) -> list[str]:
    """Install the course's dependencies that are absent; returns them. Nothing else is changed.

    What is there stays at its version, new or old: Colab has torch, numpy and ipywidgets in memory
    already, and another version on disk would break them. So every installed version goes to pip as
    a constraint. Raises subprocess.CalledProcessError where pip fails; pip says why.
    """
    def plain(name):  # the names Some_Thing, some.thing and some-thing are one
        return re.sub(r"[-_.]+", "-", name).lower()

    there = {plain(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()
             if d.metadata["Name"]}
    missing = [line for line in requirements(Path(repo))
               if plain(re.match(r"[\w.-]+", line)[0]) not in there]
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            pins = Path(folder, "installed.txt")
            pins.write_text("".join(f"{name}=={version}\n" for name, version in there.items()))
            pip = [sys.executable, "-m", "pip", "install", "-q", "-c", str(pins)]
            subprocess.run(pip + missing, check=True)
    return missing
