"""The denoiser: five targets, their losses, and what it refuses."""
import pytest
import torch
from torch import nn

from course_lib.denoiser import (
    Denoiser,
    predict_edm,
    predict_eps,
    predict_flow,
    predict_v,
    predict_x0,
)
from course_lib.schedules import DDPM, EDM, Cosine, Flow, like

VP = [DDPM(100), Cosine(100)]
# Every (target, schedule) that the table in course_lib/denoiser.py allows, Flow and eps excepted:
# at t = 1 the path has no signal left.
ALLOWED = ([(f, s) for f in (predict_eps, predict_x0, predict_v) for s in VP]
           + [(predict_eps, EDM()), (predict_x0, EDM()), (predict_edm, EDM()),
              (predict_x0, Flow()), (predict_flow, Flow())])
FORBIDDEN = [(predict_eps, Flow(), "signal > 0"), (predict_v, Flow(), r"signal\^2 \+ noise\^2 = 1"),
             (predict_v, EDM(), r"signal\^2 \+ noise\^2 = 1"),
             (predict_flow, DDPM(), r"signal \+ noise = 1"),
             (predict_flow, EDM(), r"signal \+ noise = 1"),
             (predict_edm, DDPM(), "signal = 1"), (predict_edm, Flow(), "signal = 1")]
SIGMA_DATA = 0.5


def name(value):
    return getattr(value, "__name__", type(value).__name__)


def truth(target, x0, eps, s, n):
    """What each network should say, written as in its paper."""
    return {predict_eps: lambda: eps, predict_x0: lambda: x0, predict_v: lambda: s * eps - n * x0,
            predict_flow: lambda: eps - x0,
            predict_edm: lambda: (x0 - SIGMA_DATA**2 / (n**2 + SIGMA_DATA**2) * (x0 + n * eps))
            * (n**2 + SIGMA_DATA**2).sqrt() / (n * SIGMA_DATA)}[target]()


