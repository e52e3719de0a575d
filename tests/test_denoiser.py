"""The denoiser: five targets, their losses, guidance and dropping of conditions."""
import pytest
import torch
from torch import nn

from course_lib.denoiser import (
    Denoiser,
    Pred,
    autoguide,
    drop,
    guide,
    interval,
    predict_edm,
    predict_eps,
    predict_flow,
    predict_v,
    predict_x0,
)
from course_lib.schedules import DDPM, Cosine, Flow, Karras, like

VP = [DDPM(100), Cosine(100)]
# Every (target, schedule) that the table in course_lib/denoiser.py allows, Flow and eps excepted:
# at t = 1 the path has no signal left.
ALLOWED = ([(f, s) for f in (predict_eps, predict_x0, predict_v) for s in VP]
           + [(predict_eps, Karras()), (predict_x0, Karras()), (predict_edm, Karras()),
              (predict_x0, Flow()), (predict_flow, Flow())])
FORBIDDEN = [(predict_eps, Flow(), "signal > 0"), (predict_v, Flow(), r"signal\^2 \+ noise\^2 = 1"),
             (predict_v, Karras(), r"signal\^2 \+ noise\^2 = 1"),
             (predict_flow, DDPM(), r"signal \+ noise = 1"),
             (predict_flow, Karras(), r"signal \+ noise = 1"),
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
    t[0] = schedule.grid(1)[0] if not isinstance(schedule, Flow) else 0.999
    s, n = (like(c.double(), x0) for c in (schedule.signal(t), schedule.noise(t)))
    return x0, eps, t, s, n


@pytest.mark.parametrize(("target", "schedule"), ALLOWED, ids=name)
def test_the_true_answer_is_exact(target, schedule):
    """A network that outputs the true target has loss 0, and Pred gives back x_0 and eps."""
    x0, eps, t, s, n = draw(schedule)
    model = Denoiser(Says(truth(target, x0, eps, s, n)), schedule, target)
    assert model.loss(x0, t, eps).item() < 1e-10
    pred = model(s * x0 + n * eps, t)
    # Karras and Flow compute their coefficients in float32: times 80 at sigma = 80
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


def test_conditions_reach_the_network_and_a_scalar_time_serves_the_batch():
    class Net(nn.Module):
        def forward(self, x, t, shift):
            assert t.shape == (len(x),)
            return x + shift

    model = Denoiser(Net(), DDPM(10), predict_x0)
    x = torch.zeros(3, 1, 2, 2)
    torch.testing.assert_close(model(x, torch.tensor(4), shift=2.0).x0, x + 2)


class Sine(nn.Module):
    """A network without weights."""

    def __init__(self, frequency: float = 3.0):
        super().__init__()
        self.frequency = frequency

    def forward(self, x, t):
        return torch.sin(self.frequency * x)


def test_guidance_is_a_line_through_two_predictions():
    """null + w (cond - null): w = 0 is null, w = 1 is cond, w = 2 as far again; x0 and eps agree."""
    class Net(nn.Module):
        def forward(self, x, t, c):
            return torch.sin(3 * x) + like(c, x)

    model = Denoiser(Net(), DDPM(10))
    x, t = torch.randn(5, 1, 2, 2), torch.tensor(7)
    cond, null = {"c": torch.arange(5.0)}, {"c": torch.full((5,), -1.0)}
    with_text, without = model(x, t, **cond), model(x, t, **null)
    for w in (0.0, 1.0, 2.0):
        out = guide(model, cond, null, w)(x, t)
        for a, c, u in zip(out, with_text, without, strict=True):
            torch.testing.assert_close(a, u + w * (c - u))
        s, n = model.schedule.signal(t).float(), model.schedule.noise(t).float()
        torch.testing.assert_close(s * out.x0 + n * out.eps, x)


def test_autoguidance_leads_away_from_the_weaker_model():
    """weaker + w (denoise - weaker): w = 0 is weaker, w = 1 is denoise, w = 3 twice as far again."""
    strong, weaker = Denoiser(Sine(), DDPM(10)), Denoiser(Sine(2.0), DDPM(10))
    x, t = torch.randn(5, 1, 2, 2), torch.tensor(7)
    for w in (0.0, 1.0, 3.0):
        out = autoguide(strong, weaker, w)(x, t)
        for a, good, bad in zip(out, strong(x, t), weaker(x, t), strict=True):
            torch.testing.assert_close(a, bad + w * (good - bad))
        s, n = strong.schedule.signal(t).float(), strong.schedule.noise(t).float()
        torch.testing.assert_close(s * out.x0 + n * out.eps, x)
    class Told(Sine):
        def forward(self, x, t, c):
            return super().forward(x, t) + like(c, x)

    told, c = Denoiser(Told(), DDPM(10)), torch.arange(5.0)
    torch.testing.assert_close(autoguide(told, weaker, 2.0, c=c)(x, t).x0,
                               2 * told(x, t, c=c).x0 - weaker(x, t).x0)  # only the strong one is told
    with pytest.raises(ValueError, match="same schedule; theirs have noise"):
        autoguide(strong, Denoiser(Sine(), Cosine(10)), 2.0)


class Two(nn.Module):
    """The number x0 it is told, everywhere; counts its calls."""

    def __init__(self):
        super().__init__()
        self.schedule, self.calls = Cosine(), 0

    def __call__(self, x, t, told):
        self.calls += 1
        s, n = (like(c, x) for c in (self.schedule.signal(t), self.schedule.noise(t)))
        x0 = told[:, None, None, None] * torch.linspace(-1, 1, x[0].numel()).view_as(x[:1])
        return Pred(x0, (x - s * x0) / n)


def test_guidance_of_one_costs_one_call_and_an_interval_is_kept():
    x, cond, null = torch.randn(2, 3, 4, 4), {"told": torch.ones(2)}, {"told": torch.zeros(2)}
    for w, t, calls, factor in ((1.0, 500, 1, 1), (3.0, 500, 2, 3), (interval(3.0, 200, 600), 500, 2, 3),
                                (interval(3.0, 200, 600), 199, 1, 1), (interval(3.0, 200, 600), 601, 1, 1)):
        model = Two()
        out = guide(model, cond, null, w)(x, torch.tensor(t))
        assert model.calls == calls
        torch.testing.assert_close(out.x0[:, 0, 0, 0], torch.full((2,), -1.0 * factor))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_rescaled_guidance_has_the_spread_of_none(share):
    x, t = torch.randn(2, 3, 4, 4), torch.tensor(500)
    model = Two()
    plain = model(x, t, torch.ones(2))
    out = guide(model, {"told": torch.ones(2)}, {"told": torch.zeros(2)}, 3.0, rescale=share)(x, t)
    ratio = out.x0.flatten(1).std(1) / plain.x0.flatten(1).std(1)
    torch.testing.assert_close(ratio, torch.full((2,), 3 - 2 * share))
    s, n = model.schedule.signal(t).float(), model.schedule.noise(t).float()
    torch.testing.assert_close(s * out.x0 + n * out.eps, x)  # still one and the same x_t


@pytest.mark.parametrize("cond", [torch.rand(20_000, 3) + 1, torch.randint(1, 9, (20_000, 3))],
                         ids=["vectors", "token ids"])
def test_drop_takes_whole_samples_at_the_right_rate(cond):
    before = cond.clone()
    null = torch.zeros(3, dtype=cond.dtype)
    out = drop(cond, null, 0.1, generator=torch.Generator().manual_seed(0))
    gone = (out == 0)
    assert torch.equal(gone.any(1), gone.all(1))  # never half of a caption
    assert torch.equal(out[~gone.any(1)], cond[~gone.any(1)]) and out.dtype == cond.dtype
    # 20,000 coins of 0.1: standard error 0.0021, four of them
    assert abs(gone[:, 0].float().mean().item() - 0.1) < 4 * 0.0021
    assert torch.equal(cond, before)  # not in place
    assert torch.equal(drop(cond, null, 0.0), cond) and (drop(cond, null, 1.0) == 0).all()
