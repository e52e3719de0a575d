"""The whole lineage from nothing: every network, in the order of what it needs, several side by side.

    python -m course_lib.recipes --all           # goes on where it stopped
    python -m course_lib.recipes --all --ship    # and put all of them into data/checkpoints at the end

A network learns from those that were trained before it under runs/, not from the shipped ones: so nothing
shipped is used or changed before the last of them is finished.
"""
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import torch

from .. import files
from .registry import RECIPES, RUNS, SHIPPED, Store, get

UNKNOWN = 30.0  # minutes: what a network is thought to take of which no card tells
LIVE = "faces",  # trained in a notebook, never shipped


class Runs(Store):
    """The finished runs under a folder, as a store: each in a folder of its own, with its card."""

    def cards(self) -> dict[str, dict]:
        """All cards by name; none of runs that have not ended."""
        return {path.parent.name: files.read_json(path, f"Delete the folder {path.parent}.")
                for path in sorted(self.folder.glob("*/card.json"))}

    known = cards

    def path(self, name: str) -> Path:
        """Its file of weights, verified by its hash."""
        return files.verified(self.folder / name / "weights.safetensors", self.card(name)["sha256"],
                              f"Delete the folder {self.folder / name}, and train it again.")


def lineage(names: Iterable[str] = ()) -> list[str]:
    """The names (default: all that are shipped) and all that they need, each after what it needs."""
    found: dict[str, None] = {}

    def add(name):
        for need in get(name).needs:
            add(need)
        found.setdefault(name)
    for name in names or [name for name in RECIPES if name not in LIVE]:
        add(name)
    return list(found)


def expected() -> dict[str, float]:
    """Minutes that each network is thought to take on one core: those of its shipped card."""
    cards = SHIPPED.known()
    return {name: cards[name]["minutes"] if name in cards else UNKNOWN for name in RECIPES}


def urgency(names: list[str], minutes: dict[str, float]) -> dict[str, float]:
    """Minutes until the last one that waits for it is done, if cores were plenty: who has most goes first."""
    total = dict.fromkeys(names, 0.0)
    for name in reversed(names):  # whoever needs it stands behind it
        total[name] += minutes[name]
        for need in get(name).needs:
            total[need] = max(total[need], total[name])
    return total


def train_all(names: Iterable[str] = (), jobs: int | None = None, precision: str = "fp32") -> list[str]:
    """Train a lineage under runs/, each network in a process of its own, `jobs` at a time (default: as many
    as torch computes with threads, or one on a GPU). Prints a line whenever something changes, and every
    minute. Returns the names. Raises RuntimeError where one fails; the others are then stopped, and nothing
    is lost."""
    names, minutes = lineage(names), expected()
    jobs = jobs or (1 if torch.cuda.is_available() else torch.get_num_threads())
    first = urgency(names, minutes)
    waiting = sorted(names, key=lambda name: -first[name])
    running: dict[str, subprocess.Popen] = {}
    done, said, began = [], 0.0, time.monotonic()
    try:
        while waiting or running:
            changed = False
            for name, process in list(running.items()):
                if process.poll() is not None:
                    if process.returncode:
                        raise RuntimeError(f"{name} failed: see {log(name)}")
                    done.append(name)
                    del running[name]
                    changed = True
            for name in [n for n in waiting if set(get(n).needs) <= set(done)][:jobs - len(running)]:
                running[name] = start(name, precision)
                waiting.remove(name)
                changed = True
            if changed or time.monotonic() - said > 60:
                said = time.monotonic()
                print(line(names, done, running, minutes, jobs, said - began), flush=True)
            time.sleep(0.2)
    finally:
        for process in running.values():
            process.terminate()
    return names


def log(name: str) -> Path:
    """Where the output of a training goes."""
    return RUNS / f"{name}.log"


def start(name: str, precision: str) -> subprocess.Popen:
    """Train one network in a process of its own, with one thread on a CPU."""
    RUNS.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "course_lib.recipes", name, "--from-runs", "--precision", precision]
    with open(log(name), "w", encoding="utf-8") as file:
        return subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})


def share(name: str) -> float:
    """How much of a running training is done, 0 .. 1, by the last word of its progress bar."""
    steps = re.findall(r"(\d+)/(\d+) \[", log(name).read_text("utf-8", "replace")[-400:])
    return int(steps[-1][0]) / int(steps[-1][1]) if steps else 0.0


def line(names, done, running, minutes, jobs, seconds) -> str:
    """What is done, what runs, and when all will be done, if this machine is as fast as it was so far."""
    shares = {name: share(name) for name in running}
    spent = sum(minutes[n] for n in done) + sum(minutes[n] * s for n, s in shares.items())
    left = sum(minutes[n] for n in names) - spent
    pace = seconds / 60 / spent if spent else 1 / jobs
    at = datetime.now() + timedelta(minutes=left * pace)
    now = ", ".join(f"{name} {100 * s:.0f} %" for name, s in shares.items()) or "nothing"
    return f"{len(done)} of {len(names)} networks done; running: {now}; all done about {at:%a %H:%M}"
