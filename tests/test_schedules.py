"""Noise schedules against the formulas of their papers."""
import math

import pytest
import torch

from course_lib.schedules import DDPM, EDM, Cosine, Flow, like

ALL = [DDPM(), DDPM(50), Cosine(), EDM(), Flow(), Flow(shift=3.0)]
NAMES = ["ddpm", "ddpm50", "cosine", "edm", "flow", "flow3"]


def test_ddpm_symbols_are_the_papers():
    """beta_1 = 1e-4, beta_T = 0.02, alpha = 1 - beta, abar_t = alpha_1 ... alpha_t, abar_0 = 1."""
    d = DDPM()
    assert d.abar[0] == 1 and len(d.beta) == len(d.alpha) == len(d.abar) == 1001
    assert d.beta[1].item() == 1e-4 and d.beta[1000].item() == pytest.approx(0.02, rel=1e-12)
    product = 1.0
    for t in range(1, 1001):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * (t - 1) / 999)
        assert d.abar[t].item() == pytest.approx(product, rel=1e-9)
    t = torch.tensor([0, 1, 500, 1000])
    torch.testing.assert_close(d.signal(t) ** 2, d.abar[t])
    torch.testing.assert_close(d.signal(t) ** 2 + d.noise(t) ** 2, torch.ones(4).double())
    assert d.noise(t)[0] == 0 and d.signal(t)[0] == 1


def test_cosine_is_its_closed_form():
    """abar_t = f(t) / f(0) with f(t) = cos^2((t/T + s) / (1 + s) * pi/2), Nichol & Dhariwal eq. 17.

    Only the last steps differ, where beta is clipped to 0.999.
    """
    T, s = 200, 0.008
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    expected = torch.tensor([x / f[0] for x in f], dtype=torch.float64)
    c = Cosine(T)
    torch.testing.assert_close(c.abar[:T], expected[:T], rtol=1e-9, atol=0)
    assert c.abar[T].item() == pytest.approx(0.001 * c.abar[T - 1].item(), rel=1e-9)
    assert c.abar[T] > 0  # or predict_eps would divide by 0


def test_the_closed_form_is_the_chain():
    """T small steps x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) z: the mean and variance that
    they add up to are signal(t) and noise(t)^2."""
    d = DDPM(100)
    mean, var = 1.0, 0.0
    for t in range(1, 101):
        mean, var = mean * d.alpha[t].sqrt(), var * d.alpha[t] + d.beta[t]
        assert d.signal(torch.tensor(t)).item() == pytest.approx(mean.item(), rel=1e-10)
        assert d.noise(torch.tensor(t)).item() ** 2 == pytest.approx(var.item(), rel=1e-10)


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
def test_times_go_from_noisiest_to_clean(schedule):
    for steps in (1, 2, 7, 50):
        t = schedule.times(steps)
        noise = schedule.noise(t).double()
        ratio = noise / schedule.signal(t).double()
        assert t.shape == (steps + 1,)
        assert noise[-1] == 0 and (ratio[:-1] > ratio[1:]).all()
    top = {DDPM: getattr(schedule, "T", None), EDM: 80.0, Flow: 1.0}[type(schedule)]
    assert t[0].item() == pytest.approx(top, rel=1e-6)


@pytest.mark.parametrize("schedule", ALL, ids=NAMES)
@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_is_a_clear_error(schedule, steps):
    with pytest.raises(ValueError, match="step"):
        schedule.times(steps)


def test_edm_times_are_eq_5():
    """sigma_i = (smax^(1/rho) + i/(N-1) (smin^(1/rho) - smax^(1/rho)))^rho, i < N, sigma_N = 0."""
    k, n = EDM(0.01, 50.0, rho=5.0), 12
    for i, sigma in enumerate(k.times(n)[:-1].tolist()):
        root = 50 ** (1 / 5) + i / (n - 1) * (0.01 ** (1 / 5) - 50 ** (1 / 5))
        assert sigma == pytest.approx(root**5, rel=1e-6)


