"""The exercises name the mistake that was made, accept unusual answers, and never get in the way."""
import inspect
import math
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from answers import RIGHT, WRONG
from torch.nn import functional as F

from course_lib import exercises
from course_lib.denoiser import Denoiser, Pred, predict_v
from course_lib.exercises import catalogue, exercise, find, hint, normal, outcome
from course_lib.guidance import Composed, augment, dynamic_threshold
from course_lib.samplers import State, ddim, ddpm, dpmpp_2m
from course_lib.schedules import DDPM, Cosine

NAMES = [
    "forward.alpha_bar", "forward.q_sample", "forward.forward_chain", "forward.cosine_abar",
    "forward.q_between", "forward.shifted_abar",
    "predictor.ddpm_loss", "predictor.convert", "predictor.time_features",
    "predictor.exact_denoiser", "predictor.last_noise", "predictor.bound_terms", "own.distances",
    "own.copying_score", "sampling.ddpm_step", "sampling.ddim_step", "sampling.timesteps",
    "sampling.dpmpp_2m_step", "latents.make_pair", "latents.damage", "latents.kl_std_normal",
    "latents.reparam", "latents.straight_through", "latents.latent_scale",
    "conditioning.pad_mask", "conditioning.cross_attention", "conditioning.drop_captions", "conditioning.cfg",
    "scores.gaussian", "scores.frechet", "scores.kl_gauss", "scores.kid", "scores.clip_loss",
    "scores.recall_at_k", "tokens.joint_sequence", "tokens.sample_token", "tokens.quantise",
    "embeddings.best_of_k", "embeddings.text_plus_gap",
    "imagen.dynamic_threshold", "imagen.enlarger_loss", "imagen.cascade",
    "scoreboard.fair_score", "scoreboard.paired_ci",
]


def text_of(capsys):
    """What was printed, on one line."""
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("name", "phrase", "f"), WRONG, ids=[f.__name__ for *_, f in WRONG])
def test_wrong_answer_gets_its_diagnosis(name, phrase, f, capsys):
    assert exercise(name)(f) is find(name).reference
    said = text_of(capsys)
    assert said.startswith(f"✗ {name}: ") and phrase in said, said
    assert said.endswith("the reference is used.)")


@pytest.mark.parametrize(("name", "f"), RIGHT, ids=[f.__name__ for _, f in RIGHT])
def test_unusual_right_answer_passes(name, f, capsys):
    assert inspect.unwrap(exercise(name)(f)) is inspect.unwrap(f)
    assert text_of(capsys).startswith(f"✓ {name}: ")


def args_of(name, change):
    """Fresh test inputs of an exercise, each tensor of floats changed."""
    return [tuple(change(v) if torch.is_tensor(v) and v.is_floating_point() else v for v in args)
            for args in find(name).cases()]


def form(result):
    """What the next cell counts on: a tensor or a tuple of tensors, their shapes, types and devices."""
    if isinstance(result, tuple):
        return tuple(form(p) for p in result)
    return type(result), result.shape, result.dtype, result.device


@pytest.mark.parametrize(("name", "f"), RIGHT, ids=[f.__name__ for _, f in RIGHT])
@pytest.mark.parametrize("change", [torch.clone, torch.Tensor.double], ids=["float32", "float64"])
def test_a_right_answer_can_be_used_like_the_reference(name, f, change):
    mine = exercise(name)(f)
    for args, again in zip(args_of(name, change), args_of(name, change), strict=True):
        assert form(mine(*args)) == form(find(name).reference(*again))


@pytest.mark.parametrize(("name", "f"), RIGHT, ids=[f.__name__ for _, f in RIGHT])
def test_a_right_answer_may_compute_in_float32(name, f, capsys):
    single = lambda v: v.float() if torch.is_tensor(v) and v.is_floating_point() else v
    exercise(name)(lambda *args: f(*map(single, args)))
    assert text_of(capsys).startswith(f"✓ {name}: ")


def test_a_usable_result_has_the_device_of_the_inputs_and_keeps_its_gradient():
    on_cpu = exercise("forward.alpha_bar")(lambda betas: torch.cumprod(
        1 - (torch.zeros(3) if betas.is_meta else betas), 0))
    assert on_cpu(torch.zeros(3, device="meta")).is_meta
    betas = torch.tensor([0.1, 0.2], requires_grad=True)
    mine = exercise("forward.alpha_bar")(lambda betas: torch.cumprod(1 - betas.double(), 0))
    mine(betas).sum().backward()
    assert betas.grad is not None and mine(betas=betas).dtype == torch.float32


