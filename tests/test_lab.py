"""A real JupyterLab in a real browser: notebook 01 runs, its slider moves, and the picture follows."""
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import nbformat
import pytest

NOTEBOOK = Path(os.environ.get("LAB_NOTEBOOK", "notebooks/01_forward_process.ipynb"))
MINUTE = 60_000  # Playwright counts milliseconds
KERNEL = ".jp-Notebook-ExecutionIndicator"  # its data-status: idle, busy, connecting, ...
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HANDLE, TRACK = ":is(.noUi-handle, .ui-slider-handle)", ":is(.noUi-base, .ui-slider)"  # of ipywidgets 8, 7
# No sandbox: CI runs as root. The rest keeps Chromium from calling home.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]

# The bytes of all pictures in an output area, as text: a widget's picture is a blob with a new
# address after every change, so addresses say nothing.
PICTURES = """async area => {
    const bytes = async img => (await (await fetch(img.src)).blob()).text();
    return (await Promise.all([...area.querySelectorAll('img')].map(bytes))).join('|');
}"""


@pytest.fixture(scope="module")
def browser_path():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the PATH")
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    return found


@pytest.fixture(scope="module")
def lab(root, browser_path, tmp_path_factory):
    """A JupyterLab with settings of its own, on a copy of the notebook; yields its address, how many
    cells of code it has and how many of them are not folded, and the log."""
    folder = tmp_path_factory.mktemp("lab")
    work, config = folder / "work", folder / "config"
    notebook = nbformat.read(root / NOTEBOOK, as_version=4)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    for cell in code:
        cell.update(outputs=[], execution_count=None)
    work.mkdir()
    nbformat.write(notebook, work / "lesson.ipynb")
    (config / "labconfig").mkdir(parents=True)
    dialogue = "@jupyterlab/apputils-extension:announcements"
    (config / "labconfig" / "page_config.json").write_text(
        json.dumps({"disabledExtensions": {dialogue: True}}), "utf-8")
    settings = folder / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    # "none": every cell is in the page, also those that are scrolled out of view
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}', "utf-8")

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    env = {**os.environ, "JUPYTER_CONFIG_DIR": str(config), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
           "JUPYTER_DATA_DIR": str(folder / "data"), "IPYTHONDIR": str(folder / "ipython"),
           "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
           "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")}
    log = open(folder / "log", "w+", encoding="utf-8")  # noqa: SIM115 (closed below)
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
         f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}",
         f"--ServerApp.root_dir={work}"], env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(server, f"{address}/api?token={token}", folder / "log")
        shown = [c for c in code if not c.metadata.get("jupyter", {}).get("source_hidden")]
        yield f"{address}/lab/tree/lesson.ipynb?token={token}", len(code), len(shown), folder / "log"
    finally:
        server.terminate()  # the kernels end with it
        server.wait(30)
        log.close()


def wait_for(server, address, log, seconds=90):
    for _ in range(2 * seconds):
        try:
            return urllib.request.urlopen(address, timeout=5)
        except (urllib.error.URLError, OSError):
            if server.poll() is not None:
                break
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text('utf-8', 'replace')[-3000:]}")


@pytest.fixture
def page(lab, browser_path, tmp_path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        context = play.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=browser_path, headless=True, args=FLAGS,
            viewport={"width": 1300, "height": 1000})
        page = context.pages[0] if context.pages else context.new_page()
        page.set_default_timeout(MINUTE)
        yield page
        context.close()


def test_run_all_and_drag_the_slider(page, lab):
    address, cells, shown, log = lab
    page.goto(address)
    page.locator(".jp-Notebook .jp-CodeCell").nth(cells - 1).wait_for(state="attached")
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    start_all_cells(page, log)
    wait_for_run(page, shown)

    handle = page.locator(".jp-OutputArea").locator(HANDLE).first
    handle.scroll_into_view_if_needed()
    area = page.locator(".jp-Cell-outputArea", has=page.locator(HANDLE)).first.element_handle()
    before = area.evaluate(PICTURES)
    assert before, "there is no picture beside the slider"

    box = page.locator(".jp-OutputArea").locator(TRACK).first.bounding_box()
    start = handle.bounding_box()
    page.mouse.move(start["x"] + start["width"] / 2, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], start["y"] + start["height"] / 2, steps=10)
    page.mouse.up()
    dragged = changed(area, before)
    assert dragged, "the slider was dragged, the picture stayed as it was"
    handle.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert changed(area, dragged), "the arrow keys moved the slider, the picture stayed as it was"


def start_all_cells(page, log, tries=6):
    """Run > Run All Cells, until a cell runs: before its kernel is ready, JupyterLab ignores the click."""
    from playwright.sync_api import Error

    seen = []
    for k in range(tries):
        try:
            for dialogue in page.locator(".jp-Dialog").all():
                seen.append(dialogue.inner_text())
                dialogue.locator(".jp-mod-accept").click()
            page.locator(KERNEL).and_(page.locator("[data-status=idle]")).wait_for(timeout=MINUTE)
            page.locator(".lm-MenuBar-item", has_text="Run").first.click(timeout=MINUTE / 4)
            page.locator(".lm-Menu-item", has_text="Run All Cells").first.click(timeout=MINUTE / 4)
            page.wait_for_function(
                """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
                         .some(p => /[*0-9]/.test(p.innerText))""", timeout=MINUTE / 3)
            return
        except Error as error:  # the next try finds what stood in the way
            seen.append(f"try {k}: {str(error).splitlines()[0]} {state(page)}")
            if k % 2:
                page.reload()
    pytest.fail("\n".join(["no cell could be started:", *seen, log.read_text("utf-8", "replace")[-3000:]]))


def state(page):
    """What the page says about its kernel."""
    return [x.get_attribute("data-status") for x in page.locator(KERNEL).all()], [
        x.inner_text() for x in page.locator(".jp-Toolbar-kernelName").all()]


def wait_for_run(page, cells, seconds=360):
    """Until every code cell that is not folded has a number: a folded one shows none. An error empties the
    queue: then none is running, [*]."""
    idle = 0
    for _ in range(seconds):
        prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
        numbered = sum(any(map(str.isdigit, p)) for p in prompts)
        if numbered == cells:
            return
        idle = idle + 1 if numbered and not any("*" in p for p in prompts) else 0
        if idle > 3:
            break
        time.sleep(1)
    outputs = page.locator(".jp-CodeCell .jp-RenderedText").all_inner_texts()
    pytest.fail(f"{numbered} of {cells} cells were run, prompts {prompts}, kernel {state(page)}; the last"
                f" output:\n{(outputs or [''])[-1]}")


def changed(area, before, seconds=60):
    """The pictures once they differ from `before` and stand still; None if they never do."""
    last = before
    for _ in range(2 * seconds):
        time.sleep(0.5)
        now = area.evaluate(PICTURES)
        if now == last != before:
            return now
        last = now
    return None