def test_edm_net_input_is_c_in_and_c_noise():
    """Table 1: c_in = 1 / sqrt(sigma^2 + sigma_data^2); c_noise = ln(sigma) / 4, here times 1000."""
    x, sigma = torch.randn(3, 2, 4, 4), torch.tensor([0.1, 1.0, 30.0])
    seen, time = EDM(sigma_data=0.7).net_input(x, sigma)
    for i in range(3):
        torch.testing.assert_close(seen[i], x[i] / (sigma[i] ** 2 + 0.7**2).sqrt())
    torch.testing.assert_close(time, 1000 * sigma.log() / 4)


def test_flow_shift_is_eq_23():
    """t' = a t / (1 + (a - 1) t) (Esser et al. 2024), which is log-SNR minus ln a."""
    plain, shifted = Flow().times(10).double(), Flow(shift=3.0).times(10).double()
    torch.testing.assert_close(shifted, 3 * plain / (1 + 2 * plain), rtol=1e-6, atol=0)
    lift = Flow().log_snr(plain[1:-1]) - Flow().log_snr(shifted[1:-1])
    torch.testing.assert_close(lift, torch.full_like(lift, math.log(3)), rtol=1e-5, atol=1e-5)


def test_training_times_reach_the_noisiest_and_never_zero():
    """t = T and t = 1 are trained on (some public code misses one), t = 0 is not."""
    t = DDPM(20).draw_t(20_000, generator=torch.Generator().manual_seed(0))
    count = torch.bincount(t, minlength=21)
    assert len(count) == 21 and count[0] == 0
    # each of 20 times is drawn 1000 +- 31 times; five standard deviations
    assert (count[1:] - 1000).abs().max() < 5 * 31
    for schedule in (Flow(), EDM()):
        t = schedule.draw_t(20_000, generator=torch.Generator().manual_seed(0))
        assert (schedule.noise(t) > 0).all() and (schedule.signal(t) > 0).all()
    z = EDM(mean=-1.2, std=1.2).draw_t(20_000, generator=torch.Generator().manual_seed(0)).log()
    # mean and std of N draws: within 4 standard errors, std / sqrt(N) and std / sqrt(2N)
    assert abs(z.mean() + 1.2) < 4 * 1.2 / 141 and abs(z.std() - 1.2) < 4 * 1.2 / 200
    z = Flow(0.5, 2.0).draw_t(20_000, generator=torch.Generator().manual_seed(0)).logit()
    assert abs(z.mean() - 0.5) < 4 * 2 / 141 and abs(z.std() - 2) < 4 * 2 / 200


@pytest.mark.parametrize("beta", [torch.full((9,), 0.1), torch.linspace(0, 0.5, 10),
                                  torch.linspace(0.1, 1.01, 10), torch.full((10,), -0.1),
                                  torch.full((10,), float("nan")), torch.full((10,), 1.0),
                                  torch.tensor([*[0.1] * 4, 1.0, *[0.1] * 5])])
def test_bad_betas(beta):
    with pytest.raises(ValueError, match="beta must be 10 numbers between 0 and 1"):
        DDPM(10, beta)


@pytest.mark.parametrize(("schedule", "t", "named"), [
    (DDPM(10), torch.tensor(-1), r"times of DDPM lie in 0 \(clean\) \.\. 10 \(noise\); given -1 \.\. -1"),
    (DDPM(10), torch.tensor([3, 11]), r"0 \(clean\) \.\. 10 \(noise\); given 3 \.\. 11"),
    (DDPM(10), torch.tensor(0.5), r"DDPM times are integers 0 \.\. 10, given torch.float32"),
    (DDPM(10), torch.tensor([3.0, 4.0]), r"DDPM times are integers 0 \.\. 10, given torch.float32"),
    (DDPM(10), torch.tensor([True, False]), r"times are tensors, such as torch.tensor\(5\); given bool"),
    (Flow(), torch.tensor([0.5, 1.1]),
     r"times of Flow lie in 0 \(clean\) \.\. 1 \(noise\); given 0.5 \.\. 1.1"),
    (Flow(), torch.tensor(500), r"times of Flow lie in 0 \(clean\) \.\. 1 \(noise\); given 500"),
    (Flow(), torch.tensor(-0.1), "times of Flow lie in"),
    (EDM(), torch.tensor([-1.0, 2.0]),
     r"times of EDM lie in 0 \(clean\) \.\. inf \(noise\); given -1 \.\. 2"),
    (Flow(), torch.tensor([0.5, torch.nan]), "times of Flow lie in"),
    (EDM(), torch.tensor(torch.nan), "times of EDM lie in")])
