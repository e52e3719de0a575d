"""An exercise: a task, its solution, and how an answer to it is judged."""
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, permutations
from numbers import Number
from typing import Any

import torch
from torch import Tensor

from .compare import changed, difference, fits, half_done, is_blank, resembles, same, stumble
from .reading import Unusable, outcome, reading, usable

BLANK = "not attempted"


@dataclass(frozen=True)
class Exercise:
    """One task.

    reference: the solution. works: what now works, said when an answer is right.
    hints: two or three, the last almost gives the line.
    cases: makes fresh arguments, one tuple per call; never random.
    parts: the names of the results, where the solution returns a tuple.
    mistakes: rows (twin, ..., diagnosis). A twin takes the same arguments as the reference; where
        it returns a tuple, `...` in it stands for "anything".
    limits: rows (holds, diagnosis). `holds(f)` is true if the function f keeps the rule.
    also: other right answers that give other numbers.
    accepts: a last way to be right: `accepts(f)` is true for it.
    exact: compare with reference and `also`; if False, the limits alone decide.
    adapt: what is done to a learner's function before it is judged.
    """
    reference: Callable
    works: str
    hints: tuple[str, ...]
    cases: Callable[[], list[tuple]]
    parts: tuple[str, ...] = ()
    mistakes: tuple[tuple, ...] = ()
    limits: tuple[tuple[Callable[[Callable], Any], str], ...] = ()
    also: tuple[Callable, ...] = ()
    accepts: Callable[[Callable], Any] = lambda f: False
    exact: bool = True
    adapt: Callable[[Callable], Callable] = lambda f: f

    @property
    def name(self) -> str:
        """Such as "scores.kid", also where the file is scores_kid.py."""
        module = self.reference.__module__.rsplit(".", 1)[-1]
        return f"{module.split('_')[0]}.{self.reference.__name__}"

    @property
    def statement(self) -> str:
        """The task in words, to be shown in a notebook."""
        return inspect.getdoc(self.reference)

    def diagnose(self, f: Callable) -> str | None:
        """None if f is right, BLANK if nobody has tried yet, else what is wrong with it."""
        f = self.adapt(f)
        given, untouched = self.cases(), self.cases()
        mine = [self._outcome(f, args) for args in given]
        if any(is_blank(out, f) for out in mine):
            return BLANK
        if any(out is None for out in mine):
            return "it returns None. Is the `return` line missing?"
        if changed(given, untouched):
            return "it changes one of its inputs in place. Build a new tensor instead."
        for out in mine:
            if isinstance(out, Unusable) or half_done(out, f):
                return half_done(out, f) or str(out)
        open_ = self._open(mine)
        found = self._compare(f, [without(out, open_) for out in mine], open_)
        if not open_:
            return found
        todo = " and ".join(f"result {i + 1} of {len(self.parts)} ({self.parts[i]})" for i in open_)
        todo = f"{todo} {'is' if len(open_) == 1 else 'are'} not there yet"
        return f"{found} And {todo}." if found else f"{todo}; what is there is right."

    def usable(self, f: Callable) -> Callable:
        """f, right as it is, so that its result can be used wherever the reference's can."""
        single, double = (self._outcome(self.reference, args) for args in (
            self.cases()[0], tuple(map(doubled, self.cases()[0]))))
        return usable(f, [b.dtype if a.dtype == b.dtype else None
                          for a, b in zip(single, double, strict=True)])

    # ---- how the outcomes are compared ----

    def _outcome(self, f, args):
        return outcome(f, args, len(self.parts) or 1)

    def _outcomes(self, f, open_=()):
        return [without(self._outcome(f, args), open_) for args in self.cases()]

    def _open(self, mine):
        """The numbers of the results that are still `...`, if the learner returns as many as expected."""
        if not all(isinstance(out, tuple) and len(out) == len(self.parts) for out in mine):
            return ()
        return tuple(i for i in range(len(self.parts)) if any(out[i] is ... for out in mine))

    def _compare(self, f, mine, open_):
        right = self._outcomes(self.reference, open_)
        for *twins, diagnosis in self.mistakes:
            if any(resembles(mine, self._outcomes(twin, open_), right) for twin in twins):
                return diagnosis
        broken = self._broken_limit(f) if not open_ else None
        if broken:
            return broken
        for out in mine:
            if isinstance(out, Exception):
                return stumble(out, f)
        if not self.exact or any(all(map(same, mine, self._outcomes(g, open_)))
                                 for g in (self.reference, *self.also)):
            return None
        if not open_ and self._accepted(f):
            return None
        for order in permutations(range(len(self.parts) if not open_ else 0)):
            if resembles(mine, [tuple(out[k] for k in order) for out in right], right):
                return f"the results are in another order: return ({', '.join(self.parts)})."
        habit = self._habit(f, mine, right) if not open_ and all(map(fits, mine, right)) else None
        return habit or difference(mine, right, without(self.parts, open_))

    def _broken_limit(self, f):
        read = reading(f, len(self.parts) or 1)
        try:
            return next((diagnosis for holds, diagnosis in self.limits if not holds(read)), None)
        except Exception as error:  # the learner's code may stop on these inputs only
            return stumble(error, f)

    def _accepted(self, f):
        try:
            return self.accepts(reading(f, len(self.parts) or 1))
        except Exception:  # a wrong answer need not run on the inputs of this test
            return False

    def _habit(self, f, mine, right):
        """Slips that any exercise can meet: own random numbers, an input not used, two of them exchanged."""
        if not all(map(same, mine, self._outcomes(f))):
            return ("with the same inputs it gives another result at every call. Use the numbers that are "
                    "given, and draw none of your own.")
        names = list(inspect.signature(self.reference).parameters)
        for i, name in enumerate(names):
            other = self._with(lambda args, i=i: [scaled(v) if k == i else v for k, v in enumerate(args)])
            if all(map(same, mine, other(f))) and not all(map(same, right, other(self.reference))):
                return f"{name} is not used: the result stays the same when {name} changes."
        for i, j in combinations(range(len(names)), 2):
            other = self._with(lambda args, i=i, j=j: exchanged(args, i, j))
            if any(resembles(mine, other(g), right) for g in (self.reference, *self.also)):
                return f"{names[i]} and {names[j]} are exchanged."
        return None

    def _with(self, change):
        """Outcomes of a function for changed inputs."""
        return lambda f: [self._outcome(f, tuple(change(args))) for args in self.cases()]


def problem(**judged_by) -> Callable[[Callable], Exercise]:
    """Turn a reference solution into an Exercise; the keywords are the fields of Exercise."""
    return lambda reference: Exercise(reference=reference, **judged_by)


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers that are the same at every call, and that no learner's seed will give."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(271_828_182 + seed))


def without(out, left_out: tuple[int, ...]):
    """A tuple without some of its entries; anything else as it is."""
    return tuple(p for i, p in enumerate(out) if i not in left_out) if isinstance(out, tuple) else out


def scaled(v):
    """A little less of a number or of a tensor of floats; anything else as it is."""
    floats = torch.is_tensor(v) and v.is_floating_point()
    return 0.9 * v if floats or (isinstance(v, Number) and not isinstance(v, int)) else v


def doubled(v):
    """A tensor of floats in float64; anything else as it is."""
    return v.double() if torch.is_tensor(v) and v.is_floating_point() else v


def exchanged(args: tuple, i: int, j: int) -> list:
    """The arguments with two of them exchanged."""
    args = list(args)
    if max(i, j) < len(args):
        args[i], args[j] = args[j], args[i]
    return args
