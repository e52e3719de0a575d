"""Samplers: identities between them, fall-backs, orders of accuracy, and exact statistics."""
import math
import weakref
from itertools import pairwise

import pytest
import torch
from torch import nn

from course_lib import samplers
from course_lib.denoiser import Denoiser, Pred, predict_eps, predict_v, predict_x0
from course_lib.guidance import clip_x0
from course_lib.samplers import State, ddim, ddpm, dpmpp_2m, heun, sample
from course_lib.schedules import DDPM, EDM, Cosine, Flow, Schedule
from course_lib.toys import GaussianMixture


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=gen(seed), dtype=torch.float64)


def last(*args, **kwargs) -> torch.Tensor:
    *_, state = sample(*args, **kwargs)
    return state.x


def clean(y, q):
    """A fixed nonlinear 'network': the picture seen in y = x / signal at noise-to-signal q."""
    return torch.tanh(2 * y.roll(1, -1) / (1 + q) + 0.3)


def of(schedule):
    """`clean` as a denoiser of any schedule with signal > 0."""
    def denoise(x, t):
        s, n = schedule.signal(t), schedule.noise(t)
        x0 = clean(x / s, n / s)
        return Pred(x0, (x - s * x0) / n)
    return denoise


class On(Schedule):
    """A schedule with its own sampling times: On(schedule, times)."""

    def __init__(self, schedule, visited):
        self.schedule, self.visited = schedule, visited
        self.signal, self.noise = schedule.signal, schedule.noise

    def times(self, steps, device=None):
        assert steps == len(self.visited) - 1
        return self.visited


class Waves(Schedule):
    """signal^2 + noise^2 = 1 with t = -lambda, evenly spaced between finite ends."""

    def signal(self, t):
        return torch.sigmoid(-2 * t).sqrt()

    def noise(self, t):
        return torch.sigmoid(2 * t).sqrt()

    def times(self, steps, device=None):
        return torch.linspace(2.5, -2.5, steps + 1, dtype=torch.float64)


# ------------------------------------------------------------------ identities

@pytest.mark.parametrize("steps", [100, 17])
def test_ddim_with_eta_1_is_ddpm_with_the_posterior_variance(steps):
    d, x = DDPM(100), noise(3, 5)
    a = last(of(d), d, x, steps, ddim(eta=1, generator=gen(1)))
    b = last(of(d), d, x, steps, ddpm("posterior", generator=gen(1)))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ddpm_is_algorithm_2(variance):
    """x_{t-1} = (x_t - beta_t / sqrt(1 - abar_t) eps) / sqrt(alpha_t) + sigma_t z, z = 0 at t = 1."""
    d, x, g = DDPM(50), noise(3, 5), gen(1)
    ours = last(of(d), d, x, 50, ddpm(variance, generator=gen(1)))
    for t in range(50, 0, -1):
        eps = of(d)(x, torch.tensor(t)).eps
        mean = (x - d.beta[t] / (1 - d.abar[t]).sqrt() * eps) / d.alpha[t].sqrt()
        var = d.beta[t] * {"beta": 1, "posterior": (1 - d.abar[t - 1]) / (1 - d.abar[t])}[variance]
        z = torch.randn(x.shape, generator=g, dtype=x.dtype) if t > 1 else 0
        x = mean + var.sqrt() * z
    torch.testing.assert_close(ours, x, rtol=0, atol=1e-10)


def test_the_beta_variance_is_no_ddim():
    """Ho's sigma_t^2 = beta_t: the mean of eta = 1, but more noise than any eta <= 1 has."""
    d, x = DDPM(100), noise(4, 5)
    for t in (100, 40, 2):
        t = torch.tensor(t)
        step = lambda f: f(of(d), d, State(t, x), t - 1).x  # noqa: B023
        post, beta = (step(ddpm(v, generator=gen(3))) for v in ("posterior", "beta"))
        z = torch.randn(x.shape, generator=gen(3), dtype=x.dtype)
        btilde = d.beta[t] * (1 - d.abar[t - 1]) / (1 - d.abar[t])
        torch.testing.assert_close(post - btilde.sqrt() * z, beta - d.beta[t].sqrt() * z)
        assert d.beta[t] > btilde
        widest = step(ddim(eta=1, generator=gen(3)))
        torch.testing.assert_close(widest, post)
        assert not torch.allclose(widest, beta)


