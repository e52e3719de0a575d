"""The exercises name the mistake that was made, accept unusual answers, and never get in the way."""
import time

import pytest
import torch
from answers import RIGHT, WRONG

from course_lib.denoiser import Denoiser, Pred, predict_v
from course_lib.exercises import catalogue, exercise, find, hint, normal, outcome
from course_lib.samplers import State, ddim, ddpm, dpmpp_2m
from course_lib.schedules import DDPM, Cosine

NAMES = [
    "forward.alpha_bar", "forward.q_sample", "forward.forward_chain", "forward.cosine_abar",
    "predictor.ddpm_loss", "predictor.convert", "predictor.time_features",
    "predictor.exact_denoiser", "sampling.ddpm_step", "sampling.ddim_step", "sampling.timesteps",
    "sampling.dpmpp_2m_step", "latents.make_pair", "latents.damage", "latents.kl_std_normal",
    "latents.reparam", "latents.straight_through", "latents.latent_scale",
    "conditioning.pad_mask", "conditioning.cross_attention", "conditioning.drop_captions", "conditioning.cfg",
    "scores.gaussian", "scores.frechet", "scores.kl_gauss", "scores.kid", "scores.clip_loss",
    "scores.recall_at_k",
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
    assert exercise(name)(f) is f
    assert text_of(capsys).startswith(f"✓ {name}: ")


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
    with pytest.raises(ValueError, match="hints 1 to 3"):
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
        exercise("forward.q_sample")(lambda x0, t, eps, abar: torch.randn_like(x0))
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1
    assert max(map(len, texts.pop().splitlines())) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_cases_are_fresh_and_the_same_each_time(name):
    ex = find(name)
    first, second = ([outcome(ex.reference, args) for args in ex.cases()] for _ in range(2))
    assert all(torch.equal(p, q) for a, b in zip(first, second, strict=True)
               for p, q in zip(a, b, strict=True))


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
    close(ref["timesteps"](50, 7), schedule.grid(7))
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
