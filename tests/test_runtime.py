"""What depends on the machine: device, seed, budget, threads, and a terminal without our letters."""
import importlib
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from course_lib import denoiser, runtime, samplers
from course_lib.nets import autoencoder

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def machine(monkeypatch):
    """A stand-in for the machine; call it -> the threads that were chosen, and what was said."""
    before = torch.get_num_threads()

    def choose(capsys, cores=4, load=0.0, quota=math.inf, most=4):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        for name, value in (("_cores", cores), ("_load", load), ("_quota", quota), ("_torchs_threads", most)):
            monkeypatch.setattr(runtime, name, lambda value=value: value)
        n = runtime.threads()
        assert torch.get_num_threads() == n
        return n, capsys.readouterr().err
    yield choose
    torch.set_num_threads(before)


def test_as_many_as_torch_where_enough_cores_are_idle(machine, capsys):
    assert machine(capsys) == (4, "")
    assert machine(capsys, load=0.4) == (4, "")
    assert machine(capsys, cores=8, load=3.9) == (4, ""), "8 logical cores, 4 of them busy, are enough for 4"


def test_fewer_beside_busy_cores_and_it_says_so(machine, capsys):
    n, said = machine(capsys, cores=2, load=1.0, most=2)
    assert n == 1
    assert said == "1 of 2 cores is busy: computing with 1 thread; threads(2) overrules\n"
    n, said = machine(capsys, load=2.2)
    assert n == 2 and "2 of 4 cores are busy: computing with 2 threads; threads(4)" in said
    assert machine(capsys, load=9.0)[0] == 1, "never none"
    assert machine(capsys, cores=1, load=1.0, most=1) == (1, ""), "never a word where there is no choice"


def test_a_container_with_a_quota(machine, capsys):
    n, said = machine(capsys, cores=64, load=30.0, quota=2, most=32)
    assert n == 2 and said.startswith("this container may use 2 of 64 cores: ")


def test_the_learner_overrules(machine, capsys, monkeypatch):
    assert machine(capsys, load=3.0)[0] == 1
    assert runtime.threads(2) == 2 == torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert runtime.threads() == 4, "a number that was set outside stands"
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="needs a whole number n >= 1, given 0"):
        runtime.threads(0)


def test_a_burst_does_not_count(monkeypatch):
    psutil = pytest.importorskip("psutil")
    looks = iter([[100.0, 90.0], [5.0, 100.0], [0.0, 100.0]])
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: next(looks))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert runtime._load() == pytest.approx(1.0)
    looks = iter([[100.0, 10.0]] * 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1}, raising=False)
    assert runtime._load() == pytest.approx(0.1), "cores that are not ours do not count"


def test_without_psutil_the_load_average(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)  # import psutil raises ImportError
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 0.0, 0.0), raising=False)
    assert runtime._load() == 1.5
    monkeypatch.delattr(os, "getloadavg")
    assert runtime._load() == 0, "Windows: torch's number stays"


@pytest.mark.parametrize(("files", "quota"), [
    ({"cpu.max": "150000 100000\n"}, 2), ({"cpu.max": "max 100000\n"}, math.inf), ({}, math.inf),
    ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf)])
def test_the_quota_of_a_container(tmp_path, monkeypatch, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    monkeypatch.setattr(runtime, "CGROUP", tmp_path)
    assert runtime._quota() == quota


def test_it_really_measures():
    """No stand-in: a number between 1 and torch's, set, in under two seconds."""
    code = ("import time, torch; from course_lib.runtime import threads; most = torch.get_num_threads();"
            "start = time.perf_counter(); n = threads(); took = time.perf_counter() - start;"
            "assert 1 <= n <= most and n == torch.get_num_threads() and took < 2, (n, most, took)")
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=ROOT)


def test_show_where_the_terminal_lacks_our_letters():
    """Windows: a pipe or a file takes the letters of one country only."""
    code = "from course_lib import guidance, runtime; runtime.show(guidance.interval)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         env={**os.environ, "PYTHONIOENCODING": "ascii"}, cwd=ROOT)
    assert "Kynk??nniemi" in out.stdout