def test_the_cells_that_use_the_answers():
    """What notebooks 01, 02, 05 and 06 do with them, for answers of unusual types."""
    alpha_bar = exercise("forward.alpha_bar")(lambda betas: np.cumprod(1 - betas.numpy()).tolist())
    assert torch.cat([torch.ones(1), alpha_bar(torch.linspace(0.001, 0.2, 50)).float()]).shape == (51,)
    assert alpha_bar(torch.linspace(1e-4, 0.02, 9, dtype=torch.float64))[-1].dtype == torch.float64
    chain = exercise("forward.forward_chain")(next(f for _, f in RIGHT if f.__name__ == "chain_list"))
    path = chain(torch.zeros(1, 3, 8, 8), torch.full((50,), 0.1), torch.Generator().manual_seed(0))
    assert path[::5, 0].float().shape == (11, 3, 8, 8)
    denoiser = exercise("predictor.exact_denoiser")(next(f for _, f in RIGHT if f.__name__ == "den_float64"))
    x, abar = torch.randn(5, 4), DDPM(10).abar
    assert torch.allclose(denoiser(x, x, abar[3].sqrt(), (1 - abar[3]).sqrt()), torch.zeros(5, 4), atol=9)
    cfg = exercise("conditioning.cfg")(next(f for _, f in RIGHT if f.__name__ == "cfg_numpy"))
    torch.nn.Linear(4, 2)(cfg(x, x, 2.5))
    gaussian = exercise("scores.gaussian")(next(f for _, f in RIGHT if f.__name__ == "gaussian_two_arrays"))
    assert find("scores.frechet").reference(*gaussian(x), *gaussian(x)) < 1e-3
    mask = exercise("conditioning.pad_mask")(next(f for _, f in RIGHT if f.__name__ == "pad_mask_additive"))
    assert mask(torch.tensor([0, 2]), 3).tolist() == [[True, False, False], [True, True, False]]


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_written_out(name):
    """No call of a helper of its own module: who looks at the reference sees the solution."""
    code = inspect.unwrap(find(name).reference).__code__
    called = {n for n in code.co_names if n.startswith("_") or isinstance(
        find(name).reference.__globals__.get(n), type(find(name)))}
    assert not called


@pytest.mark.parametrize("name", NAMES)
def test_exercise_is_complete_and_quick(name):
    ex = find(name)
    start = time.perf_counter()
    assert all(ex.diagnose(g) is None for g in (ex.reference, *ex.also))
    assert time.perf_counter() - start < 1
    assert 2 <= len(ex.hints) <= 3 and "Returns" in ex.statement
    assert sum(n == name for n, *_ in WRONG) >= 4 and sum(n == name for n, _ in RIGHT) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_every_twin_gets_its_own_diagnosis(name):
    ex = find(name)

    def whole(twin):  # a twin may leave parts of a tuple open: fill them with the right ones
        def f(*args):
            out = twin(*args)
            if not isinstance(out, tuple):
                return out
            return tuple(r if p is ... else p
                         for p, r in zip(out, ex.reference(*args), strict=True))
        return f

    for *twins, diagnosis in ex.mistakes:
        for twin in twins:
            assert ex.diagnose(whole(twin)) == diagnosis


@pytest.mark.parametrize("name", NAMES)
def test_every_diagnosis_is_reached_by_some_answer(name):
    texts = [row[-1] for row in (*find(name).mistakes, *find(name).limits)]
    assert [t for t in texts if not any(n == name and phrase in t for n, phrase, _ in WRONG)] == []


def test_diagnoses_have_no_double():
    for ex in catalogue().values():
        texts = [row[-1] for row in (*ex.mistakes, *ex.limits)]
        assert len(set(texts)) == len(texts)


# ---- the mechanism ----------------------------------------------------------------------------

def test_all_exercises_are_found():
    assert set(NAMES) <= set(catalogue())
    assert all(name == ex.name for name, ex in catalogue().items())


def dots(x0, t, eps, abar):
    """Only a docstring."""
    ...


def just_pass(x0, t, eps, abar):
    pass


def to_do(x0, t, eps, abar):
    raise NotImplementedError


def half(x0, t, eps, abar):
    a = ...
    s = ...
    return a * x0 + s * eps


def placeholders(x0, t, eps, abar):
    a = ...  # noqa: F841


