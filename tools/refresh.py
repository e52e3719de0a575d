"""Run notebooks from top to bottom and store their outputs, without anything about the machine.

    python tools/refresh.py         # all of them (`make notebooks`)
    python tools/refresh.py 01      # those whose name contains 01 (`make notebooks NB=01`)
"""
import base64
import io
import os
import sys
import time

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image
from stamp import ROOT, notebooks, stamp

WIDGET = "application/vnd.jupyter.widget-view+json"
UNSEEN = 40.0  # mean squared error of pixels in 0 .. 255: 32 dB
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def refresh(path) -> float:
    """Execute one notebook in place; returns the seconds it took. Raises at the first error."""
    notebook = nbformat.read(path, as_version=4)
    stamp(notebook, path.relative_to(ROOT).as_posix())
    notebook.metadata.kernelspec = KERNEL
    start = time.time()
    client = NotebookClient(notebook, timeout=1800, kernel_name="python3", record_timing=False,
                            store_widget_state=False, coalesce_streams=True,
                            extra_arguments=["--log-level=ERROR"],
                            resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    clean(notebook)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(nbformat.writes(notebook) + "\n", "utf-8", newline="\n")
    os.replace(unfinished, path)
    return time.time() - start


def clean(notebook) -> None:
    """Keep what a reader needs: no widget state, no times, no Python version of this machine.

    A stored widget is an error message in JupyterLab and a dump of its fields elsewhere.
    """
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for cell in notebook.cells:
        keep = {k: v for k, v in cell.metadata.items() if k in ("tags", "slideshow", "jupyter", "cellView")}
        cell.metadata = nbformat.from_dict(keep)
        if "outputs" in cell:
            cell.outputs = [out for out in cell.outputs if not is_about_threads(out)]
        for out in cell.get("outputs", []):
            if out.get("data", {}).pop(WIDGET, None):
                out.data["text/plain"] = "A live widget: run this cell to use it."
            if "image/png" in out.get("data", {}):
                out.data["image/png"] = squeeze(out.data["image/png"])


def is_about_threads(out) -> bool:
    """The line of `runtime.threads` on a machine that is busy."""
    return out.get("name") == "stderr" and out.text.endswith("overrules\n") and out.text.count("\n") == 1


def squeeze(png: str) -> str:
    """The same picture in fewer bytes: with 256 colours where nobody sees it, else pixel for pixel."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode != "P":  # else it has been here before
        full = picture.convert("RGB")
        few = full.quantize(256, kmeans=1, dither=Image.Dither.NONE)
        error = np.asarray(full, float) - np.asarray(few.convert("RGB"), float)
        picture = few if (error**2).mean() < UNSEEN else picture
    packed = io.BytesIO()
    picture.save(packed, "png", optimize=True)
    return base64.b64encode(packed.getvalue()).decode() + "\n"


if __name__ == "__main__":
    wanted = [p for p in notebooks() if all(part in p.name for part in sys.argv[1:])]
    if not wanted:
        sys.exit(f"no notebook matches {' '.join(sys.argv[1:])!r}")
    for path in wanted:
        print(f"{path.relative_to(ROOT)} ...", end=" ", flush=True)
        print(f"{refresh(path):.0f} s")
