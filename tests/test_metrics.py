"""Distances between sets of samples: known values, properties, and a second way to compute them."""
import pytest
import torch

from course_lib.metrics import energy_distance, overlap, random_features


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
def test_overlap_point_by_point(shift, k, m):
    real, fake = normal(60, 4), normal(m, 4, seed=1) + shift
    assert overlap(real, fake, k) == pytest.approx(overlap_by_loops(real, fake, k), abs=1e-6)


def test_overlap_tells_quality_from_variety():
    """A copy machine of a few points has precision and no recall; far noise has neither."""
    real = normal(200, 2)
    few = real[:10].repeat(20, 1) + 1e-3 * normal(200, 2, seed=1)
    found = overlap(real, few)
    assert found.precision == 1 and found.recall < 0.2 and found.coverage < 0.5
    same = overlap(real, normal(200, 2, seed=2))
    assert same.precision > 0.8 and same.recall > 0.8 and 0.8 < same.density < 1.2 and same.coverage > 0.8
    assert overlap(real, normal(200, 2, seed=3) + 50) == (0, 0, 0, 0)


def test_random_features():
    x = normal(3, 3, 64, 64).float()
    assert random_features(x).shape == (3, 2048)
    assert torch.equal(random_features(x), random_features(x))
    assert not torch.equal(random_features(x), random_features(x, seed=1))


@pytest.mark.parametrize("f", [energy_distance, overlap])
@pytest.mark.parametrize("x, y", [((9, 3), (9, 4)), ((9, 3), (1, 3)), ((9,), (9,))])
def test_bad_sets_are_named(f, x, y):
    with pytest.raises(ValueError, match=r"\d"):
        f(torch.zeros(x), torch.zeros(y))
