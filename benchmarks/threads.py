"""Steps per second of a live training beside idle and busy cores: torch's threads, one, and `threads()`.

    python benchmarks/threads.py        # a minute on two cores that nothing else uses

The medians of blocks of steps that take turns, so that the ratios hold also where the machine's own speed
changes. A busy core is a process that counts.
"""
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

from course_lib import recipes, runtime, train

ROUNDS, STEPS = 5, 10


def main() -> None:
    plan = recipes.get("faces")
    ticks = train.fit(plan.build(), plan.loss, plan.batches(), 10_000, lr=plan.lr, ema=plan.ema)
    if (most := runtime.threads(runtime._torchs_threads())) == 1:
        sys.exit("torch has one thread here (one core, or OMP_NUM_THREADS=1): there is nothing to compare")
    next(ticks)
    for busy in range(2):
        with ExitStack() as others:
            for _ in range(busy):
                other = others.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
                others.callback(other.kill)
            chosen = runtime.threads()
            speed = {n: [] for n in (most, 1)}
            for _ in range(ROUNDS):
                for n, speeds in speed.items():
                    runtime.threads(n)
                    next(ticks)
                    start = time.perf_counter()
                    for _ in range(STEPS):
                        next(ticks)
                    speeds.append(STEPS / (time.perf_counter() - start))
        all_, one = (statistics.median(speeds) for speeds in speed.values())
        print(f"{busy} busy: {all_:.1f} steps/s with {most} threads, {one:.1f} with 1 (ratio "
              f"{all_ / one:.2f}); threads() takes {chosen}", flush=True)


if __name__ == "__main__":
    main()
