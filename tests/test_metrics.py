"""Distances between distributions and sets: known values, published implementations, properties."""
import math
import warnings

import numpy as np
import prdc
import pytest
import scipy.linalg
import scipy.stats
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.multimodal.clip_score import CLIPScore

from course_lib import data, recipes
from course_lib.metrics import (
    clip_score,
    cmmd,
    energy_distance,
    frechet,
    frechet_gaussians,
    gaussian,
    kid,
    kl_gaussian,
    kl_histogram,
    kl_samples,
    mmd,
    precision_recall,
    psnr,
    random_features,
)
from course_lib.nets.text import Tokens


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_energy_distance_of_shifted_points():
    """Two points each, by hand: 2 * mean|x - y| - |x - x'| - |y - y'|."""
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [5.0]])
    assert energy_distance(x, y) == pytest.approx(2 * (3 + 5 + 2 + 4) / 4 - 1 - 2)


def test_energy_distance_is_zero_on_average_for_equal_distributions():
    found = torch.tensor([energy_distance(normal(40, 3, seed=2 * s), normal(40, 3, seed=2 * s + 1))
                          for s in range(60)])
    assert found.mean().abs() < 3 * found.std() / 60**0.5
    assert energy_distance(normal(40, 3), normal(40, 3, seed=1) + 1) > found.max()


def overlap_by_loops(real, fake, k):
    """The same, point by point."""
    ball = lambda x: [sorted((x - p).norm(dim=1).tolist())[k] for p in x]
    r_real, r_fake = ball(real), ball(fake)
    inside = [[(a - b).norm().item() < r for b in fake] for a, r in zip(real, r_real, strict=True)]
    return (sum(any(col) for col in zip(*inside, strict=True)) / len(fake),
            sum(any((a - b).norm().item() < r for b, r in zip(fake, r_fake, strict=True)) for a in real)
            / len(real),
            sum(map(sum, inside)) / k / len(fake), sum(map(any, inside)) / len(real))


@pytest.mark.parametrize(("shift", "k", "m"), [(0.0, 5, 60), (1.5, 3, 45), (9.0, 5, 80)])
def test_precision_recall_point_by_point(shift, k, m):
    real, fake = normal(60, 4), normal(m, 4, seed=1) + shift
    assert precision_recall(real, fake, k) == pytest.approx(overlap_by_loops(real, fake, k), abs=1e-6)


def test_precision_recall_tells_quality_from_variety():
    """A copy machine of a few points has precision and no recall; far noise has neither."""
    real = normal(200, 2)
    few = real[:10].repeat(20, 1) + 1e-3 * normal(200, 2, seed=1)
    found = precision_recall(real, few)
    assert found.precision == 1 and found.recall < 0.2 and found.coverage < 0.5
    same = precision_recall(real, normal(200, 2, seed=2))
    assert same.precision > 0.8 and same.recall > 0.8 and 0.8 < same.density < 1.2 and same.coverage > 0.8
    assert precision_recall(real, normal(200, 2, seed=3) + 50) == (0, 0, 0, 0)


def test_random_features():
    x = normal(3, 3, 64, 64).float()
    assert random_features(x).shape == (3, 2048)
    assert torch.equal(random_features(x), random_features(x))
    assert not torch.equal(random_features(x), random_features(x, seed=1))


@pytest.mark.parametrize("f", [energy_distance, precision_recall, frechet, kid])
@pytest.mark.parametrize("x, y", [((9, 3), (9, 4)), ((9, 3), (1, 3)), ((9,), (9,))])
def test_bad_sets_are_named(f, x, y):
    with pytest.raises(ValueError, match=r"\d"):
        f(torch.zeros(x), torch.zeros(y))


@pytest.mark.parametrize("f", [energy_distance, precision_recall, frechet, kid])
def test_features_that_are_not_finite(f):
    x = normal(9, 3)
    x[4, 1] = math.nan
    with pytest.raises(ValueError, match=r"1 of 9 .* not finite"):
        f(normal(9, 3, seed=1), x)


# ---- Against published implementations -----------------------------------------------------------

def covariance(d, seed):
    a = normal(d, d, seed=seed)
    return a @ a.T + 0.1 * torch.eye(d)


