"""Write constraints.txt: the installed version of everything that the course needs (`make pins`).

Only the dependencies of the course and of its tools are pinned, not whatever else is installed.
Releases that belong together are pinned together: where one of them needs a newer Python than the
oldest that the course supports, all pins but torch's are for that Python and newer ones.
"""
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = [f"3.{minor}" for minor in range(10, 20)]
HEAD = """\
# What CI and `make` install. pyproject.toml holds the floors; this file is written by `make pins`.
# On an older Python than the markers say, pip takes the newest releases that still support it."""


def closure(name: str, extras: set[str], seen: dict[str, set[str]]) -> None:
    """Add `name` and everything it needs to `seen`: canonical name -> extras already followed."""
    name = canonicalize_name(name)
    if name in seen and extras <= seen[name]:
        return
    seen.setdefault(name, set()).update(extras)
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:  # needed on another system only
        del seen[name]
        return
    for line in lines:
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras | {""}):
            closure(need.name, need.extras, seen)


def oldest_python(name: str) -> str:
    """The first Python on which the installed release runs."""
    allowed = SpecifierSet(distribution(name).metadata["Requires-Python"] or "")
    return next(p for p in PYTHONS if f"{p}.99" in allowed)


def text(names: list[str]) -> str:
    """The lines of constraints.txt."""
    oldest = max((oldest_python(name) for name in names), key=Version)
    marker = "" if oldest == PYTHONS[0] else f' ; python_version >= "{oldest}"'
    lines = [HEAD]
    for name in names:
        version = Version(distribution(name).version).public  # 2.13.0+cpu and +cu130 are 2.13.0
        lines.append(f"{name}=={version}{'' if name == 'torch' else marker}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    seen: dict[str, set[str]] = {}
    closure("noise-to-emoji", {"data", "imagenet", "lab", "minilm", "test"}, seen)
    seen.pop("noise-to-emoji")
    (ROOT / "constraints.txt").write_text(text(sorted(seen)), "utf-8", newline="\n")
    print(f"constraints.txt: {len(seen)} packages")
