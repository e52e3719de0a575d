"""Guidance: denoisers made of denoisers, alone and combined; dropping and damaging of conditions."""
import pytest
import torch
from torch import nn

from course_lib.denoiser import Denoiser, Pred, predict_v
from course_lib.guidance import (
    Composed,
    augment,
    autoguide,
    clip_x0,
    drop,
    dynamic_threshold,
    guide,
    interval,
    same_schedule,
    told,
)
from course_lib.samplers import ddpm, draw
from course_lib.schedules import DDPM, EDM, Cosine, Flow, like
from course_lib.toys import GaussianMixture


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
    with pytest.raises(ValueError, match=r"same schedule; these are DDPM with noise 0\.\d+ .*, and DDPM"):
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


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan"), None])
def test_a_wrong_share_to_drop_is_named(p):
    with pytest.raises(ValueError, match=r"p must be one number, in 0 \.\. 1; given"):
        drop(torch.ones(3), torch.tensor(0.0), p)


# ---- Held within the range of pictures -------------------------------------------------------------

WILD = [DDPM(100), Cosine(100), EDM(), Flow(), Flow(shift=3.0)]
NAMES = ["ddpm", "cosine", "edm", "flow", "flow3"]


def noisy(schedule, n=6):
    """Pictures of four times the usual size, noised, at one inner time."""
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(n, 1, 4, 4, generator=g) for _ in range(2))
    t = schedule.times(4)[1]
    return schedule.add_noise(4 * x0, t.expand(n), eps), t


