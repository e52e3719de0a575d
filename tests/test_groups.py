"""Groups of look-alikes, and the network that is told them."""
import pytest
import torch

from course_lib import data, recipes
from course_lib.groups import directions, kmeans
from course_lib.samplers import dpmpp_2m, sample
from course_lib.unet import UNet


def clouds(per=(50, 30, 20), seed=0):
    """Three round clouds far apart, (N, 2), and which point is of which."""
    g = torch.Generator().manual_seed(seed)
    which = torch.repeat_interleave(torch.arange(3), torch.tensor(per))
    middle = torch.tensor([[10.0, 0.0], [-10.0, 5.0], [0.0, -12.0]])
    return middle[which] + 0.5 * torch.randn(len(which), 2, generator=g), which


def test_directions_keep_angles_and_forget_lengths():
    """With all axes kept, two latents have the angle that they have seen from the mean."""
    z = torch.randn(40, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    y, flat = directions(z, 12), z.flatten(1) - z.flatten(1).mean(0)
    torch.testing.assert_close(y.norm(dim=1), torch.ones(40))
    cosine = torch.nn.functional.cosine_similarity(flat[:, None], flat[None], dim=2)
    torch.testing.assert_close(y @ y.T, cosine, atol=1e-4, rtol=0)


def test_directions_keep_the_axes_of_largest_variance():
    z = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 9, 1, 1, 8, 1.0])
    y = directions(z, 2)
    seen = torch.nn.functional.normalize((z - z.mean(0))[:, [1, 4]], dim=1)
    assert ((y @ y.T) - (seen @ seen.T)).abs().mean() < 0.05


def test_kmeans_finds_clouds_and_their_shares():
    """Weights count: the small cloud of heavy points has the largest share."""
    y, which = clouds()
    weights = torch.tensor([1.0, 1.0, 10.0])[which]
    best = max((kmeans(y, weights, 3, seed=s) for s in range(5)), key=lambda r: r[1].min())
    group, share = best
    for k in range(3):
        assert group[which == k].unique().numel() == 1
    cloud = torch.stack([which[group == k][0] for k in range(3)])
    expected = torch.tensor([50, 30, 200.0])[cloud] / 280
    torch.testing.assert_close(share, expected)


def test_no_group_stays_empty_where_there_are_points_enough():
    """Twins at the start: two centres on one spot, of which one loses all its points and moves on."""
    y = torch.cat([torch.zeros(200, 2), clouds()[0]])
    _, share = kmeans(y, torch.ones(len(y)), 8)
    assert (share > 0).sum() >= 7
    torch.testing.assert_close(share.sum(), torch.tensor(1.0))


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match=r"5 points can form 1 \.\. 5 groups, not 6"):
        kmeans(torch.randn(5, 2), torch.ones(5), 6)
    with pytest.raises(ValueError, match="latents of 6 numbers have no 7 principal axes"):
        directions(torch.randn(9, 6), 7)


def told():
    torch.manual_seed(0)
    net = UNet((8, 16), channels=4, groups=5)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return net


def test_a_network_is_told_the_group_and_no_label_is_the_last_number():
    net, x, t = told(), torch.randn(3, 4, 8, 8), torch.tensor([10, 500, 900])
    none = net(x, t)
    assert torch.equal(none, net(x, t, label=torch.tensor([5, 5, 5])))
    out = net(x, t, label=torch.tensor([1, 5, 5]))
    torch.testing.assert_close(out[1:], none[1:])
    assert not torch.allclose(out[0], none[0], atol=1e-3)
    untrained = UNet((8, 16), channels=4, groups=5)
    assert torch.equal(untrained(x, t, label=torch.tensor([1, 2, 3])), torch.zeros_like(x))


@pytest.mark.parametrize("label", [torch.tensor([0, 1]), torch.tensor([0, 1, 6]), torch.tensor([0, 1, -1]),
                                   torch.tensor([0.0, 1.0, 2.0])])
def test_a_bad_label_is_named(label):
    with pytest.raises(ValueError, match=r"label must be 3 whole numbers in 0 .. 5 \(no group\), given"):
        told()(torch.randn(3, 4, 8, 8), torch.tensor([1, 2, 3]), label=label)


def test_the_shipped_network_obeys_its_group():
    """Two noises of one group end nearer to each other than the same noise in two groups."""
    ldm = recipes.load("ldm64")
    torch.testing.assert_close(ldm.net.share.sum(), torch.tensor(1.0), atol=1e-3, rtol=0)
    label = ldm.net.share.topk(6).indices.repeat(2)
    noise = torch.randn(12, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        *_, last = sample(lambda x, t: ldm(x, t, label=label), ldm.schedule, noise, 8, dpmpp_2m())
    z = torch.nn.functional.normalize(last.x.flatten(1), dim=1)
    same = (z[:6] * z[6:]).sum(1).mean()
    assert same > (z[:6] @ z[6:].T).mean() + 0.2


def test_the_recipe_gives_every_picture_its_group(monkeypatch):
    """Its batches are pairs, and the shares are those of the training pictures, however they are drawn."""
    g = torch.Generator().manual_seed(0)
    weights = data.emoji(64).weights()
    z = torch.randn(len(weights), 8, 8, 8, generator=g)
    monkeypatch.setattr(recipes, "latents", lambda codec, split="train": z)
    plan = recipes.ldm64()
    x, label = next(plan.batches(None))
    assert x.shape == (64, 8, 8, 8) and label.shape == (64,) and label.dtype == torch.long
    share = plan.model.net.share
    torch.testing.assert_close(share.sum(), torch.tensor(1.0))
    assert share.max() > 1 / 512 > share.min()
    row = (z.flatten(1) == x[0].flatten()).all(1).nonzero()[0, 0]
    group, _ = kmeans(directions(z), weights, 512)
    assert label[0] == group[row]
    assert plan.loss(plan.model, (x, label)).ndim == 0