@pytest.mark.parametrize("d", [1, 3, 8])
def test_kl_gaussian_is_torch_distributions(d):
    m1, m2, S1, S2 = normal(d), normal(d, seed=1), covariance(d, 2), covariance(d, 3)
    p, q = (torch.distributions.MultivariateNormal(m, S) for m, S in ((m1, S1), (m2, S2)))
    truth = torch.distributions.kl_divergence(p, q).item()
    assert kl_gaussian(m1, S1, m2, S2) == pytest.approx(truth, rel=1e-10)
    assert kl_gaussian(m1, S1, m1, S1) == pytest.approx(0, abs=1e-10)
    assert kl_gaussian(m1, S1, m2, S2) != pytest.approx(kl_gaussian(m2, S2, m1, S1), rel=0.01)


def test_kl_samples_within_three_standard_errors():
    p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(0.7, 1.5)
    x = normal(4000)
    found, error = kl_samples(p.log_prob, q.log_prob, x)
    truth = torch.distributions.kl_divergence(p, q).item()
    assert abs(found - truth) < 3 * error < 0.2 * truth


def test_kl_histogram_is_scipy_entropy():
    p, q = normal(9).abs(), normal(9, seed=1).abs()
    p[3] = 0  # 0 ln 0 = 0
    assert kl_histogram(p, q) == pytest.approx(scipy.stats.entropy(p, q), rel=1e-10)
    assert kl_histogram(q, p) == math.inf
    with pytest.raises(ValueError, match="histograms"):
        kl_histogram(p, -q)


def sqrtm_formula(real, fake):
    m1, m2 = real.mean(0), fake.mean(0)
    S1, S2 = np.cov(real.numpy().T), np.cov(fake.numpy().T)
    return ((m1 - m2) ** 2).sum().item() + np.trace(S1 + S2 - 2 * scipy.linalg.sqrtm(S1 @ S2).real)


def test_frechet_is_the_formula_with_sqrtm():
    real, fake = normal(300, 12), normal(200, 12, seed=1) @ normal(12, 12, seed=2) + 0.3
    assert frechet(real, fake) == pytest.approx(sqrtm_formula(real, fake), rel=1e-6)
    assert frechet(real, real) == pytest.approx(0, abs=1e-8)


class Flat(torch.nn.Module):
    """Pictures (N, 3, 2, 2) as their own features."""
    num_features = 12

    def forward(self, x):
        return x.flatten(1)


def test_frechet_and_kid_are_torchmetrics():
    real, fake = normal(80, 12).float(), 1.3 * normal(70, 12, seed=1).float() + 0.2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fid = FrechetInceptionDistance(feature=Flat(), normalize=True, input_img_size=(3, 2, 2))
        kernel = KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=70, normalize=True)
    for metric in (fid, kernel):
        metric.inception = Flat()  # without the rescaling to 0 .. 255
        metric.normalize = False
        metric.update(real[:70].reshape(-1, 3, 2, 2), real=True)
        metric.update(fake.reshape(-1, 3, 2, 2), real=False)
    assert frechet(real[:70], fake) == pytest.approx(fid.compute().item(), rel=1e-4)
    assert kid(real[:70], fake, subsets=1)[0] == pytest.approx(kernel.compute()[0].item(), rel=1e-4, abs=1e-6)


def test_precision_recall_is_prdc():
    real, fake = normal(90, 5), 0.8 * normal(70, 5, seed=1) + 0.4
    theirs = prdc.compute_prdc(real.numpy(), fake.numpy(), nearest_k=5)
    found = precision_recall(real, fake, 5)._asdict()
    assert found == pytest.approx(theirs, abs=1e-6)


class Renamed(torch.nn.Module):
    """Our CLIP under the names of transformers' CLIPModel and, when it is called, of its processor."""
    config = None

    def __init__(self, clip):
        super().__init__()
        self.clip = clip

    def forward(self, images=None, text=None, **_):
        if text is not None:
            return dict(zip(("input_ids", "attention_mask"), self.clip.tokenizer(text), strict=True))
        return {"pixel_values": data.to_float(torch.stack(images))}

    def get_image_features(self, x):
        return self.clip.pictures(x)

    def get_text_features(self, ids, mask):
        return self.clip.texts(Tokens(ids, mask))