@pytest.mark.parametrize("schedule", WILD, ids=NAMES)
@pytest.mark.parametrize("limit", [1.0, 0.5])
def test_a_clipped_picture_keeps_its_range_and_its_noise_follows(schedule, limit):
    """x0 in [-limit, limit], the same where it was there before, and s x0 + n eps = x_t."""
    def wild(x, t):
        s, n = schedule.signal(t).to(x), schedule.noise(t).to(x)
        x0 = torch.sin(3 * x) * 2
        return Pred(x0, (x - s * x0) / n)
    free = Composed(schedule, wild)
    x, t = noisy(schedule)
    plain, held = free(x, t), clip_x0(free, limit)(x, t)
    assert plain.x0.abs().max() > limit == held.x0.abs().max()
    inside = plain.x0.abs() < limit
    assert inside.any() and torch.equal(held.x0[inside], plain.x0[inside])
    torch.testing.assert_close(held.eps[inside], plain.eps[inside], rtol=1e-3, atol=1e-4)
    s, n = schedule.signal(t).to(x), schedule.noise(t).to(x)
    torch.testing.assert_close(s * held.x0 + n * held.eps, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("limit", [-1, float("nan"), None])
def test_a_wrong_limit_is_named(limit):
    with pytest.raises(ValueError, match="limit must be one number, at least 0; given"):
        clip_x0(Denoiser(Sine(), DDPM(10)), limit)


def test_a_dynamic_threshold_is_found_by_each_picture_for_itself():
    """A dull picture stays, of a wild one c is the quantile of |x0|; clipped to c and divided by it."""
    schedule = DDPM(10)
    g = torch.Generator().manual_seed(0)
    x0 = torch.randn(3, 3, 8, 8, generator=g) * torch.tensor([0.1, 2.0, -5.0]).view(3, 1, 1, 1)
    free = Composed(schedule, lambda x, t: Pred(x0, x))
    x, t = torch.randn(x0.shape, generator=g), torch.tensor(5)
    held = dynamic_threshold(free, 0.9)(x, t)
    assert torch.equal(held.x0[0], x0[0])
    for wild, out in zip(x0[1:], held.x0[1:], strict=True):
        c = wild.abs().flatten().sort().values[int(0.9 * 191)]
        assert (out.abs() >= 0.999).float().mean().item() == pytest.approx(0.1, abs=0.02)
        torch.testing.assert_close(out, (wild / c).clamp(-1, 1), atol=0.05, rtol=0)
    s, n = schedule.signal(t), schedule.noise(t)
    torch.testing.assert_close(s * held.x0 + n * held.eps, x, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"q must be one number, in 0 .. 1"):
        dynamic_threshold(free, 99.5)


# ---- Combined --------------------------------------------------------------------------------------

class Labelled(nn.Module):
    """Without weights; told c, or nothing."""

    def forward(self, x, t, c=None):
        return torch.sin(3 * x) + (0 if c is None else like(c, x))


@pytest.mark.parametrize("schedule", [*WILD[:2], EDM()], ids=NAMES[:3])
def test_guided_denoisers_are_denoisers_again(schedule):
    """guide of clip_x0 of autoguide of a told one, piece by piece; each knows the schedule and can draw."""
    strong, weak = Denoiser(Labelled(), schedule), Denoiser(Sine(2.0), schedule)
    a = autoguide(strong, weak, 2.0)
    b = clip_x0(told(autoguide(strong, weak, 2.0, c=torch.arange(6.0) / 9)), 0.8)
    c = guide(clip_x0(strong), {"c": torch.ones(6)}, {"c": torch.zeros(6)}, 3.0)
    d = autoguide(b, clip_x0(weak, 0.8), 1.5)
    e = guide(told(b), {}, {}, 2.0, rescale=0.5)
    x, t = noisy(schedule)
    s, n = schedule.signal(t).to(x), schedule.noise(t).to(x)
    for one in (a, b, c, d, e):
        assert one.schedule is schedule
        out = one(x, t)
        assert out.x0.isfinite().all()
        torch.testing.assert_close(s * out.x0 + n * out.eps, x, rtol=1e-3, atol=1e-3)
        assert draw(one, schedule, schedule.start(x.shape), 3).isfinite().all()
    plain, hint = weak(x, t).x0, torch.arange(6.0) / 9
    torch.testing.assert_close(a(x, t).x0, 2 * strong(x, t).x0 - plain)
    torch.testing.assert_close(b(x, t).x0, (2 * strong(x, t, c=hint).x0 - plain).clamp(-0.8, 0.8))
    one, zero = (strong(x, t, c=v * torch.ones(6)).x0.clamp(-1, 1) for v in (1, 0))
    torch.testing.assert_close(c(x, t).x0, 3 * one - 2 * zero)
    torch.testing.assert_close(d(x, t).x0, 1.5 * b(x, t).x0 - 0.5 * plain.clamp(-0.8, 0.8))


def test_told_fills_in_what_the_network_is_told():
    model, x, t = Denoiser(Labelled(), DDPM(10)), torch.randn(3, 1, 2, 2), torch.tensor(5)
    c = torch.tensor([1.0, 2.0, 3.0])
    filled = told(model, c=c)
    assert filled.schedule is model.schedule and torch.equal(filled(x, t).x0, model(x, t, c=c).x0)
    assert torch.equal(told(model)(x, t).x0, model(x, t).x0)


def test_a_bare_function_is_guided_where_no_schedule_is_needed():
    """And where one is, the error says how to give it one."""
    bare = lambda x, t, c=0.0: Pred(x + c, x)
    x, t = torch.randn(3, 1, 2, 2), torch.tensor(5)
    guided = guide(bare, {"c": 1.0}, {"c": 0.5}, 3.0)
    assert guided.schedule is None and told(bare, c=2.0).schedule is None
    torch.testing.assert_close(guided(x, t).x0, x + 2)
    torch.testing.assert_close(told(bare, c=2.0)(x, t).x0, x + 2)
    torch.testing.assert_close(draw(guided, DDPM(10), x, 1), x + 2)
    strong = Denoiser(Sine(), DDPM(10))
    for build in (lambda: clip_x0(bare), lambda: autoguide(bare, strong, 2.0), lambda: clip_x0(guided),
                  lambda: autoguide(strong, bare, 2.0), lambda: guide(bare, {}, {}, 2.0, rescale=0.5)):
        with pytest.raises(ValueError, match=r"knows its schedule; .* guidance.Composed\(schedule, f\)"):
            build()
    assert clip_x0(Composed(DDPM(10), bare))(9 + x, t).x0.max() <= 1


PAIR = GaussianMixture([1, 1], torch.tensor([[-1.0, 0.5, 0.2], [1.0, -0.5, 0.4]]).double(), [0.2, 0.3])


def exact(schedule):
    """The best denoiser that is told of which of two Gaussians, 0 or 1, a point is; told 2, it knows nothing.
    """
    ones = [GaussianMixture([1], PAIR.means[k:k + 1], [PAIR.std[k].item()]) for k in range(2)]
    parts = [one.denoiser(schedule) for one in (*ones, PAIR)]

    def call(x, t, label):
        every = [part(x, t) for part in parts]
        chosen = [[p[row] for p in every[k]] for row, k in enumerate(label.tolist())]
        return Pred(*map(torch.stack, zip(*chosen, strict=True)))
    return Composed(schedule, call)


@pytest.mark.parametrize("schedule", [DDPM(), EDM(sigma_max=20.0), Flow()], ids=["ddpm", "edm", "flow"])
def test_no_guidance_draws_the_exact_part_of_a_mixture(schedule):
    """w = 1: mean and variance of part 1, within four standard errors; more w goes beyond it."""
    model, n = exact(schedule), 1500
    one, both = {"label": torch.ones(n).long()}, {"label": torch.full((n,), 2)}
    x = schedule.start((n, 3), torch.Generator().manual_seed(0)).double()
    step = lambda: ddpm(generator=torch.Generator().manual_seed(1))
    end = draw(guide(model, one, both, 1.0), schedule, x, 60, step())
    assert ((end.mean(0) - PAIR.means[1]).abs() < 4 * 0.3 / n**0.5 + 0.01).all()
    far = draw(guide(model, one, both, 4.0), schedule, x, 60, step())
    away = PAIR.means[1] - PAIR.means[0]
    assert ((far - end).mean(0) @ away) > 0.01


@pytest.mark.parametrize("schedule", [DDPM(), EDM(), Flow()], ids=["ddpm", "edm", "flow"])
@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescaled_guidance_of_an_exact_mixture(schedule, share):
    """By hand, at every time: x0_hat of w = 5 with the spread that it has at w = 1, or a share of the way."""
    model, n = exact(schedule), 40
    label, none = torch.arange(n) % 2, torch.full((n,), 2)
    guided = guide(model, {"label": label}, {"label": none}, 5.0, rescale=share)
    for t in schedule.times(6)[:-1]:
        x = schedule.add_noise(PAIR.sample(n, torch.Generator().manual_seed(0)), t.expand(n),
                               torch.randn(n, 3, generator=torch.Generator().manual_seed(1)).double())
        with_text, without = model(x, t, label=label).x0, model(x, t, label=none).x0
        mixed = without + 5 * (with_text - without)
        ratio = with_text.std(1, keepdim=True) / mixed.std(1, keepdim=True)
        out = guided(x, t)
        torch.testing.assert_close(out.x0, (share * ratio + 1 - share) * mixed, rtol=1e-6, atol=1e-6)
        s, noise = schedule.signal(t).double(), schedule.noise(t).double()
        torch.testing.assert_close(s * out.x0 + noise * out.eps, x, rtol=1e-6, atol=1e-6)


def test_rescaling_a_picture_of_one_colour_changes_nothing():
    """It has no spread to give back: 0 / 0 must not become NaN."""
    white = Composed(DDPM(10), lambda x, t: Pred(torch.ones_like(x), x))
    x = torch.randn(2, 3, 4, 4)
    out = guide(white, {}, {}, 3.0, rescale=0.7)(x, torch.tensor(5))
    torch.testing.assert_close(out.x0, torch.ones_like(x))
    assert out.eps.isfinite().all()


# ---- One schedule ----------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [lambda: DDPM(100), lambda: DDPM(5), lambda: Cosine(1), EDM, Flow,
                                  lambda: Flow(shift=3.0)])
