"""Run every notebook in a fresh kernel and print its time and the peak memory of its kernel.

    python benchmarks/notebooks.py [notebooks/02_*.ipynb ...]

The goals are at most 3 minutes and 2 GB each. Nothing is written back. Exits with 1 where a
notebook fails or misses a goal.
"""
import sys
import threading
import time
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
MINUTES, GIGABYTES = 3, 2


def watch(process: psutil.Process, peak: list, done: threading.Event) -> None:
    """Note the largest memory of the kernel and its children, ten times a second."""
    while not done.wait(0.1):
        try:
            family = [process, *process.children(recursive=True)]
            peak[0] = max(peak[0], sum(p.memory_info().rss for p in family))
        except psutil.Error:  # a child, or the kernel itself, has just ended
            continue


def run(path: Path) -> tuple[float, float, str]:
    """Seconds, gigabytes and the error ("" if none) of one notebook."""
    client = NotebookClient(nbformat.read(path, as_version=4), timeout=None, kernel_name="python3",
                            resources={"metadata": {"path": str(path.parent)}})
    peak, done, error, start = [0], threading.Event(), "", time.perf_counter()
    with client.setup_kernel():
        kernel = psutil.Process(client.km.provisioner.process.pid)
        watcher = threading.Thread(target=watch, args=(kernel, peak, done))
        watcher.start()
        try:
            for index, cell in enumerate(client.nb.cells):
                client.execute_cell(cell, index)
        except CellExecutionError as caught:
            error = f"cell {index}: {caught.ename}: {caught.evalue}"
        seconds = time.perf_counter() - start
        done.set()
        watcher.join()
    return seconds, peak[0] / 2**30, error


def main() -> None:
    paths = [Path(p).resolve() for p in sys.argv[1:]] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    failed = False
    for path in paths:
        seconds, memory, error = run(path)
        slow, large = seconds > 60 * MINUTES, memory > GIGABYTES
        failed |= bool(error) or slow or large
        print(f"{path.name}: {seconds:.0f} s{' (too slow)' if slow else ''}, "
              f"{memory:.2f} GB{' (too large)' if large else ''} {error}", flush=True)
    if not paths:
        print("no notebooks found")
    sys.exit(failed)


if __name__ == "__main__":
    main()
