"""How long `emoji(size)` takes in a fresh process, imports not counted, in seconds.

    python benchmarks/data.py

The median of several fresh processes; the goal is at most 1 s. The second call in the same
process finds the decoded pictures in memory.
"""
import statistics
import subprocess
import sys

RUNS = 5
CODE = """
import sys, time
from course_lib.data import emoji
times = []
for _ in range(2):
    start = time.perf_counter()
    e = emoji(int(sys.argv[1]), split="all")
    times.append(time.perf_counter() - start)
if sys.platform == "win32":
    import psutil
    peak = psutil.Process().memory_info().peak_wset / 2**30
else:
    import resource
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
print(*times, peak)
"""

for size in (64, 32, 16):
    runs = [[float(v) for v in subprocess.run([sys.executable, "-c", CODE, str(size)], check=True,
                                              capture_output=True, text=True).stdout.split()]
            for _ in range(RUNS)]
    first, again, peak = (statistics.median(column) for column in zip(*runs, strict=True))
    print(f"emoji({size}): {first:.2f} s in a fresh process (worst {max(r[0] for r in runs):.2f} s), "
          f"{again:.2f} s again, peak memory {peak:.2f} GB")
