"""Exercises that answer: a learner's function is judged at once, and a known mistake is named.

    @exercise("forward.q_sample")
    def q_sample(x0, t, eps, abar):
        ...

prints one text (right, wrong with a diagnosis, or not attempted with a hint) and gives back the
learner's function if it is right, else the reference, so that every later cell still runs.

The exercise "forward.q_sample" is `q_sample` in forward.py (or forward_more.py): a reference solution whose
docstring is the task, under `@problem(...)`, which holds how an answer is judged. Adding one is adding a
block. An answer is compared, on fixed inputs, with wrong *twins*: functions that make a known mistake.

sandbox: how a function is run. reading: what its result is. compare: what differs. task: the exercise.
"""
import functools
import importlib
import pkgutil
import textwrap
from collections.abc import Callable

from .. import checks
from .reading import outcome
from .sandbox import TimeUp, guarded, judging, remember, within
from .task import BLANK, Exercise, normal, problem

__all__ = ["Exercise", "catalogue", "exercise", "find", "hint", "normal", "outcome", "problem", "say"]


@checks.typed
def exercise(name: str, seconds: float = 10) -> Callable[[Callable], Callable]:
    """Decorator: judge the learner's function, print the verdict, return it or the reference.

    A right function comes back with its result in the form of the reference's, so that every later cell can
    use it: tensors, of the same type. Judging takes at most so many seconds and leaves the kernel as it was.
    """
    ex = find(name)
    checks.number(seconds, 0, what="seconds")

    def check(f):
        given = ex.reference
        try:
            with judging(f):
                diagnosis = within(seconds, lambda: ex.diagnose(guarded(f)))
                given = ex.usable(f) if diagnosis is None else ex.reference
                text = verdict(ex, diagnosis)
        except KeyboardInterrupt:
            text = verdict(ex, "it was interrupted before it was done.")
        except TimeUp:
            text = verdict(ex, f"it takes longer than {seconds:g} seconds, on small inputs. Does a loop "
                               "never end? Look at what should change in each round of a `while`.")
        except Exception as error:  # whatever the judge did not think of must not stop the notebook
            text = verdict(ex, f"it cannot be judged: the judge stops with {type(error).__name__}.")
        say(text)
        return given
    return check


def verdict(ex: Exercise, diagnosis: str | None) -> str:
    """What is said about an answer with this diagnosis."""
    if diagnosis is None:
        return f"✓ {ex.name}: {ex.works}"
    if diagnosis is BLANK:
        return (f"{ex.name}: not attempted. Hint 1 of {len(ex.hints)}: {ex.hints[0]} "
                f'For more: hint("{ex.name}", 2)')
    return f"✗ {ex.name}: {diagnosis} (Until this is right, the reference is used.)"


@checks.typed
def hint(name: str, n: int = 1) -> None:
    """Print hint n = 1, 2, ... of an exercise; the last one almost gives the answer."""
    hints = find(name).hints
    checks.whole(n, 1, len(hints), f"n, the number of a hint for {name},")
    say(f"Hint {n} of {len(hints)} for {name}: {hints[n - 1]}")


@checks.typed
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
    remember()
    return {ex.name: ex for m in modules for ex in vars(m).values() if isinstance(ex, Exercise)}


def say(text: str) -> None:
    """Print one paragraph, at most 100 characters wide."""
    lines = textwrap.fill(text, 100, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    try:
        print(lines)
    except UnicodeEncodeError:  # a terminal that knows no check mark
        lines = lines.replace("✓", "Right:").replace("✗", "Wrong:")
        print(lines.encode("ascii", "replace").decode())
