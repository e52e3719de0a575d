"""The toys: clouds of points, and mixtures whose exact denoiser is a formula."""
import pytest
import torch

from course_lib.guidance import clip_x0
from course_lib.schedules import DDPM, EDM, Flow
from course_lib.toys import GaussianMixture, toy2d


@pytest.mark.parametrize("name", ["moons", "spiral", "ring", "checkerboard"])
def test_toy2d(name):
    draw = lambda seed, n=2000: toy2d(name, n, torch.Generator().manual_seed(seed))
    x = draw(0)
    assert x.shape == (2000, 2) and x.dtype == torch.float32
    assert torch.equal(x, draw(0)) and not torch.equal(x, draw(1))
    assert x.mean(0).abs().max() < 0.35 and x.std(0).min() > 0.4 and x.abs().max() < 2.5
    assert draw(0, 1).shape == (1, 2)


def test_unknown_toy():
    with pytest.raises(ValueError, match=r"unknown toy 'swiss'.*'spiral'"):
        toy2d("swiss", 10)


MIX = GaussianMixture([1, 3], torch.tensor([[-1.0, 0.0, 0.5], [1.0, 0.5, 0.0]]).double(), [0.3, 0.6])


def test_mixture_density_and_samples():
    """log_prob against torch.distributions; the moments of samples within 4 standard errors."""
    d = torch.distributions
    noised = d.MixtureSameFamily(
        d.Categorical(torch.tensor([0.25, 0.75]).double()),
        d.Independent(d.Normal(0.8 * MIX.means, ((0.8 * MIX.std) ** 2 + 0.3**2).sqrt()[:, None]
                               .expand(2, 3)), 1))
    x = torch.randn(50, 3, dtype=torch.float64)
    torch.testing.assert_close(MIX.log_prob(x, 0.8, 0.3), noised.log_prob(x))
    y = MIX.sample(40_000, torch.Generator().manual_seed(0))
    mean = 0.25 * MIX.means[0] + 0.75 * MIX.means[1]
    assert ((y.mean(0) - mean).abs() < 4 * y.std(0) / 200).all()
    second = 0.25 * (MIX.means[0] ** 2 + 0.09) + 0.75 * (MIX.means[1] ** 2 + 0.36)
    assert (((y**2).mean(0) - second).abs() < 4 * (y**2).std(0) / 200).all()


@pytest.mark.parametrize(("a", "s"), [(1.0, 0.0), (0.8, 0.6), (0.1, 0.9), (1.0, 20.0), (0.0, 1.0)])
def test_mixture_score_is_the_gradient(a, s):
    x = (torch.randn(50, 3, dtype=torch.float64) * (a + s)).requires_grad_()
    gradient, = torch.autograd.grad(MIX.log_prob(x, a, s).sum(), x)
    torch.testing.assert_close(MIX.score(x.detach(), a, s), gradient)


@pytest.mark.parametrize(("schedule", "t"), [
    (DDPM(), torch.tensor(1)), (DDPM(), torch.tensor(500)), (EDM(), torch.tensor(3.0).double()),
    (Flow(), torch.tensor(0.7).double())])
def test_mixture_denoiser_is_tweedie(schedule, t):
    """E[x_0 given x_t] = (x_t + s^2 score) / a, E[eps given x_t] = -s score; and they fit together."""
    x = torch.randn(50, 3, dtype=torch.float64)
    a, s = schedule.signal(t), schedule.noise(t)
    x0, eps = MIX.denoiser(schedule)(x, t)
    torch.testing.assert_close(x0, (x + s**2 * MIX.score(x, a, s)) / a)
    torch.testing.assert_close(eps, -s * MIX.score(x, a, s))
    torch.testing.assert_close(a * x0 + s * eps, x)