def returns_dots(x0, t, eps, abar):
    return ...


@pytest.mark.parametrize("f", [dots, just_pass, to_do, half, placeholders, returns_dots])
def test_not_attempted_gets_the_first_hint(f, capsys):
    assert exercise("forward.q_sample")(f) is find("forward.q_sample").reference
    assert text_of(capsys).startswith("forward.q_sample: not attempted. Hint 1 of 3: x_t = a x_0")


def test_an_exception_is_told_with_its_line(capsys):
    @exercise("forward.q_sample")
    def q_sample(x0, t, eps, abar):
        where = t + len(abar)
        return abar[where] * x0
    said = text_of(capsys)
    assert "stops with IndexError: index 1501 is out of bounds" in said
    assert "at the line `return abar[where] * x0`" in said and "Traceback" not in said


def test_wrong_number_of_arguments_and_odd_results(capsys):
    exercise("forward.q_sample")(lambda x0, t: x0)
    assert "TypeError" in text_of(capsys)
    exercise("forward.q_sample")(lambda x0, t, eps, abar: {"x_t": x0})
    assert "stops with" in text_of(capsys)
    exercise("forward.alpha_bar")(lambda betas: (1 - betas).cumprod(0)[:, None])
    assert "has the shape (3, 1), expected (3,)" in text_of(capsys)
    exercise("forward.alpha_bar")(lambda betas: betas / 0)
    assert "NaN or infinite" in text_of(capsys)


def test_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r'no exercise "forward.qsample".*forward.q_sample'):
        exercise("forward.qsample")
    with pytest.raises(ValueError, match=r"no exercise"):
        hint("q_sample")


def test_hints_come_in_tiers(capsys):
    for n in (1, 2, 3):
        hint("forward.q_sample", n)
        assert text_of(capsys).startswith(f"Hint {n} of 3 for forward.q_sample: ")
    with pytest.raises(ValueError, match=r"in 1 \.\. 3; given 4"):
        hint("forward.q_sample", 4)


@pytest.mark.parametrize("name", NAMES)
def test_global_random_state_is_untouched(name):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    exercise(name)(lambda *args: torch.randn(2))  # wrong, and it draws
    exercise(name)(find(name).reference)
    assert torch.equal(torch.rand(3), expected)


def test_the_text_is_the_same_at_every_run(capsys):
    texts = set()
    for seed in range(3):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        exercise("forward.q_sample")(lambda x0, t, eps, abar: torch.randn_like(x0))
        exercise("forward.alpha_bar")(lambda betas: torch.ones(int(torch.randint(2, 999, ())), 1))
        exercise("forward.alpha_bar")(lambda betas: torch.ones(random.randint(2, 999), 1))
        exercise("forward.alpha_bar")(lambda betas: torch.ones(np.random.randint(2, 999), 1))  # noqa: NPY002
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1
    assert max(map(len, texts.pop().splitlines())) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_cases_are_fresh_and_the_same_each_time(name):
    ex = find(name)
    first, second = ([outcome(ex.reference, args) for args in ex.cases()] for _ in range(2))
    assert all(torch.equal(p, q) for a, b in zip(first, second, strict=True)
               for p, q in zip(a, b, strict=True))


# ---- Time, interrupts, and the state of the kernel ----------------------------------------------

def right_q(x0, t, eps, abar):
    a = abar[t].view(-1, 1, 1, 1)
    return a**0.5 * x0 + (1 - a)**0.5 * eps


def endless(x0, t, eps, abar):
    while True:
        pass


def endless_and_deaf(x0, t, eps, abar):
    for _ in range(3):
        try:
            endless(x0, t, eps, abar)
        except:  # noqa: E722
            continue
    endless(x0, t, eps, abar)


@pytest.mark.parametrize("f", [endless, endless_and_deaf])
@pytest.mark.parametrize("where", ["main thread", "other thread", "no signals"])
def test_an_endless_loop_ends(f, where, capsys, monkeypatch):
    given = []
    work = lambda: given.append(exercise("forward.q_sample", seconds=0.3)(f))
    if where == "no signals":
        monkeypatch.delattr(signal, "setitimer")
    if where == "other thread":
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(20)
    else:
        handler = signal.getsignal(signal.SIGALRM)
        work()
        assert signal.getsignal(signal.SIGALRM) is handler
    assert given == [find("forward.q_sample").reference]
    assert "takes longer than 0.3 seconds" in text_of(capsys)