@pytest.mark.parametrize("step", [ddim, heun, dpmpp_2m])
def test_one_trajectory_in_three_languages(step):
    """The ODE does not care how x is scaled: on matched noise-to-signal ratios, DDPM, EDM and
    flow matching visit the same pictures, x_edm = x / s and x_flow = x / (s + n)."""
    d, x = DDPM(1000), noise(3, 5)
    t = d.times(12)
    s, n = d.signal(t), d.noise(t)
    edm, flow = On(EDM(), n / s), On(Flow(), n / (s + n))
    ours = list(sample(of(d), d, x, 12, step()))
    theirs = list(sample(of(edm), edm, x / s[0], 12, step()))
    straight = list(sample(of(flow), flow, x / (s + n)[0], 12, step()))
    for i, (a, b, c) in enumerate(zip(ours, theirs, straight, strict=True), 1):
        torch.testing.assert_close(a.x / s[i], b.x, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(a.x / (s + n)[i], c.x, rtol=1e-9, atol=1e-9)


def test_ddim_is_the_euler_step_of_edm_and_of_flow_matching():
    """x + (sigma' - sigma) (x - D) / sigma (Karras et al., Algorithm 1) and x + (t' - t) v."""
    sigma = EDM(0.02, 5.0).times(9).double()
    x = y = 5 * noise(3, 5)
    edm = On(EDM(), sigma)
    for a, b in pairwise(sigma):
        x = x + (b - a) * (x - clean(x, a)) / a
    torch.testing.assert_close(last(of(edm), edm, y, 9), x, rtol=0, atol=1e-10)

    t = torch.linspace(0.99, 0, 10, dtype=torch.float64)
    x = y = noise(3, 5)
    flow = On(Flow(), t)
    for a, b in pairwise(t):
        pred = of(flow)(x, a)
        x = x + (b - a) * (pred.eps - pred.x0)  # v = eps - x_0
    torch.testing.assert_close(last(of(flow), flow, y, 9), x, rtol=0, atol=1e-10)


def test_heun_is_algorithm_1_of_edm():
    sigma = EDM(0.02, 5.0).times(9).double()
    x = y = 5 * noise(3, 5)
    edm = On(EDM(), sigma)
    for a, b in pairwise(sigma):
        slope = (x - clean(x, a)) / a
        there = x + (b - a) * slope
        if b > 0:
            slope = (slope + (there - clean(there, b)) / b) / 2
        x = x + (b - a) * slope
    torch.testing.assert_close(last(of(edm), edm, y, 9, heun()), x, rtol=0, atol=1e-10)


# ------------------------------------------------------------------ the ends of the grid

MIX = GaussianMixture([0.2, 0.3, 0.5], torch.tensor([[-1.0, 0.5], [0.0, -1.0], [1.0, 0.8]]).double(),
                      [0.15, 0.25, 0.2])


@pytest.mark.parametrize("schedule", [DDPM(), Cosine(), EDM(), Flow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("step", [ddim(), heun(), dpmpp_2m()], ids=["ddim", "heun", "dpmpp_2m"])
@pytest.mark.parametrize("steps", [1, 2, 8])
def test_no_nan_where_signal_or_noise_is_zero(schedule, step, steps):
    """Flow begins at signal 0, all end at noise 0: each step takes its first-order form there."""
    top = schedule.times(1)[0]
    x = schedule.noise(top).double() * noise(50, 2)
    states = list(sample(MIX.denoiser(schedule), schedule, x, steps, step))
    assert len(states) == steps and states[-1].t == schedule.times(1)[1]
    assert all(torch.isfinite(s.x).all() and torch.isfinite(s.x0).all() for s in states)
    torch.testing.assert_close(states[-1].x, states[-1].x0)  # the last step goes all the way
    # where it starts from pure noise, every first step is the ddim step
    if schedule.signal(top) == 0:
        euler = next(sample(MIX.denoiser(schedule), schedule, x, steps))
        torch.testing.assert_close(states[0].x, euler.x)


def test_number_of_network_calls():
    calls = []

    def counting(x, t):
        calls.append(t)
        return of(DDPM(100))(x, t)

    for step, expected in ((ddpm(), 10), (ddim(), 10), (dpmpp_2m(), 10), (heun(), 19)):
        calls.clear()
        last(counting, DDPM(100), noise(2, 3), 10, step)
        assert len(calls) == expected


def test_sample_is_lazy_and_keeps_no_gradients():
    d, w = DDPM(10), torch.ones((), dtype=torch.float64, requires_grad=True)
    film = sample(lambda x, t: Pred(w * x, w * x), d, noise(2, 3), 10)
    first = next(film)
    assert first.t == 9 and first.t0 == 10 and not first.x.requires_grad
    assert torch.is_grad_enabled()  # the generator does not leak its no_grad


def test_unknown_variance():
    with pytest.raises(ValueError, match="unknown variance 'fixed_small': choose one of 'posterior', 'beta'"):
        ddpm("fixed_small")


# ------------------------------------------------------------------ accuracy

@pytest.fixture(scope="module")
def exact():
    """The ODE's solution from 200 starting points, with 1024 Heun steps."""
    return last(MIX.denoiser(Waves()), Waves(), noise(200, 2), 1024, heun())


@pytest.mark.parametrize(("step", "order"), [(ddim, 1), (heun, 2), (dpmpp_2m, 2)])
def test_order_of_accuracy(step, order, exact):
    """Exact denoiser, even steps in lambda between finite ends: the error falls as steps^-order.

    The median over the points, because a point on the border between two components may jump.
    """
    errors = []
    for k in (64, 128, 256):
        x = last(MIX.denoiser(Waves()), Waves(), noise(200, 2), k, step())
        errors.append((x - exact).norm(dim=1).median().item())
    slope = math.log2(errors[-1] / errors[0]) / 2
    assert slope == pytest.approx(-order, abs=0.15), errors


# ------------------------------------------------------------------ statistics

def deviations(x):
    """Weights, means and variances of the three components of x (N, 2), each minus its true value,
    in standard errors: sqrt(w (1 - w) / N), std / sqrt(N_k) and std^2 / sqrt(N_k) (2 N_k numbers).
    The components lie 6 standard deviations apart, so that the nearest mean tells which is which.
    """
    nearest = ((x[:, None] - MIX.means) ** 2).sum(-1).argmin(1)
    share = torch.bincount(nearest, minlength=3) / len(x)
    out = [(share - MIX.weights) / (MIX.weights * (1 - MIX.weights) / len(x)).sqrt()]
    for k, std in enumerate(MIX.std):
        gap = x[nearest == k] - MIX.means[k]
        root = len(gap) ** 0.5
        out += [gap.mean(0) / std * root, ((gap**2).mean() - std**2)[None] / std**2 * root]
    return torch.cat(out)  # (3 + 3 * 3,)


def draw(schedule, n, steps, step):
    top = schedule.noise(schedule.times(1)[0]).double()
    return last(MIX.denoiser(schedule), schedule, top * noise(n, 2), steps, step)


@pytest.mark.parametrize(("schedule", "n", "steps", "step"), [
    (DDPM(), 2000, 1000, ddpm("posterior", generator=gen(1))),
    (DDPM(), 2000, 1000, ddpm("beta", generator=gen(1))),
    (Flow(), 5000, 250, ddim()),
    (Flow(), 20_000, 32, heun()),
    (EDM(sigma_max=20.0), 20_000, 40, heun()),
    (Flow(), 20_000, 48, dpmpp_2m()),
], ids=["ddpm posterior", "ddpm beta", "ddim", "heun", "heun edm", "dpmpp_2m"])
def test_samplers_draw_the_mixture(schedule, n, steps, step):
    """12 numbers within 4 standard errors: by chance one run in a thousand would fail (seeded)."""
    assert deviations(draw(schedule, n, steps, step)).abs().max() < 4


def test_heun_beats_ddim_at_equal_steps():
    """24 steps, 20,000 points: the discretisation error of ddim shows, that of heun does not."""
    euler, better = (deviations(draw(Flow(), 20_000, 24, f())).abs().max() for f in (ddim, heun))
    assert better < 4 < euler / 2


ZERO = torch.linspace(1e-3, 0.05, 200)
ZERO[-1] = 1.0
EVERY = {"ddpm": DDPM(), "zero snr": DDPM(200, ZERO), "cosine": Cosine(200), "edm": EDM(), "flow": Flow(),
         "flow3": Flow(shift=3.0)}


@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize("name", ["edm", "flow", "flow3", "zero snr"])
def test_ancestral_sampling_draws_the_mixture_on_every_schedule(name, variance):
    """As ddim does: 12 numbers within four standard errors, and a bit for the steps, which are not small."""
    schedule = EVERY[name]
    steps = 200 if name == "zero snr" else 400
    found = deviations(draw(schedule, 2000, steps, ddpm(variance, generator=gen(1))))
    assert found.abs().max() < 4, found


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_ddim_with_eta_1_is_ddpm_on_every_schedule(name, steps):
    schedule = EVERY[name]
    x = schedule.start((40, 2), gen()).double()
    ends = [last(MIX.denoiser(schedule), schedule, x, steps, step)
            for step in (ddim(1.0, gen(1)), ddpm(generator=gen(1)))]
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)
    assert ends[0].isfinite().all()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_the_last_ancestral_step_ends_on_the_clean_picture(name, variance):
    schedule = EVERY[name]
    x = schedule.start((9, 2), gen()).double()
    *_, end = sample(MIX.denoiser(schedule), schedule, x, 5, ddpm(variance))
    torch.testing.assert_close(end.x, end.x0, rtol=1e-5, atol=1e-5)


class Tanh(nn.Module):
    def forward(self, x, t):
        return torch.tanh(x)


@pytest.mark.parametrize("target", [predict_v, predict_x0])
@pytest.mark.parametrize("step", [ddpm, ddim, heun, dpmpp_2m])
def test_a_chain_that_ends_in_pure_noise_can_be_walked(target, step):
    schedule = DDPM(200, ZERO)
    assert schedule.signal(torch.tensor(200)) == 0 and schedule.noise(torch.tensor(200)) == 1
    end = last(Denoiser(Tanh(), schedule, target), schedule, noise(5, 2), 7, step())
    assert end.isfinite().all()
    with pytest.raises(ValueError, match=r"predict_eps needs signal > 0 \(it divides .*\); DDPM breaks it"):
        Denoiser(Tanh(), schedule, predict_eps)


def test_a_denoiser_of_another_schedule_is_refused_by_name():
    x = noise(3, 2)
    model = Denoiser(Tanh(), Cosine(100), predict_x0)
    for walk in (samplers.draw, last):
        with pytest.raises(ValueError, match=r"same schedule; these are DDPM with noise .*, and EDM with"):
            walk(model, EDM(), x, 5)
        with pytest.raises(ValueError, match=r"same schedule; these are DDPM with noise .*, and DDPM with"):
            walk(clip_x0(model), DDPM(100), x, 5)
        with pytest.raises(ValueError, match="same schedule"):
            walk(MIX.denoiser(Flow()), EDM(), x, 5)
        walk(model, Cosine(100), x, 5)  # another object, the same numbers
        walk(of(DDPM(100)), DDPM(100), x, 5)  # a mere function says nothing of its schedule


@pytest.mark.parametrize(("x", "named"), [
    (torch.full((2, 2), torch.nan), "x, the start, holds 4 numbers that are NaN or infinite"),
    (torch.zeros(2, 2, dtype=torch.uint8), "x, the start, must be a tensor of floats, given uint8"),
    (None, "x must be a tensor of real numbers; given None")])
def test_a_wrong_start_is_named(x, named):
    with pytest.raises(ValueError, match=named):
        samplers.draw(of(DDPM(100)), DDPM(100), x, 5)


@pytest.mark.parametrize("steps", [0, -1, 2.5, 101, None])
def test_a_wrong_number_of_steps_is_named(steps):
    with pytest.raises(ValueError, match=r"in a chain of 100 must be a whole number, in 1 \.\. 100; given"):
        samplers.draw(of(DDPM(100)), DDPM(100), noise(2, 2), steps)


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan"), None])
def test_a_wrong_eta_is_named(eta):
    with pytest.raises(ValueError, match=r"eta must be one number, in 0 \.\. 1; given"):
        ddim(eta)


@pytest.mark.parametrize("step", [ddpm, ddim, heun, dpmpp_2m])
def test_draw_gives_the_end_and_keeps_nothing_on_the_way(step):
    """The last state of `sample`; of the states before, only the newest are alive at any time."""
    d, x = DDPM(100), noise(3, 5)
    torch.manual_seed(0)
    *_, end = sample(of(d), d, x, 20, step())
    torch.manual_seed(0)
    assert torch.equal(samplers.draw(of(d), d, x, 20, step()), end.x)
    made, alive = [], []

    def noted(denoise, schedule, state, r):
        out = rule(denoise, schedule, state, r)
        made.append(weakref.ref(out.x))
        alive.append(sum(ref() is not None for ref in made))
        return out
    rule = step()
    samplers.draw(of(d), d, x, 20, noted)
    assert len(alive) == 20 and max(alive) <= 3
    assert not samplers.draw(of(d), d, x, 3).requires_grad


def test_heun_calls_the_network_twice_but_for_the_last_step():
    calls = []
    schedule = EDM()

    def denoise(x, t):
        calls.append(t)
        return of(schedule)(x, t)
    last(denoise, schedule, 80 * noise(2, 3), 10, heun())
    assert len(calls) == 19


def test_heun_takes_the_first_order_where_nearly_all_is_noise():
    """From more than 200 times as much noise as signal, its first step is that of ddim."""
    for level, first_order in ((250.0, True), (150.0, False)):
        schedule = EDM(sigma_max=level)
        x = level * noise(5, 2)
        ours, euler = (next(sample(of(schedule), schedule, x, 5, step())).x for step in (heun, ddim))
        assert torch.equal(ours, euler) == first_order


@pytest.mark.parametrize("step", [ddpm, ddim, heun, dpmpp_2m])
def test_a_step_without_its_parentheses_is_named(step):
    with pytest.raises(ValueError, match=rf"step={step.__name__}\(\) wants its parentheses"):
        samplers.draw(of(DDPM(100)), DDPM(100), noise(2, 2), 5, step)


def test_dpmpp_2m_is_its_formula_with_a_ddim_step_at_both_ends():
    """Lu et al. 2022, Algorithm 2: D = (1 + 1 / 2r) x0_hat - 1 / 2r of the one before, r the ratio of the
    steps in lambda; x <- n' / n x - s' (e^-h - 1) D."""
    d = Cosine(100)
    t, x = d.times(4), noise(3, 5)
    s, n, lam = d.signal(t), d.noise(t), d.log_snr(t)
    ours, before = list(sample(of(d), d, x, 4, dpmpp_2m())), None
    for i in range(4):
        x0 = of(d)(x, t[i]).x0
        if i in (0, 3):
            x = s[i + 1] * x0 + n[i + 1] / n[i] * (x - s[i] * x0)
        else:
            h, r = lam[i + 1] - lam[i], (lam[i] - lam[i - 1]) / (lam[i + 1] - lam[i])
            x = n[i + 1] / n[i] * x - s[i + 1] * torch.expm1(-h) * (x0 + (x0 - before) / (2 * r))
        before = x0
        torch.testing.assert_close(ours[i].x, x, rtol=1e-9, atol=1e-9)