class Says(nn.Module):
    """A network with a fixed answer."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x, t, **cond):
        return self.answer


def draw(schedule, b=6):
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(b, 2, 4, 4, generator=g, dtype=torch.float64) for _ in range(2))
    t = schedule.draw_t(b, generator=g)
    t[0] = schedule.times(1)[0] if not isinstance(schedule, Flow) else 0.999
    s, n = (like(c.double(), x0) for c in (schedule.signal(t), schedule.noise(t)))
    return x0, eps, t, s, n


@pytest.mark.parametrize(("target", "schedule"), ALLOWED, ids=name)
def test_the_true_answer_is_exact(target, schedule):
    """A network that outputs the true target has loss 0, and Pred gives back x_0 and eps."""
    x0, eps, t, s, n = draw(schedule)
    model = Denoiser(Says(truth(target, x0, eps, s, n)), schedule, target)
    assert model.loss(x0, t, eps).item() < 1e-10
    pred = model(s * x0 + n * eps, t)
    # EDM and Flow compute their coefficients in float32: times 80 at sigma = 80
    torch.testing.assert_close(pred.x0, x0, rtol=0, atol=1e-4)
    torch.testing.assert_close(pred.eps, eps, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("target", "schedule"), ALLOWED, ids=name)
def test_the_loss_is_the_textbook_loss(target, schedule):
    """Mean |answer - true target|^2: L_simple (Ho et al. eq. 14), the v-loss, the flow-matching
    loss; and for EDM lambda(sigma) |D - x_0|^2 with lambda of table 1."""
    x0, eps, t, s, n = draw(schedule)
    answer = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = Denoiser(Says(answer), schedule, target)
    loss = model.loss(x0, t, eps)
    expected = ((answer - truth(target, x0, eps, s, n)) ** 2).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    if target is predict_edm:
        weight = (n**2 + SIGMA_DATA**2) / (n * SIGMA_DATA) ** 2
        error = model(s * x0 + n * eps, t).x0 - x0
        torch.testing.assert_close(loss, (weight * error**2).mean(), rtol=1e-4, atol=0)


def test_the_x0_network_with_the_flow_loss_and_its_floor():
    """loss_as=predict_flow weighs |x0_hat - x_0|^2 by 1 / max(t, floor)^2."""
    x0, eps, _, _, _ = draw(Flow())
    t = torch.tensor([0.01, 0.05, 0.1, 0.2, 0.5, 0.9])
    answer = torch.zeros_like(x0)
    loss = Denoiser(Says(answer), Flow(), predict_x0, loss_as=predict_flow, floor=0.1).loss(x0, t, eps)
    weight = like(t.double(), x0).clamp(min=0.1) ** -2
    torch.testing.assert_close(loss, (weight * x0**2).mean(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("target", "schedule", "rule"), FORBIDDEN, ids=name)
def test_forbidden_pairs_name_the_rule(target, schedule, rule):
    for kwargs in ({"target": target}, {"target": predict_x0, "loss_as": target}):
        with pytest.raises(ValueError, match=f"{target.__name__} needs {rule}") as error:
            Denoiser(nn.Identity(), schedule, **kwargs)
        assert type(schedule).__name__ in str(error.value)


def test_loss_draws_its_own_times_and_noise():
    """Two calls differ, a seed repeats them, and the network sees x_t, not x_0."""
    seen = []

    class Spy(nn.Module):
        def forward(self, x, t):
            seen.append((x, t))
            return torch.zeros_like(x)

    model, x0 = Denoiser(Spy(), DDPM(10)), torch.zeros(4000, 1, 2, 2)
    torch.manual_seed(0)
    first, second = model.loss(x0), model.loss(x0)
    torch.manual_seed(0)
    assert first == model.loss(x0) != second
    (x, t), (other, _) = seen[:2]
    assert set(t.tolist()) == set(range(1, 11)) and not torch.equal(x, other)
    for k in (1, 10):  # with x_0 = 0 the pictures are noise(t) eps; about 1,600 numbers per time
        spread = x[t == k].std().item()
        assert spread == pytest.approx(DDPM(10).noise(torch.tensor(k)).item(), rel=0.1)


def test_noise_of_another_shape_is_refused():
    model = Denoiser(Says(torch.zeros(3, 2)), DDPM(10), predict_x0)
    with pytest.raises(ValueError, match=r"eps must have the shape of x_0, \(3, 2\), given \(2,\)"):
        model.loss(torch.zeros(3, 2), eps=torch.zeros(2))


def test_the_noise_of_a_noise_prediction_is_what_the_network_says():
    """To the bit, and not what is left after x_t - s x0_hat was divided by a small n."""
    answer = torch.randn(3, 2)
    assert torch.equal(Denoiser(Says(answer), DDPM())(torch.randn(3, 2), torch.tensor(1)).eps, answer)


def test_min_snr_5_weighs_the_error_by_the_snr_and_by_5_at_most():
    """Hang et al. 2023, eq. 6: SNR = (s / n)^2 large at early times, small at late ones."""
    schedule = Cosine()
    x0, eps, _, _, _ = draw(schedule)
    t, answer = torch.tensor([1, 50, 250, 500, 700, 999]), torch.randn_like(x0)
    loss = Denoiser(Says(answer), schedule, predict_x0, loss_as=predict_eps, floor=5**-0.5).loss(x0, t, eps)
    snr = schedule.abar[t] / (1 - schedule.abar[t])
    assert (snr > 5).sum() == 3
    weight = like(snr.clamp(max=5), x0)
    torch.testing.assert_close(loss, (weight * (answer - x0) ** 2).mean(), rtol=1e-6, atol=0)


def test_conditions_reach_the_network_and_a_scalar_time_serves_the_batch():
    class Net(nn.Module):
        def forward(self, x, t, shift):
            assert t.shape == (len(x),)
            return x + shift

    model = Denoiser(Net(), DDPM(10), predict_x0)
    x = torch.zeros(3, 1, 2, 2)
    torch.testing.assert_close(model(x, torch.tensor(4), shift=2.0).x0, x + 2)


@pytest.mark.parametrize("schedule", [EDM(sigma_data=1.0), EDM(sigma_data=0.3)], ids=["1", "0.3"])
def test_edm_expects_data_of_its_own_spread(schedule):
    """An untrained network, which outputs 0, has loss 1 on data with sd sigma_data, which have unit variance
    for it."""
    g = torch.Generator().manual_seed(0)
    x0 = schedule.sigma_data * torch.randn(4000, 1, 4, 4, generator=g)
    model = Denoiser(Says(torch.zeros_like(x0)), schedule, predict_edm)
    torch.manual_seed(0)
    assert model.loss(x0).item() == pytest.approx(1, abs=4 * (2 / 64_000) ** 0.5)
    assert model.loss(2 * x0).item() > 1.2
    for sigma in (0.01, 1.0, 50.0):  # at every level by itself
        assert model.loss(x0, torch.tensor(sigma)).item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("schedule", "t"), [
    (DDPM(10), torch.tensor([0, 3, 9])), (DDPM(10), torch.tensor(0)), (Cosine(10), torch.tensor([1, 0, 1])),
    (EDM(), torch.tensor([0.0, 1.0, 2.0])), (Flow(), torch.tensor(0.0))], ids=str)
def test_training_at_the_clean_picture_is_refused(schedule, t):
    model = Denoiser(Says(torch.zeros(3, 2)), schedule, predict_x0)
    with pytest.raises(ValueError, match=r"0, but t = 0 is the clean picture.*0-based"):
        model.loss(torch.zeros(3, 2), t)


@pytest.mark.parametrize(("schedule", "t", "named"), [
    (DDPM(10), torch.tensor([1, 2, 11]),
     r"times of DDPM lie in 0 \(clean\) \.\. 10 \(noise\); given 1 \.\. 11"),
    (DDPM(10), torch.tensor([1.0, 2.0, 3.0]), "DDPM times are integers"),
    (Flow(), torch.tensor([0.5, 0.6, 700.0]), r"times of Flow lie in 0 \(clean\) \.\. 1 \(noise\)"),
    (EDM(), torch.tensor([0.5, 0.6, -1.0]), "times of EDM lie in"),
    (DDPM(10), torch.tensor([1, 2]), r"t must be a tensor of 3 times, or of one; given int64 \(2,\)"),
    (DDPM(10), torch.tensor([[1], [2], [3]]),
     r"t must be a tensor of 3 times, or of one; given int64 \(3, 1\)"),
    (DDPM(10), 5, "t must be a tensor of real numbers.*; given 5")])
def test_wrong_times_are_named(schedule, t, named):
    model = Denoiser(Says(torch.zeros(3, 2)), schedule, predict_x0)
    for call in (model, model.loss):
        with pytest.raises(ValueError, match=named):
            call(torch.zeros(3, 2), t)


def test_one_training_time_serves_the_batch():
    x0, eps = torch.randn(3, 2), torch.randn(3, 2)
    model = Denoiser(Says(torch.ones(3, 2)), DDPM(10))
    one = model.loss(x0, torch.tensor(4), eps)
    assert torch.equal(one, model.loss(x0, torch.full((3,), 4), eps)) and torch.equal(
        one, model.loss(x0, torch.tensor([4]), eps))


@pytest.mark.parametrize("floor", [-1, float("nan"), None])
def test_a_wrong_floor_is_named(floor):
    with pytest.raises(ValueError, match="floor must be one number, at least 0; given"):
        Denoiser(nn.Identity(), DDPM(10), floor=floor)


@pytest.mark.parametrize("target", [predict_eps, predict_x0, predict_v, predict_flow, predict_edm])
def test_a_target_is_a_pair_of_formulas_with_a_name(target):
    """(skip, out) of signals and noises; `predict_edm` alone knows the spread of the data."""
    s, n = torch.tensor([0.6, 1.0]), torch.tensor([0.8, 2.0])
    skip, out = target(s, n)
    assert skip.shape == out.shape == (2,) and target.__name__.startswith("predict_") and target.rule
    other = target(s, n, 0.5)
    assert (not torch.equal(other[0], skip)) == (target is predict_edm)
