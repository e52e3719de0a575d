"""The shape of the library: imports form a DAG, modules stay small, everything public is documented."""
import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "course_lib"
MODULES = {".".join(path.relative_to(FOLDER.parent).with_suffix("").parts).removesuffix(".__init__"):
           path for path in sorted(FOLDER.rglob("*.py"))}


def imports(name):
    """Modules of course_lib that a module imports, also inside functions."""
    found, path = set(), MODULES[name]
    home = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = home.split(".")
                base = ".".join([*parts[:len(parts) - node.level + 1], *filter(None, [base])])
            # `from . import data` means the module data, `from .data import emoji` its content
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return found & MODULES.keys()


def test_imports_form_a_dag():
    """static_order raises CycleError, which names the circle, where there is one.

    A package that imports its own submodules when they are needed, and they import it, is one
    thing from outside: they count as one node.
    """
    whole = lambda name: ".".join(name.split(".")[:2])
    graph = {whole(name): set() for name in MODULES}
    for name in MODULES:
        graph[whole(name)] |= {whole(other) for other in imports(name)} - {whole(name)}
    assert set(TopologicalSorter(graph).static_order()) == {whole(name) for name in MODULES}
    assert graph["course_lib.samplers"] >= {"course_lib.schedules"}
    assert graph["course_lib.schedules"] == {"course_lib.checks", "course_lib.rng"}
    assert "course_lib.recipes" not in graph["course_lib.nets"] | graph["course_lib.systems"]


@pytest.mark.parametrize("name", MODULES)
def test_module(name):
    """At most 300 lines; a docstring on the module and on each public class, function and method.

    A method that fills in one documented in a base class of the same module needs none, nor do
    `forward` and dunders: their class says what they do.
    """
    text = MODULES[name].read_text("utf-8")
    assert text.count("\n") <= 300
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "the module has no docstring"
    classes = {n.name: n for n in tree.body if isinstance(n, ast.ClassDef)}
    methods = lambda c: [n for n in c.body if isinstance(n, ast.FunctionDef)]
    bare = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node):
                bare.append(node.name)
            if isinstance(node, ast.ClassDef):
                bases = [classes[b.id] for b in node.bases if getattr(b, "id", "") in classes]
                inherited = {m.name for b in bases for m in methods(b)} | {"forward"}
                bare += [f"{node.name}.{m.name}" for m in methods(node)
                         if not m.name.startswith("_") and m.name not in inherited
                         and not any(getattr(d, "id", "") == "property" for d in m.decorator_list)
                         and not ast.get_docstring(m)]
    assert not bare, f"no docstring: {bare}"


def test_importing_does_nothing_but_import():
    """In a fresh process: no figure, no file read from data/, no seed, no output, and the core
    (samplers and what it needs) without the heavy libraries."""
    code = """
import random, sys, torch, numpy
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else
                 opened.append(event) if event.startswith(("socket.connect", "urllib")) else None)
before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()[1].copy()
import course_lib.samplers, course_lib.denoiser
assert not {"matplotlib", "IPython", "ipywidgets", "accelerate", "diffusers"} & sys.modules.keys()
for name in %r:
    __import__(name)
assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[1]
assert (numpy.random.get_state()[1] == before[2]).all()
pyplot = sys.modules.get("matplotlib.pyplot")
assert pyplot is None or not pyplot.get_fignums()
assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
ours = [f for f in opened if %r in f or f.startswith(("socket", "urllib"))]
assert not ours, ours
assert "diffusers" not in sys.modules
"""
    code = code % ([*MODULES], str(FOLDER.parent / "data"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" == done.stderr