def test_a_schedule_is_the_same_as_one_made_alike(make):
    same_schedule(make(), make())


def test_the_times_that_are_visited_may_differ():
    same_schedule(Flow(), Flow(shift=3.0))
    same_schedule(EDM(), EDM(sigma_max=10.0))


@pytest.mark.parametrize(("one", "other"), [
    (DDPM(2, torch.tensor([0.1, 0.3])), DDPM(2, torch.tensor([0.3, 0.1]))),  # one end, another way there
    (DDPM(100), Cosine(100)), (DDPM(100), DDPM(1000)), (DDPM(5), DDPM(6)), (EDM(), EDM(sigma_data=1.0)),
    (Flow(), EDM()), (DDPM(), Flow())])
def test_other_schedules_are_named(one, other):
    with pytest.raises(ValueError, match=f"the same schedule; these are {type(one).__name__} .*, and "
                                         f"{type(other).__name__} "):
        same_schedule(one, other)


def test_a_weaker_model_of_another_schedule_is_refused_when_combined_too():
    strong, weak = Denoiser(Sine(), DDPM(10), predict_v), clip_x0(Denoiser(Sine(), Cosine(10)))
    with pytest.raises(ValueError, match="both must have the same schedule"):
        autoguide(strong, weak, 2.0)


# ---- Wrong numbers -----------------------------------------------------------------------------------

