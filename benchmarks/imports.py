"""How long `import course_lib.samplers` takes beyond `import torch`, in seconds.

    python benchmarks/imports.py

The median of several fresh processes; the goal is at most 0.3 s.
"""
import statistics
import subprocess
import sys

RUNS = 9
CODE = """
import time, torch
start = time.perf_counter()
import course_lib.samplers
print(time.perf_counter() - start)
"""

times = [float(subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True,
                              check=True).stdout) for _ in range(RUNS)]
print(f"import course_lib.samplers: {statistics.median(times):.3f} s beyond import torch "
      f"(median of {RUNS}, worst {max(times):.3f} s)")