@torch.no_grad()
def test_clip_score_is_torchmetrics():
    """Pair by pair, because torchmetrics cuts off at 0 only after the mean."""
    clip, emoji = recipes.load("clip"), data.emoji(64)
    rows = range(0, len(emoji), len(emoji) // 24)
    pictures, captions = emoji.pictures[rows], [emoji.captions[i] for i in rows]
    metric = CLIPScore(lambda: (Renamed(clip), Renamed(clip)))
    for texts, least in ((captions, 50), (captions[1:] + captions[:1], 0)):
        ours = clip_score(clip.pictures(data.to_float(pictures)), clip.texts(texts))
        theirs = []
        for picture, text in zip(pictures, texts, strict=True):
            metric.reset()
            metric.update(picture, text)
            theirs.append(metric.compute().item())
        assert ours.tolist() == pytest.approx(theirs, rel=1e-5, abs=1e-5)
        assert ours.min() >= least
    assert (ours == 0).any() and ours.mean() < 20  # the wrong captions


# ---- Properties ----------------------------------------------------------------------------------

def test_frechet_by_hand_and_without_imaginary_numbers():
    one = lambda m, s: (torch.tensor([m]), torch.tensor([[s**2]]))
    assert frechet_gaussians(*one(1.0, 2.0), *one(4.0, 0.5)) == pytest.approx(3**2 + 1.5**2)  # 1-D
    few = normal(5, 20), normal(5, 20, seed=1)
    with pytest.warns(UserWarning, match="5 samples in 20 dimensions"):
        found = frechet(*few)
    assert math.isfinite(found) and found > 0
    m, S = gaussian(normal(50, 3))
    assert m.shape == (3,) and torch.allclose(S, torch.cov(normal(50, 3).T))


def test_frechet_of_gaussians_that_lie_askew():
    """In closed form: two with the same axes, and two of which neither can be turned to fit the other, where
    tr (S1 S2)^1/2 = sqrt(tr(S1 S2) + 2 sqrt(det S1 S2)), as for every product of two 2 x 2 matrices."""
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]]).double()
    at = lambda *v: torch.tensor(v).double()
    S1, S2 = turn @ torch.diag(at(4, 9)) @ turn.T, turn @ torch.diag(at(1, 16)) @ turn.T
    assert frechet_gaussians(at(1, 2), S1, at(4, 6), S2) == pytest.approx(5**2 + (2 - 1) ** 2 + (3 - 4) ** 2)
    S3 = torch.diag(at(1, 16))
    product = S1 @ S3
    root = (product.trace() + 2 * product.det().sqrt()).sqrt().item()
    assert frechet_gaussians(at(1, 2), S1, at(4, 6), S3) == pytest.approx(25 + 13 + 17 - 2 * root)


def test_the_neighbourhoods_of_points_on_a_line_by_hand():
    """k = 1. Real 0, 1, 3 and 20 have radii 1, 1, 2, 17; fake 0.5, 2, 9 have 1.5, 1.5, 7. So 0.5 lies in two
    real balls (of 0 and 1), 2 in one (of 3; 1 is exactly a radius away, and that is outside), 9 in one (of
    20). 0, 1 and 3 lie in fake balls, 20 in none."""
    real, fake = (torch.tensor(v)[:, None] for v in ([0.0, 1, 3, 20], [0.5, 2, 9]))
    assert precision_recall(real, fake, 1) == pytest.approx((1, 3 / 4, (2 + 1 + 1) / 3, 1))
    found = precision_recall(real, torch.tensor([0.5, 2, 40])[:, None], 1)  # the ball of 40 has radius 38
    assert found == pytest.approx((2 / 3, 1, (2 + 1) / 3, 3 / 4))


def test_kid_of_three_points_by_hand():
    """k(a, b) = (a b + 1)^3. Within 0, 1, 2: (1 + 1 + 27) / 3; within 1, 2, 3: (27 + 64 + 343) / 3; between
    them (3 + 8 + 27 + 64 + 27 + 125 + 343) / 9, twice."""
    x = torch.tensor([[0.0], [1], [2]])
    assert kid(x, x + 1, subsets=1)[0] == pytest.approx(29 / 3 + 434 / 3 - 2 * 597 / 9)