@pytest.mark.parametrize("w", [float("nan"), float("inf"), "3", None, torch.ones(2)])
def test_a_wrong_scale_is_named(w):
    model = Denoiser(Sine(), DDPM(10))
    for build in (lambda: guide(model, {}, {}, w), lambda: autoguide(model, model, w),
                  lambda: interval(w, 0, 1)):
        with pytest.raises(ValueError, match="w, the guidance scale, must be one number, finite; given"):
            build()


@pytest.mark.parametrize("rescale", [-0.1, 1.1, float("nan")])
def test_a_wrong_rescale_is_named(rescale):
    with pytest.raises(ValueError, match=r"rescale must be one number, in 0 \.\. 1; given"):
        guide(Denoiser(Sine(), DDPM(10)), {}, {}, 2.0, rescale)


@pytest.mark.parametrize(("low", "high"), [(600, 200), (0, float("nan"))])
def test_an_interval_that_is_none_is_named(low, high):
    with pytest.raises(ValueError, match=r"an interval needs low <= high, given|high must be one number"):
        interval(3.0, low, high)


# ---- Damaged pictures --------------------------------------------------------------------------------

def test_augment_mixes_in_its_share_of_noise():
    """sqrt(1 - level^2) picture + level noise: each picture with its own level; unit variance stays."""
    x = torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4).repeat(4, 1, 1, 1)
    level = torch.tensor([0.0, 0.3, 0.8, 1.0])
    torch.manual_seed(0)
    drawn = torch.stack([augment(x, level) for _ in range(4000)])
    keep, much = (1 - level**2).sqrt()[:, None, None, None], level[:, None, None, None]
    error = (drawn.mean(0) - keep * x).abs()
    assert (error <= 5 * much / 4000**0.5 + 1e-6).all()
    spread = (drawn - keep * x).flatten(2).std((0, 2))
    torch.testing.assert_close(spread, level, atol=0.01, rtol=0.01)
    assert torch.equal(drawn[0, 0], x[0])


@pytest.mark.parametrize("level", [torch.tensor([0.5]), torch.tensor(0.5), torch.tensor([0.5, 1.1]),
                                   torch.tensor([-0.1, 0.5]), torch.tensor([float("nan"), 0.5])])
def test_a_wrong_level_is_named(level):
    with pytest.raises(ValueError, match=r"level must be 2 numbers in 0 \.\. 1, one a picture, given"):
        augment(torch.zeros(2, 3, 4, 4), level)


def test_the_ends_of_an_interval_belong_to_it():
    w = interval(3.0, 200, 600)
    assert [w(t) for t in (199, 200, 600, 601)] == [1.0, 3.0, 3.0, 1.0]
