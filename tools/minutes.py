"""How long a lesson takes, by one rule for all (CONTRIBUTING.md states it).

    python tools/minutes.py         # the figures of every lesson and lab
    python tools/minutes.py 01      # of those whose name contains 01

read: 150 words a minute, a minute for each figure, three quarters of a minute for each displayed formula.
run:  ten seconds for each visible line of code, and three minutes for the machine.
do:   ten minutes for each exercise, one for each guess.
"""
import re
import statistics
import sys
from typing import NamedTuple

import nbformat
from stamp import ROOT, notebooks


class Figures(NamedTuple):
    """What a lesson consists of."""
    cells: int
    words: int
    formulas: int
    figures: int
    visible: list[int]  # lines of each code cell that is not folded
    folded: list[int]  # and of each that is
    widest: int  # characters of the longest line of code
    exercises: int
    guesses: int

    @property
    def read(self) -> float:
        """Minutes to read."""
        return self.words / 150 + self.figures + 0.75 * self.formulas

    @property
    def run(self) -> float:
        """Minutes to read the code, and to run it."""
        return sum(self.visible) / 6 + 3

    @property
    def do(self) -> float:
        """Minutes for the exercises."""
        return 10 * self.exercises + self.guesses

    def line(self) -> str:
        """The line at the top of the lesson, to the next five minutes."""
        read, run, do = (5 * round(x / 5) for x in (self.read, self.run, self.do))
        return f"Time: about {read + run + do} minutes: {read} to read, {run} to run, {do} to do."


def figures(path) -> Figures:
    """Count what is in a stored notebook. Notes for lecturers do not count, nor does the bootstrap cell."""
    cells = nbformat.read(path, as_version=4).cells
    tags = lambda cell: cell.metadata.get("tags", [])
    text = "\n".join(c.source for c in cells if c.cell_type == "markdown"
                     and c.metadata.get("slideshow", {}).get("slide_type") != "notes")
    code = [c for c in cells if c.cell_type == "code" and "bootstrap" not in tags(c)]
    lines = lambda cell: len(cell.source.splitlines())
    return Figures(
        cells=len(cells),
        words=len(re.sub(r"\$\$.*?\$\$", " ", text, flags=re.S).split()),
        formulas=len(re.findall(r"\$\$.*?\$\$", text, flags=re.S)),
        figures=sum("image/png" in out.get("data", {}) for c in code for out in c.outputs),
        visible=[lines(c) for c in code if "hide-input" not in tags(c)],
        folded=[lines(c) for c in code if "hide-input" in tags(c)],
        widest=max(len(line) for c in code for line in c.source.splitlines()),
        exercises=sum("exercise" in tags(c) for c in code),
        guesses=sum(bool(re.search(r"^guess\w* *=", c.source, re.M)) for c in code))


if __name__ == "__main__":
    for path in notebooks():
        if path.parent.name != "solutions" and all(part in path.name for part in sys.argv[1:]):
            f = figures(path)
            print(f"{path.relative_to(ROOT / 'notebooks')}: {f.cells} cells, {f.words} words, "
                  f"{f.formulas} formulas, {f.figures} figures; {sum(f.visible)} visible lines of code, "
                  f"median {statistics.median(f.visible):.0f}, at most {max(f.visible)} a cell; "
                  f"{f.exercises} exercises, {f.guesses} guesses\n  {f.line()}")
