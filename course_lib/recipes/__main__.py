"""Train a network by its recipe.

    python -m course_lib.recipes faces32                 # from nothing; goes on where it stopped
    python -m course_lib.recipes faces32 --ship          # and put it into data/checkpoints when it has ended
    python -m course_lib.recipes sd64 --precision bf16   # faster where the processor has bfloat16
    python -m course_lib.recipes sd64 --fast             # on an NVIDIA GPU
    python -m course_lib.recipes ae64 sd64 --from-runs   # the second on the first, before either is shipped
    python -m course_lib.recipes --all                   # every network, in the order of what it needs
    accelerate launch -m course_lib.recipes sd64         # on several
    torchrun --nproc_per_node 2 -m course_lib.recipes faces32    # two processes on a CPU

It computes with one thread for each idle core; OMP_NUM_THREADS=2 before the command overrules that. It writes
to runs/NAME only. data/checkpoints changes by --ship alone, and only when the run has ended.
"""
import argparse
import sys

from ..runtime import threads
from .lineage import Runs, train_all
from .registry import RECIPES, RUNS, SHIPPED
from .training import bereft, run, ship


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, train, and ship if asked; a mistake ends with one sentence and no traceback."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.recipes", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="NAME", nargs="*", help=f"one or more of {', '.join(RECIPES)}")
    parser.add_argument("--all", action="store_true", help="all of them, several side by side")
    parser.add_argument("--from-runs", action="store_true", help="what it needs is taken from runs/")
    parser.add_argument("--steps", type=int, help="how many; default: the recipe's own")
    parser.add_argument("--from-shipped", action="store_true", help="start from the shipped weights")
    parser.add_argument("--stop-after", type=float, metavar="SECONDS", help="stop early, to go on later")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--fast", action="store_true", help="bfloat16 and a CUDA graph, on one GPU")
    parser.add_argument("--ship", action="store_true", help="put the finished networks into data/checkpoints")
    given = vars(parser.parse_args(arguments))
    names, every, shipping = given.pop("name"), given.pop("all"), given.pop("ship")
    if unknown := [name for name in names if name not in RECIPES]:
        parser.error(f"no recipe {', '.join(unknown)}; there are: {', '.join(RECIPES)}")
    if bool(names) == every:
        parser.error("give names of networks, or --all")
    together = given.pop("from_runs") or every
    given["store"] = Runs(RUNS) if together else SHIPPED
    threads()
    try:
        lost = {name: its for name, its in bereft(*names).items() if not together or name not in names}
        if shipping and lost:
            print("warning: " + ", ".join(f"{name} is built on the shipped {' and '.join(its)}"
                                          for name, its in lost.items())
                  + ". A changed one will not be shipped at the end; the training goes on.", file=sys.stderr)
        if every:
            names = train_all(precision=given["precision"])
        cards = {name: run(name, **given) for name in names}
        for name, card in cards.items():
            if card is None:
                print(f"{name} is not finished. The same command goes on.", file=sys.stderr)
            else:
                figures = ", ".join(f"{k} {v:g}" for k, v in card["metrics"].items())
                print(f"{name} is finished: {figures}. To train it anew, delete {RUNS / name}.")
        if shipping and None not in cards.values():
            ship(*names)
    except (ValueError, ArithmeticError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped. The same command goes on from the last minute.")


if __name__ == "__main__":
    main()
