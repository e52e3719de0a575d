"""Exercises that answer: a learner's function is judged at once, and a known mistake is named.

    @exercise("forward.q_sample")
    def q_sample(x0, t, eps, abar):
        ...

prints one text (right, wrong with a diagnosis, or not attempted with a hint) and gives back the
learner's function if it is right, else the reference, so that every later cell still runs.

The exercise "forward.q_sample" is `q_sample` in forward.py: a reference solution whose docstring is
the task, under `@problem(...)`, which holds how an answer is judged. Adding one is adding a block.
An answer is compared, on fixed inputs, with wrong *twins*: functions that make a known mistake.
"""
import dis
import functools
import importlib
import inspect
import pkgutil
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLANK = "not attempted"


@dataclass(frozen=True)
class Exercise:
    """One task.

    reference: the solution. works: what now works, said when an answer is right.
    hints: two or three, the last almost gives the line.
    cases: makes fresh arguments, one tuple per call; never random.
    mistakes: rows (twin, ..., diagnosis). A twin takes the same arguments as the reference; where
        it returns a tuple, `...` in it stands for "anything".
    limits: rows (holds, diagnosis). `holds(f)` is true if the function f keeps the rule.
    also: other right answers that give other numbers.
    exact: compare with reference and `also`; if False, the limits alone decide.
    """
    reference: Callable
    works: str
    hints: tuple[str, ...]
    cases: Callable[[], list[tuple]]
    mistakes: tuple[tuple, ...] = ()
    limits: tuple[tuple[Callable[[Callable], Any], str], ...] = ()
    also: tuple[Callable, ...] = ()
    exact: bool = True

    @property
    def name(self) -> str:
        return f"{self.reference.__module__.rsplit('.', 1)[-1]}.{self.reference.__name__}"

    @property
    def statement(self) -> str:
        """The task in words, to be shown in a notebook."""
        return inspect.getdoc(self.reference)

    def diagnose(self, f: Callable) -> str | None:
        """None if f is right, BLANK if nobody has tried yet, else what is wrong with it."""
        given, untouched = self.cases(), self.cases()
        mine = [outcome(f, args) for args in given]
        if any(is_blank(out, f) for out in mine):
            return BLANK
        if any(out is None for out in mine):
            return "it returns None. Is the `return` line missing?"
        if changed(given, untouched):
            return "it changes one of its inputs in place. Build a new tensor instead."
        right = self._outcomes(self.reference)
        for *twins, diagnosis in self.mistakes:
            if any(resembles(mine, self._outcomes(twin), right) for twin in twins):
                return diagnosis
        try:
            for holds, diagnosis in self.limits:
                if not holds(f):
                    return diagnosis
        except Exception as error:  # the learner's code may stop on these inputs only
            return stumble(error, f)
        for out in mine:
            if isinstance(out, Exception):
                return stumble(out, f)
        if not self.exact or any(all(map(same, mine, self._outcomes(g)))
                                 for g in (self.reference, *self.also)):
            return None
        return next(difference(m, r) for m, r in zip(mine, right, strict=True) if not same(m, r))

    def _outcomes(self, f):
        return [outcome(f, args) for args in self.cases()]


def problem(**judged_by) -> Callable[[Callable], Exercise]:
    """Turn a reference solution into an Exercise; the keywords are the fields of Exercise."""
    return lambda reference: Exercise(reference=reference, **judged_by)


def exercise(name: str) -> Callable[[Callable], Callable]:
    """Decorator: judge the learner's function, print the verdict, return it or the reference.

    The random state of torch is the same afterwards, and the text is the same at every run.
    """
    ex = find(name)

    def check(f):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            diagnosis = ex.diagnose(f)
        if diagnosis is None:
            say(f"✓ {name}: {ex.works}")
            return f
        if diagnosis is BLANK:
            say(f'{name}: not attempted. Hint 1 of {len(ex.hints)}: {ex.hints[0]} '
                f'For more: hint("{name}", 2)')
        else:
            say(f"✗ {name}: {diagnosis} (Until this is right, the reference is used.)")
        return ex.reference
    return check


def hint(name: str, n: int = 1) -> None:
    """Print hint n = 1, 2, ... of an exercise; the last one almost gives the answer."""
    hints = find(name).hints
    if not 1 <= n <= len(hints):
        raise ValueError(f"{name} has the hints 1 to {len(hints)}, there is no hint {n}")
    say(f"Hint {n} of {len(hints)} for {name}: {hints[n - 1]}")