@pytest.mark.parametrize("by", ["signal", "thread"])
def test_a_right_answer_may_wait_for_the_processor(by, capsys, monkeypatch):
    """The limit counts what the answer uses, so on a busy machine a right one is not called endless."""
    if by == "thread":
        monkeypatch.delattr(signal, "setitimer", raising=False)

    naps = [1.5]  # once

    def waits(*args):
        time.sleep(naps.pop() if naps else 0)
        return right_q(*args)
    assert exercise("forward.q_sample", seconds=1)(waits) is not find("forward.q_sample").reference
    assert "✓" in text_of(capsys)


def test_the_time_limit_comes_to_its_end():
    exercise("forward.q_sample", seconds=0.2)(right_q)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    time.sleep(0.5)  # no late exception


def test_an_outer_timer_goes_on():
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        exercise("forward.q_sample")(right_q)
        assert 50 < signal.setitimer(signal.ITIMER_REAL, 0)[0] <= 100
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent differently there")
def test_the_stop_button_binds_the_reference():
    script = textwrap.dedent("""
        import os, signal
        from course_lib.exercises import exercise, find
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background may ignore it
        @exercise("scores.kid")
        def kid(x, y):
            os.kill(os.getpid(), signal.SIGINT)
            while True: pass
        assert kid is find("scores.kid").reference
    """)
    root = Path(exercises.__file__).parents[2]
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", script], cwd=root, capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "it was interrupted" in done.stdout


class Odd(BaseException):
    """No Exception."""


ERRORS = [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), Odd("odd"), MemoryError(), StopIteration(),
          RecursionError("too deep"), AssertionError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("name", ["forward.q_sample", "forward.forward_chain", "latents.reparam"])
def test_no_exception_gets_out(error, name, capsys):
    def f(*args):
        raise error
    assert exercise(name)(f) is find(name).reference
    said = text_of(capsys)
    assert said.startswith("✗") and said.endswith("the reference is used.)")
    assert "interrupted" in said if isinstance(error, KeyboardInterrupt) else type(error).__name__ in said


def test_what_the_judge_did_not_think_of_does_not_stop_the_notebook(capsys):
    class Speechless(Exception):
        def __str__(self):
            raise ValueError

    def f(x0, t, eps, abar):
        raise Speechless
    assert exercise("forward.q_sample")(f) is find("forward.q_sample").reference
    assert "it cannot be judged" in text_of(capsys)


def test_exit_is_named(capsys):
    exercise("forward.q_sample")(lambda x0, t, eps, abar: sys.exit())
    assert "Leave out exit(), quit() and sys.exit()" in text_of(capsys)


def kernel():
    """Everything of the kernel that an answer might leave changed."""
    x = torch.arange(4.0)
    return {
        "dtype": torch.get_default_dtype(), "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(), "inference": torch.is_inference_mode_enabled(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark),
        "precision": torch.get_float32_matmul_precision(), "anomaly": torch.is_anomaly_enabled(),
        "numpy errors": np.geterr(), "recursion": sys.getrecursionlimit(), "folder": Path.cwd(),
        "torch random": torch.get_rng_state().tolist(), "random": random.getstate(),
        "numpy random": np.random.get_state()[1].tolist(),  # noqa: NPY002
        "functions": [torch.sqrt, torch.randn, torch.allclose, torch.Tensor.sqrt, torch.Tensor.__mul__,
                      F.softmax, math.sqrt, random.random, np.sqrt, torch.nn.Module.__call__, DDPM.__init__],
        "judge": [exercises.compare.same, exercises.task.same, exercises.Exercise.diagnose],
        "numbers": (torch.sqrt(x).tolist(), x.sqrt().tolist(), (x * x).tolist(), math.pi),
    }


KEPT = []


def turns_on_inference(*_):
    KEPT.append(torch.inference_mode())
    KEPT[-1].__enter__()


def patches(*_):
    nothing = lambda *args, **named: None
    for place, name in [(torch, "sqrt"), (torch, "randn"), (torch, "allclose"), (torch.Tensor, "sqrt"),
                        (torch.Tensor, "__mul__"), (F, "softmax"), (math, "sqrt"), (random, "random"),
                        (np, "sqrt"), (torch.nn.Module, "__call__"), (DDPM, "__init__")]:
        setattr(place, name, nothing)
    math.pi = 3