def test_bad_times(schedule, t, named):
    for ask in (schedule.signal, schedule.noise, schedule.log_snr):
        with pytest.raises(ValueError, match=named):
            ask(t)


def test_too_many_steps():
    with pytest.raises(ValueError, match=r"in a chain of 10 must be a whole number, in 1 \.\. 10; given 11"):
        DDPM(10).times(11)


def test_each_picture_gets_its_own_noise_level():
    """The trap is broadcasting along a column: B = W hides it, so take B = W."""
    x, eps = torch.randn(8, 3, 8, 8), torch.randn(8, 3, 8, 8)
    t = torch.arange(1, 9)
    d = DDPM(8)
    out = d.add_noise(x, t, eps)
    for i in range(8):
        s, n = d.abar[t[i]].sqrt().float(), (1 - d.abar[t[i]]).sqrt().float()
        torch.testing.assert_close(out[i], s * x[i] + n * eps[i])
    assert like(torch.tensor(2.0), x).shape == () and like(t, x).shape == (8, 1, 1, 1)


def test_a_chain_may_end_in_pure_noise():
    """Zero terminal SNR: the last beta is 1, and no other is."""
    beta = torch.linspace(0.1, 1.0, 10)
    d = DDPM(10, beta)
    t = torch.tensor([9, 10])
    assert d.signal(t)[1] == 0 and d.noise(t)[1] == 1 and d.signal(t)[0] > 0
    assert d.log_snr(t)[1] == -math.inf


@pytest.mark.parametrize("T", [0, -3, 1.5, "10", None])
def test_a_wrong_length_of_the_chain_is_named(T):
    with pytest.raises(ValueError, match="T, the number of steps, must be a whole number, at least 1; given"):
        DDPM(T)


@pytest.mark.parametrize("make", [
    lambda: EDM(sigma_min=0), lambda: EDM(sigma_min=90.0), lambda: EDM(sigma_max=math.inf),
    lambda: EDM(rho=0),
    lambda: EDM(sigma_data=0), lambda: EDM(std=-1), lambda: EDM(sigma_max=math.nan),
    lambda: EDM(sigma_data=math.nan),
    lambda: Flow(std=0), lambda: Flow(shift=0), lambda: Flow(shift=-1), lambda: Flow(shift=math.inf),
    lambda: Flow(shift=math.nan)])
def test_wrong_numbers_of_a_schedule_are_named(make):
    with pytest.raises(ValueError, match=r"((EDM|Flow) needs|must be one number, finite;).* given"):
        make()


@pytest.mark.parametrize(("schedule", "level"), [
    (DDPM(), 1.0), (EDM(), 80.0), (EDM(sigma_max=10.0), 10.0), (Flow(), 1.0), (Flow(shift=3.0), 1.0),
    (DDPM(10), DDPM(10).noise(torch.tensor(10)).item())])
def test_sampling_starts_from_noise_of_the_schedules_scale(schedule, level):
    x = schedule.start((50, 3, 8, 8), torch.Generator().manual_seed(0))
    assert x.shape == (50, 3, 8, 8) and x.dtype == torch.float32
    # 9,600 numbers: four standard errors
    assert abs(x.std().item() / level - 1) < 4 / (2 * 9600) ** 0.5 + 1e-4
    assert abs(x.mean().item() / level) < 4 / 9600**0.5
    assert torch.equal(x, schedule.start((50, 3, 8, 8), torch.Generator().manual_seed(0)))
    torch.manual_seed(0)
    assert torch.equal(x, schedule.start((50, 3, 8, 8)))  # without a generator: the global one