def find(name: str) -> Exercise:
    """The exercise of that name, such as "forward.q_sample"."""
    if name not in catalogue():
        raise ValueError(f'there is no exercise "{name}". There are: {", ".join(catalogue())}')
    return catalogue()[name]


@functools.cache
def catalogue() -> dict[str, Exercise]:
    """Every exercise by name, in the order of the modules of this package."""
    modules = [importlib.import_module(f"{__name__}.{m.name}")
               for m in pkgutil.iter_modules(__path__)]
    return {ex.name: ex for m in modules for ex in vars(m).values() if isinstance(ex, Exercise)}


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers that are the same at every call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- How an answer is looked at. An outcome is a tuple of tensors, None, or an exception. ----

def outcome(f: Callable, args: tuple):
    """What f returns for args, as a tuple of tensors; or the exception that stopped it."""
    try:
        out = f(*args)
        if out is None or out is ...:
            return out
        several = isinstance(out, tuple | list) and any(p is ... or torch.is_tensor(p) for p in out)
        return tuple(p if p is ... else torch.as_tensor(p).detach()
                     for p in (out if several else [out]))
    except Exception as error:  # whatever the learner's code raises becomes a diagnosis
        return error


def same(a, b) -> bool:
    """Equal outcomes: the same kind of exception, or the same shapes and (nearly) numbers."""
    if not (isinstance(a, tuple) and isinstance(b, tuple)):
        return type(a) is type(b)
    return len(a) == len(b) and all(
        p is ... or q is ... or (p.shape == q.shape and torch.allclose(
            p.double(), q.double(), rtol=1e-4, atol=1e-5, equal_nan=True))
        for p, q in zip(a, b, strict=True))


def resembles(mine: list, twin: list, right: list) -> bool:
    """True if an answer goes wrong exactly as the twin does, on every case where the twin is wrong.

    Where the twin only ever raises, the answer must also be right on the cases that remain.
    """
    wrong = [not same(t, r) for t, r in zip(twin, right, strict=True)]
    numbers = any(w and isinstance(t, tuple) for w, t in zip(wrong, twin, strict=True))
    return any(wrong) and all(same(m, t if w else r) for m, t, r, w
                              in zip(mine, twin, right, wrong, strict=True) if w or not numbers)


def is_blank(out, f: Callable) -> bool:
    """Nothing written yet: `...`, pass, `a = ...`, NotImplementedError, or a bare `return ...`."""
    if out is None:
        idle = {"NOP", "RESUME", "LOAD_CONST", "STORE_FAST", "RETURN_CONST", "RETURN_VALUE"}
        return {i.opname for i in dis.get_instructions(f)} <= idle
    return (out is ... or isinstance(out, NotImplementedError)
            or (isinstance(out, TypeError) and "ellipsis" in str(out)))


def changed(given: list[tuple], untouched: list[tuple]) -> bool:
    """True if a tensor among the arguments is no longer what it was."""
    return any(torch.is_tensor(a) and not torch.equal(a, b)
               for case in zip(given, untouched, strict=True) for a, b in zip(*case, strict=True))


def stumble(error: Exception, f: Callable) -> str:
    """An exception in the learner's function, as a sentence with the line that raised it."""
    file = getattr(getattr(f, "__code__", None), "co_filename", None)
    lines = [s.line for s in traceback.extract_tb(error.__traceback__) if s.filename == file]
    message = (str(error).splitlines() or [""])[0].rstrip(".")
    where = f", at the line `{lines[-1]}`" if lines and lines[-1] else ""
    return f"it stops with {type(error).__name__}: {message}{where}."


def difference(mine: tuple, right: tuple) -> str:
    """The general diagnosis: what came out, and what was expected."""
    if len(mine) != len(right):
        return f"it returns {len(mine)} tensors, expected {len(right)}."
    i = next(i for i, (m, r) in enumerate(zip(mine, right, strict=True)) if not same((m,), (r,)))
    m, r = mine[i].double(), right[i].double()
    which = f"result number {i + 1}" if len(mine) > 1 else "the result"
    if m.shape != r.shape:
        return f"{which} has the shape {tuple(m.shape)}, expected {tuple(r.shape)}."
    if not m.isfinite().all():
        return f"{which} holds NaN or infinite numbers: what is divided by zero, or overflows?"
    at = (m - r).abs().argmax()
    return (f"the shape is right, the numbers are not: on a test input {which} holds "
            f"{m.flatten()[at]:.3g} where {r.flatten()[at]:.3g} is expected.")


def say(text: str) -> None:
    """Print one paragraph, at most 100 characters wide."""
    print(textwrap.fill(text, 100, subsequent_indent="  ", break_long_words=False,
                        break_on_hyphens=False))