def test_kid_takes_subsets_of_half_of_the_smaller_set(monkeypatch):
    sizes = []
    monkeypatch.setattr("course_lib.metrics.mmd", lambda x, y, kernel: sizes.append((len(x), len(y))) or 0.0)
    kid(normal(9, 2), normal(20, 2))
    assert sizes == [(4, 4)] * 50
    sizes.clear()
    kid(normal(9, 2), normal(20, 2), subsets=1)
    kid(normal(9, 2), normal(20, 2), subsets=2, subset_size=7)
    assert sizes == [(9, 9), (7, 7), (7, 7)]


def test_kid_is_unbiased_and_its_error_is_honest():
    found = torch.tensor([kid(normal(60, 4, seed=2 * s), normal(60, 4, seed=2 * s + 1), subsets=1)[0]
                          for s in range(200)])
    assert found.mean().abs() < 3 * found.std() / 200**0.5
    assert (found < 0).any()
    mean, error = kid(normal(200, 4), normal(200, 4, seed=1) + 1, subsets=20, subset_size=50,
                      generator=torch.Generator().manual_seed(0))
    assert mean > 10 * error > 0
    assert math.isnan(kid(normal(20, 4), normal(20, 4, seed=1), subsets=1)[1])
    with pytest.raises(ValueError, match=r"subset_size, .* given 99"):
        kid(normal(20, 4), normal(20, 4), subset_size=99)


@pytest.mark.parametrize("unbiased", [True, False])
def test_cmmd_is_its_formula(unbiased):
    x, y = normal(30, 6), normal(25, 6, seed=1) + 0.5
    a, b = (z / z.norm(dim=1, keepdim=True) for z in (x, y))
    k = lambda u, v: math.exp(-((u - v) ** 2).sum().item() / 200)
    same = lambda z: [k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j or not unbiased]
    mean = lambda v: sum(v) / len(v)
    formula = mean(same(a)) + mean(same(b)) - 2 * mean([k(u, v) for u in a for v in b])
    assert cmmd(x, y, unbiased=unbiased) == pytest.approx(1000 * formula, rel=1e-6)


def test_the_biased_mmd_is_never_negative():
    kernel = lambda a, b: torch.exp(-torch.cdist(a, b) ** 2)
    pairs = [(normal(20, 2, seed=s), normal(20, 2, seed=s + 50)) for s in range(20)]
    assert min(mmd(x, y, kernel, unbiased=False) for x, y in pairs) >= 0
    assert min(mmd(x, y, kernel) for x, y in pairs) < 0


def test_clip_score():
    a = torch.tensor([[1.0, 0], [3, 0], [0, 1]])
    b = torch.tensor([[1.0, 1], [2, 0], [0, -1]])
    assert torch.allclose(clip_score(a, b), torch.tensor([100 / 2**0.5, 100, 0]))
    with pytest.raises(ValueError, match="text for every picture"):
        clip_score(a, b[:2])


def test_psnr_of_each_picture_by_hand():
    """10 lg(2^2 / mse): an error of 0.2 everywhere is 20 dB; what cannot be shown is clipped first."""
    y = torch.zeros(4, 3, 8, 8)
    x = y + torch.tensor([0.2, 0.02, 5.0, 0.0])[:, None, None, None]
    assert psnr(x, y).tolist() == pytest.approx([20, 40, 10 * math.log10(4), math.inf], rel=1e-5)


def test_as_many_samples_as_dimensions_are_too_few_for_frechet():
    """The mean takes one away: the covariance of d samples is singular."""
    with pytest.warns(UserWarning, match="5 samples in 5 dimensions"):
        frechet(normal(5, 5), normal(9, 5, seed=1))


def test_cmmd_is_the_biased_one_by_default():
    x, y = normal(9, 3), normal(7, 3, seed=1)
    assert cmmd(x, y) == cmmd(x, y, unbiased=False) != cmmd(x, y, unbiased=True)


def test_what_cannot_be_compared_is_named():
    """Shapes that PyTorch would stretch to each other."""
    with pytest.raises(ValueError, match=r"equal shape, .*got \(4,\) and \(1,\)"):
        kl_histogram(torch.ones(4), torch.ones(1))
    with pytest.raises(ValueError, match=r"pictures of one shape, given \(4, 3, 2, 2\) and \(1, 3, 2, 2\)"):
        psnr(torch.zeros(4, 3, 2, 2), torch.zeros(1, 3, 2, 2))