def test_stored_outputs_say_nothing_about_threads(monkeypatch, machine, capsys):
    """`make notebooks` on a busy machine must not store that it was busy; other warnings stay."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import refresh

    stream = lambda text: nbformat.v4.new_output("stream", name="stderr", text=text)
    outputs = [stream(machine(capsys, load=2.0)[1]), stream("UserWarning: look\n")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("threads()", outputs=outputs)])
    refresh.clean(notebook)
    assert [out.text for out in notebook.cells[0].outputs] == ["UserWarning: look\n"]


# ---- device, seed, budget, sources -------------------------------------------------------------------

@pytest.mark.parametrize(("kind", "steps"), [("cuda", 7000), ("cpu", 30), ("mps", 30)])
def test_a_gpu_affords_the_gpus_budget_and_everything_else_the_cpus(monkeypatch, kind, steps):
    monkeypatch.setattr(runtime, "device", lambda: torch.device(kind))
    assert runtime.budget(30, 7000) == runtime.budget(cpu=30, gpu=7000) == steps


@pytest.mark.parametrize(("cuda", "mps", "kind"), [
    (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_fastest_device_is_taken(monkeypatch, cuda, mps, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert runtime.device().type == kind


def test_the_seed_is_everybodys():
    def drawn():
        runtime.seed(7)
        return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002
    assert drawn() == drawn()
    other = (random.random(), np.random.rand(), torch.rand(()).item())  # noqa: NPY002
    assert all(a != b for a, b in zip(drawn(), other, strict=True))


@pytest.mark.parametrize(("thing", "line"), [
    (samplers.ddim, "def ddim("), (denoiser.Denoiser, "class Denoiser(nn.Module):"),
    (denoiser.predict_v, "def predict_v("), (denoiser.Denoiser.loss, "def loss(self"),
    (samplers.sample, "def sample("), (samplers, "class State(NamedTuple):")])
def test_the_source_of_everything_can_be_shown(capsys, thing, line):
    runtime.show(thing)
    said = capsys.readouterr().out
    assert said.startswith("# course_lib.") and line in said


def test_what_is_shown_is_without_the_lines_that_teach_nothing(capsys):
    runtime.show(autoencoder.VQAutoencoder.quantize)
    runtime.show(autoencoder.VQAutoencoder)
    said = capsys.readouterr().out
    assert "checks.typed" not in said and "checks.pictures" in said
    assert said.splitlines()[1].startswith("def quantize(self, z: Tensor)")


def test_the_benchmark_of_threads_runs(monkeypatch, capsys):
    monkeypatch.setattr(runtime, "_torchs_threads", lambda: 2)  # also where OMP_NUM_THREADS says 1
    before = torch.get_num_threads()
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    benchmark = importlib.import_module("threads")
    monkeypatch.setattr(benchmark, "ROUNDS", 1)
    monkeypatch.setattr(benchmark, "STEPS", 1)
    try:
        benchmark.main()
    finally:
        torch.set_num_threads(before)
    idle, busy = capsys.readouterr().out.splitlines()
    assert idle.startswith("0 busy") and busy.startswith("1 busy") and "ratio" in busy


def test_a_stored_picture_gets_256_colours_only_where_nobody_sees_it(monkeypatch):
    """A smooth ramp of many colours does and stays near, coloured noise stays as it is; twice is once."""
    import base64
    import io

    import numpy as np
    from PIL import Image

    monkeypatch.syspath_prepend(ROOT / "tools")
    import refresh

    def read(png):
        return Image.open(io.BytesIO(base64.b64decode(png)))

    def stored(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels.astype("uint8")).save(file, "png")
        return base64.b64encode(file.getvalue()).decode()
    ramp = np.linspace([0, 40, 80], [250, 90, 200], 1000)[None].repeat(20, 0)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    small, exact = refresh.squeeze(stored(ramp)), refresh.squeeze(stored(noise))
    assert read(small).mode == "P" and np.abs(np.asarray(read(small).convert("RGB")) - ramp).mean() < 2
    assert np.array_equal(np.asarray(read(exact)), noise)
    assert refresh.squeeze(small) == small