def test_mixture_denoiser_minimises_the_error():
    """The posterior mean is checked by what it is for: no nearby guess has a smaller error."""
    g = torch.Generator().manual_seed(0)
    x0 = MIX.sample(20_000, g)
    eps = torch.randn(x0.shape, generator=g, dtype=x0.dtype)
    t = torch.tensor(0.5).double()
    guess = MIX.denoiser(Flow())(0.5 * x0 + 0.5 * eps, t).x0
    error = lambda y: ((y - x0) ** 2).mean()
    best = error(guess)
    for worse in (1.1 * guess, 0.9 * guess, guess + 0.05, guess - 0.05):
        assert error(worse) > best


def test_mixture_denoiser_without_signal_says_the_mean():
    x = torch.randn(50, 3, dtype=torch.float64)
    x0, eps = MIX.denoiser(Flow())(x, torch.tensor(1.0))
    mean = 0.25 * MIX.means[0] + 0.75 * MIX.means[1]
    torch.testing.assert_close(x0, mean.expand_as(x0))
    torch.testing.assert_close(eps, x)


@pytest.mark.parametrize("n", [0, -1, 2.5, None])
def test_a_wrong_number_of_points_is_named(n):
    with pytest.raises(ValueError, match="the number of points must be a whole number, at least 1; given"):
        toy2d("moons", n)


@pytest.mark.parametrize(("weights", "means", "std"), [
    ([1, 2], torch.zeros(3, 2), 0.3), ([1, -1, 1], torch.zeros(3, 2), 0.3),
    ([1, 1, 1], torch.zeros(3, 2), -0.3)])
def test_a_mixture_that_is_none_is_named(weights, means, std):
    with pytest.raises(ValueError, match=r"expected K weights of at least 0, K means \(K, d\)"):
        GaussianMixture(weights, means, std)


def test_points_follow_torchs_seed_or_the_generators():
    for make in (lambda g: toy2d("moons", 20, g), lambda g: MIX.sample(20, g)):
        torch.manual_seed(0)
        one, two = make(None), make(None)
        torch.manual_seed(0)
        assert torch.equal(one, make(None)) and not torch.equal(one, two)
        state = torch.get_rng_state()
        made = [make(torch.Generator().manual_seed(5)) for _ in range(2)]
        assert torch.equal(*made) and torch.equal(torch.get_rng_state(), state)


def test_the_exact_denoiser_knows_its_schedule():
    """So it can be guided, clipped and sampled as a network can."""
    schedule = Flow()
    denoise = MIX.denoiser(schedule)
    assert denoise.schedule is schedule
    x, t = torch.randn(4, 3, dtype=torch.float64), torch.tensor(0.5)
    torch.testing.assert_close(clip_x0(denoise, 0.1)(x, t).x0, denoise(x, t).x0.clamp(-0.1, 0.1))
    torch.testing.assert_close(denoise(x, t.expand(4)).x0, denoise(x, t).x0)


def test_the_checkerboard_has_points_on_its_black_squares_only():
    """4 x 4 squares of edge 1 / 2, and all eight black ones are used."""
    x = toy2d("checkerboard", 2000, torch.Generator().manual_seed(0))
    square = (2 * (x + 1)).floor().long()
    assert square.min() == 0 and square.max() == 3
    assert (square.sum(1) % 2 == 0).all() and len(square.unique(dim=0)) == 8


def test_moons_and_ring_are_as_thin_as_they_should_be():
    """The noise across: 0.07 around each half circle of radius 1, and 0.05 around the ring."""
    x = toy2d("moons", 4000, torch.Generator().manual_seed(0))
    middle = torch.tensor([[-0.5, 0.1], [0.5, -0.4]]).repeat(2000, 1)
    for radius, width in (((x - middle).norm(dim=1), 0.07),
                          (toy2d("ring", 4000, torch.Generator().manual_seed(1)).norm(dim=1), 0.05)):
        assert abs(radius.std() - width) < 4 * width / 8000**0.5 and abs(radius.mean() - 1) < 0.01