def cheats(*_):
    for place in (exercises, exercises.compare, exercises.task):
        for name in ("same", "close", "resembles", "changed", "is_blank", "len", "all"):
            setattr(place, name, lambda *args, **named: True)
    exercises.Exercise.diagnose = lambda self, f: None


SPOILS = {
    "dtype": lambda *_: torch.set_default_dtype(torch.float64),
    "device": lambda *_: torch.set_default_device("meta"),
    "grad": lambda *_: torch.set_grad_enabled(False),
    "inference": turns_on_inference,
    "threads": lambda *_: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic": lambda *_: torch.use_deterministic_algorithms(True, warn_only=True),
    "cudnn": lambda *_: setattr(torch.backends.cudnn, "benchmark", True),
    "precision": lambda *_: torch.set_float32_matmul_precision("medium"),
    "anomaly": lambda *_: torch.autograd.set_detect_anomaly(True),
    "numpy errors": lambda *_: np.seterr(all="raise"),
    "recursion": lambda *_: sys.setrecursionlimit(5000),
    "folder": lambda *_: __import__("os").chdir("/"),
    "random": lambda *_: (torch.manual_seed(1), random.seed(1), np.random.seed(1)),  # noqa: NPY002
    "functions": patches,
    "the judge": cheats,
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
@pytest.mark.parametrize("end", ["right", "wrong", "raises", "exits", "endless"])
def test_the_kernel_is_as_it_was_and_the_verdict_is_right(spoil, end, capsys):
    def f(x0, t, eps, abar):
        result = right_q(x0, t, eps, abar)
        spoil()
        if end == "raises":
            raise ValueError
        if end == "exits":
            sys.exit()
        if end == "endless":
            endless(x0, t, eps, abar)
        return result if end == "right" else x0 + 1
    before = kernel()
    exercise("forward.q_sample", seconds=0.3 if end == "endless" else 10)(f)
    after = kernel()
    assert [k for k in before if before[k] != after[k]] == []
    assert text_of(capsys).startswith("✓" if end == "right" else "✗")


@pytest.mark.parametrize("key", ["dtype", "device", "grad", "functions", "the judge"])
def test_a_spoilt_kernel_does_not_change_the_verdict_and_stays_as_it_is(key, capsys):
    state = exercises.sandbox.State()
    look = lambda: [torch.get_default_dtype(), torch.is_grad_enabled(), torch.sqrt, exercises.compare.same]
    try:
        SPOILS[key]()
        before = look()
        for name in ("forward.q_sample", "predictor.ddpm_loss", "scores.frechet"):
            for f, mark in ((find(name).reference, "✓"), (lambda *args: torch.ones(3), "✗")):
                exercise(name)(f)
                assert text_of(capsys).startswith(mark)
        assert before == look()
    finally:
        state.restore()


@pytest.mark.parametrize("key", ["inference", "grad", "dtype", "device", "functions"])
def test_what_an_answer_leaves_behind_does_not_spoil_its_own_verdict(key, capsys):
    def reparam(mu, logvar, eps):
        z = mu + (logvar / 2).exp() * eps
        SPOILS[key]()
        return z
    exercise("latents.reparam")(reparam)
    assert text_of(capsys).startswith("✓")


def test_inside_inference_mode(capsys):
    with torch.inference_mode():
        exercise("predictor.ddpm_loss")(next(f for _, f in RIGHT if f.__name__ == "loss_mean_of_means"))
        assert torch.is_inference_mode_enabled()
    assert text_of(capsys).startswith("✓")


def test_a_function_may_call_itself(capsys):
    def kid(x, y, depth=0):
        return kid(x, y, 1) if depth == 0 else find("scores.kid").reference(x, y)
    plain = kid

    @exercise("scores.kid")
    def again(x, y, depth=0):
        return again(x, y, 1) if depth == 0 else plain(x, y)
    assert text_of(capsys).startswith("✓")
    assert again(normal(5, 2), normal(5, 2, seed=1)).shape == ()
    assert "test_a_function_may_call_itself" in globals() and "again" not in globals()


def test_a_function_that_calls_itself_without_end_gets_a_diagnosis(capsys):
    """At the level of the module, as in a notebook: there its name is the answer itself."""
    space = {"exercise": exercise, "limit": sys.getrecursionlimit()}
    exec(textwrap.dedent("""
        @exercise("forward.q_sample")
        def q_sample(x0, t, eps, abar):
            return q_sample(x0, t, eps, abar)
    """), space)
    assert space["q_sample"] is find("forward.q_sample").reference
    said = text_of(capsys)
    assert said.startswith("✗") and "RecursionError" in said and "cannot be judged" not in said
    assert sys.getrecursionlimit() == space["limit"]


def test_a_terminal_without_check_marks(monkeypatch):
    import io
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    exercise("forward.q_sample")(right_q)
    out.flush()
    assert out.buffer.getvalue().startswith(b"Right: forward.q_sample")


@pytest.mark.parametrize(("result", "phrase"), [
    ("x_t", "it returns a str"), ({1, 2}, "it returns a set"), (object(), "it returns a object"),
    (map(abs, [1]), "it returns a map"), ([torch.ones(2), torch.ones(3)], "2 tensors of different shapes"),
    (torch.ones(4, 3, 4, 4, device="meta"), "on the device meta"), ([1, None], "not there yet"),
    (np.array(["a"]), "it returns a ndarray"), (torch.zeros(0), "has the shape (0,)"),
    (torch.eye(3).to_sparse(), "has the shape (3, 3)"), (2 + 3j, "has the shape ()"), (7, "has the shape ()"),
], ids=str)
def test_odd_results_get_a_sentence(result, phrase, capsys):
    exercise("forward.q_sample")(lambda x0, t, eps, abar: result)
    assert phrase in text_of(capsys)


# ---- the references are the library's own formulas ----------------------------------------------

def test_references_agree_with_the_library():
    schedule, x, noise = DDPM(50), normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    t, r = torch.tensor(30), torch.tensor(29)
    abar, ref = schedule.abar, {name.split(".")[1]: find(name).reference for name in NAMES}

    def close(a, b):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)

    def denoise(x_t, t):  # any fixed prediction of eps
        a, s = schedule.signal(t), schedule.noise(t)
        return Pred((x_t - s * torch.sin(x_t)) / a, torch.sin(x_t))

    def fresh():
        return torch.Generator().manual_seed(1)

    z, eps, start = torch.randn(x.shape, generator=fresh()), torch.sin(x), State(t, x)
    close(ref["alpha_bar"](schedule.beta[1:]), abar[1:])
    close(ref["q_sample"](x, torch.tensor([30, 2]), noise, abar),
          schedule.add_noise(x, torch.tensor([30, 2]), noise))
    close(ref["cosine_abar"](50)[:-1], Cosine(50).abar[:-1])  # the last step is clipped there
    close(ref["timesteps"](50, 7), schedule.times(7))
    close(ref["ddpm_step"](x, eps, 30, schedule.beta, abar, z),
          ddpm(generator=fresh())(denoise, schedule, start, r).x)
    for eta in (0.0, 0.5, 1.0):
        close(ref["ddim_step"](x, eps, abar[30], abar[12], eta, z),
              ddim(eta, generator=fresh())(denoise, schedule, start, torch.tensor(12)).x)
    with_memory = State(t, x, noise, torch.tensor(40))
    lam = [schedule.log_snr(torch.tensor(k)) for k in (40, 30, 12)]
    close(ref["dpmpp_2m_step"](x, denoise(x, t).x0, noise, *lam, abar[12].sqrt(),
                               (1 - abar[30]).sqrt(), (1 - abar[12]).sqrt()),
          dpmpp_2m()(denoise, schedule, with_memory, torch.tensor(12)).x)
    times = torch.tensor([30, 2])
    by_library = Denoiser(lambda x_t, t: torch.sin(x_t), schedule).loss(x, times, noise)
    close(ref["ddpm_loss"](lambda x_t, t: torch.sin(x_t), x, times, noise, abar.float()), by_library)
    x0, v, score = ref["convert"](x, eps, schedule.signal(t), schedule.noise(t))
    close(Denoiser(lambda x_t, t: v, schedule, predict_v)(x, t).x0, x0)
    close(score, -denoise(x, t).eps / schedule.noise(t))
    far = Composed(schedule, lambda x_t, t: Pred(3 * x_t, x_t))
    close(ref["dynamic_threshold"](3 * x, 0.9), dynamic_threshold(far, 0.9)(x, t).x0)
    small, level = x.clamp(-1, 1), torch.tensor([0.2, 0.6])
    torch.manual_seed(0)
    damaged = augment(small, level)
    torch.manual_seed(0)
    close(ref["enlarger_loss"](lambda x_0, low_res, aug_level: low_res, F.interpolate(small, scale_factor=4),
                               level, torch.randn_like(small)), damaged)