@pytest.mark.parametrize(("x", "t", "eps", "named"), [
    (torch.zeros(4, 3, 8, 8), torch.ones(4).long(), torch.zeros(4, 3, 8, 4), "must have one shape"),
    (torch.zeros(4, 3, 8, 8), torch.ones(4).long(), torch.zeros(3, 8, 8), "must have one shape"),
    (torch.zeros(4, 3, 8, 8), torch.ones(3).long(), torch.zeros(4, 3, 8, 8),
     r"and t the shape \(B,\); given"),
    (torch.zeros(4, 3, 8, 8), torch.ones(4, 1).long(), torch.zeros(4, 3, 8, 8),
     r"and t the shape \(B,\); given"),
    (torch.zeros(4, 3, 8, 8).byte(), torch.ones(4).long(), torch.zeros(4, 3, 8, 8),
     "x_0 must be a tensor of floats"),
    (torch.full((4, 3), torch.nan), torch.ones(4).long(), torch.zeros(4, 3), "x_0 holds 12 numbers"),
    (torch.zeros(4, 3), torch.full((4,), 0.5), torch.zeros(4, 3), "DDPM times are integers"),
    (torch.zeros(4, 3), torch.full((4,), 11), torch.zeros(4, 3),
     r"times of DDPM lie in 0 \(clean\) \.\. 10")])
def test_what_cannot_be_noised_is_named(x, t, eps, named):
    with pytest.raises(ValueError, match=named):
        DDPM(10).add_noise(x, t, eps)


def test_one_time_serves_all_pictures():
    x, eps = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    one = DDPM(10).add_noise(x, torch.tensor(7), eps)
    torch.testing.assert_close(one, DDPM(10).add_noise(x, torch.full((4,), 7), eps))
    torch.testing.assert_close(DDPM(10).add_noise(x, torch.tensor(0), eps), x)


def test_the_numbers_of_edm_are_the_papers():
    """Karras et al. 2022, table 1."""
    edm = EDM()
    assert (edm.sigma_min, edm.sigma_max, edm.rho, edm.sigma_data) == (0.002, 80, 7, 0.5)
    assert (edm.mean, edm.std) == (-1.2, 1.2)


def test_by_default_flow_draws_standard_logit_normal_times_and_shifts_none():
    """Esser et al. 2024: m = 0, s = 1. Half of the times lie within 1 / (1 + e^+-0.674)."""
    flow = Flow()
    assert (flow.mean, flow.std, flow.shift) == (0, 1, 1)
    t = flow.draw_t(20_000, generator=torch.Generator().manual_seed(0))
    inside = ((t > 1 / (1 + math.exp(0.67449))) & (t < 1 / (1 + math.exp(-0.67449)))).float().mean()
    assert abs(inside - 0.5) < 4 * 0.5 / 141 and abs(t.mean() - 0.5) < 4 * 0.21 / 141
    torch.testing.assert_close(flow.times(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))


def test_the_last_noisy_time_of_edm_is_sigma_min():
    """Two steps visit both ends; one goes from sigma_max to the clean picture at once."""
    torch.testing.assert_close(EDM().times(2), torch.tensor([80.0, 0.002, 0.0]))
    assert EDM().times(1).tolist() == [80.0, 0.0]


def test_the_network_is_told_a_time_in_thousandths():
    x, t = torch.randn(2, 3, 4, 4), torch.tensor([0.25, 1.0])
    seen, time = Flow().net_input(x, t)
    assert seen is x and time.tolist() == [250.0, 1000.0]
    assert DDPM().net_input(x, torch.tensor([3, 1000]))[1].tolist() == [3, 1000]


def test_times_of_a_chain_are_rounded_to_the_nearest():
    assert DDPM(10).times(3).tolist() == [10, 7, 3, 0]
