"""Groups of look-alikes, and the network that is told them."""
from functools import partial

import pytest
import torch

from course_lib import data, recipes
from course_lib.clusters import kmeans, unit_pca
from course_lib.nets.unet import ClassEmbed, UNet
from course_lib.samplers import dpmpp_2m, draw


def clouds(per=(50, 30, 20), seed=0):
    """Three round clouds far apart, (N, 2), and which point is of which."""
    g = torch.Generator().manual_seed(seed)
    which = torch.repeat_interleave(torch.arange(3), torch.tensor(per))
    middle = torch.tensor([[10.0, 0.0], [-10.0, 5.0], [0.0, -12.0]])
    return middle[which] + 0.5 * torch.randn(len(which), 2, generator=g), which


def test_unit_pca_keeps_angles_and_forgets_lengths():
    """With all axes kept, two latents have the angle that they have seen from the mean."""
    z = torch.randn(40, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    y, flat = unit_pca(z, 12), z.flatten(1) - z.flatten(1).mean(0)
    torch.testing.assert_close(y.norm(dim=1), torch.ones(40))
    cosine = torch.nn.functional.cosine_similarity(flat[:, None], flat[None], dim=2)
    torch.testing.assert_close(y @ y.T, cosine, atol=1e-4, rtol=0)


def test_unit_pca_keeps_the_axes_of_largest_variance():
    z = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([1, 9, 1, 1, 8, 1.0])
    y = unit_pca(z, 2)
    seen = torch.nn.functional.normalize((z - z.mean(0))[:, [1, 4]], dim=1)
    assert ((y @ y.T) - (seen @ seen.T)).abs().mean() < 0.05


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_finds_clouds_and_their_shares(seed):
    """From every start: the first centres lie far apart. Weights count: the small cloud of heavy points has
    the largest share."""
    y, which = clouds(seed=seed)
    group, share = kmeans(y, torch.tensor([1.0, 1.0, 10.0])[which], 3, seed=seed)
    for k in range(3):
        assert group[which == k].unique().numel() == 1
    cloud = torch.stack([which[group == k][0] for k in range(3)])
    expected = torch.tensor([50, 30, 200.0])[cloud] / 280
    torch.testing.assert_close(share, expected)


def test_no_group_stays_empty_where_there_are_places_enough():
    """Also where most points lie on one spot, and where some count nothing."""
    y = torch.cat([torch.zeros(200, 2), clouds()[0]])
    weights = torch.ones(len(y))
    weights[-10:] = 0
    _, share = kmeans(y, weights, 8)
    assert (share > 0).all()
    torch.testing.assert_close(share.sum(), torch.tensor(1.0))


def test_more_centres_than_places():
    """Three places for five centres: two groups must stay empty, and nothing is NaN."""
    y = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 9.0]]).repeat(4, 1)
    group, share = kmeans(y, torch.ones(12), 5)
    assert group[:3].unique().numel() == 3 and torch.equal(group, group[:3].repeat(4))
    torch.testing.assert_close(share.sort().values, torch.tensor([0, 0, 1, 1, 1]) / 3)


def test_bad_numbers_are_named():
    with pytest.raises(ValueError, match=r"groups of 5 points, must be a whole number, in 1 \.\. 5; given 6"):
        kmeans(torch.randn(5, 2), torch.ones(5), 6)
    with pytest.raises(ValueError, match=r"axes of latents of 6 numbers, must be a .* in 1 \.\. 6; given 7"):
        unit_pca(torch.randn(9, 6), 7)


def told():
    torch.manual_seed(0)
    net = UNet((8, 16), channels=4, vectors={"label": partial(ClassEmbed, classes=5)})
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
    untrained = UNet((8, 16), channels=4, vectors={"label": partial(ClassEmbed, classes=5)})
    assert torch.equal(untrained(x, t, label=torch.tensor([1, 2, 3])), torch.zeros_like(x))


@pytest.mark.parametrize(("label", "named"), [
    (torch.tensor([0, 1]), r"label must be a tensor with one entry a picture, 3; given int64 \(2,\)"),
    (torch.tensor(1), r"label must be a tensor with one entry a picture, 3; given int64 \(\)"),
    (torch.tensor([0, 1, 6]),
     r"whole numbers \(B,\) in 0 \.\. 5 \(no class\), given int64 \(3,\): \[0, 1, 6\]"),
    (torch.tensor([0, 1, -1]), r"in 0 \.\. 5 \(no class\), given int64 \(3,\): \[0, 1, -1\]"),
    (torch.tensor([0.0, 1.0, 2.0]), r"in 0 \.\. 5 \(no class\), given float32"),
    (torch.zeros(3, 1, dtype=torch.long), r"in 0 \.\. 5 \(no class\), given int64 \(3, 1\)")])
def test_a_bad_label_is_named(label, named):
    with pytest.raises(ValueError, match=named):
        told()(torch.randn(3, 4, 8, 8), torch.tensor([1, 2, 3]), label=label)


def test_the_shipped_network_obeys_its_group():
    """Two noises of one group end nearer to each other than the same noise in two groups."""
    ldm = recipes.load("ldm64")
    torch.testing.assert_close(ldm.share.sum(), torch.tensor(1.0), atol=1e-3, rtol=0)
    label = ldm.share.topk(6).indices.repeat(2)
    noise = torch.randn(12, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        last = draw(ldm.guided(label), ldm.denoiser.schedule, noise, 8, dpmpp_2m())
    z = torch.nn.functional.normalize(last.flatten(1), dim=1)
    same = (z[:6] * z[6:]).sum(1).mean()
    assert same > (z[:6] @ z[6:].T).mean() + 0.2


def test_the_recipe_gives_every_picture_its_group(monkeypatch):
    """Its batches are pairs, and the shares are those of the training pictures, however they are drawn."""
    g = torch.Generator().manual_seed(0)
    weights = data.emoji(64).weights()
    z = torch.randn(len(weights), 8, 8, 8, generator=g)
    monkeypatch.setattr(recipes.latent_models, "latents", lambda codec, split="train", store=None: z)
    plan = recipes.ldm64()
    torch.manual_seed(0)
    batch = next(plan.batches())
    x, label = batch["x_0"], batch["label"]
    assert x.shape == (64, 8, 8, 8) and label.shape == (64,) and label.dtype == torch.long
    model = plan.new()
    plan.prepare(model, recipes.SHIPPED, True)
    share = model.net.vectors["label"].share
    torch.testing.assert_close(share.sum(), torch.tensor(1.0))
    assert share.max() > 1 / 512 > share.min()
    group, expected = kmeans(unit_pca(z), weights, 512)
    torch.testing.assert_close(share, expected)
    rows = torch.stack([(z.flatten(1) == one.flatten()).all(1).nonzero()[0, 0] for one in x])
    silent = label == 512
    assert 0 < silent.sum() < 20 and torch.equal(label[~silent], group[rows[~silent]])
    assert plan.loss(model, batch).ndim == 0


def test_new_pictures_join_the_group_of_their_nearest_training_picture(monkeypatch):
    """Each new latent is a training one, a little moved."""
    g = torch.Generator().manual_seed(0)
    z = torch.randn(len(data.table()), 8, 2, 2, generator=g)
    source = torch.randperm(len(z), generator=g)[:50]
    parts = {"train": z, "val": z[source] + 0.01}
    monkeypatch.setattr(recipes.latent_models, "latents", lambda codec, split, store=None: parts[split])
    monkeypatch.setattr(recipes.latent_models, "unit_pca", lambda z: unit_pca(z, 8))
    group, share = recipes.look_alikes("train")
    new, same = recipes.look_alikes("val")
    assert torch.equal(new, group[source]) and torch.equal(share, same)


def test_latents_and_points_that_are_not_finite_are_refused():
    z = torch.randn(9, 6)
    z[4, 1] = torch.nan
    with pytest.raises(ValueError, match="latents holds 1 numbers that are NaN or infinite"):
        unit_pca(z, 2)
    with pytest.raises(ValueError, match="points holds 1 numbers that are NaN or infinite"):
        kmeans(z, torch.ones(9), 3)


def test_groups_depend_on_the_seed_alone():
    """And torch's global state is left alone."""
    y, _ = clouds()
    state = torch.get_rng_state()
    one, two = (kmeans(y, torch.ones(len(y)), 5, seed=3)[0] for _ in range(2))
    assert torch.equal(one, two) and torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(one, kmeans(y, torch.ones(len(y)), 5, seed=4)[0])


def test_a_point_that_counts_nothing_is_no_first_centre():
    """However far it lies: a chance in proportion to weight times squared distance."""
    y, weights = torch.tensor([[0.0], [1.0], [1000.0]]), torch.tensor([1.0, 1.0, 0.0])
    for seed in range(5):
        _, share = kmeans(y, weights, 2, rounds=0, seed=seed)
        assert share.tolist() == [0.5, 0.5]


def test_in_the_end_every_point_is_nearest_to_the_mean_of_its_group():
    y = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    group, _ = kmeans(y, torch.ones(200), 5)
    means = torch.stack([y[group == k].mean(0) for k in range(5)])
    assert torch.equal(torch.cdist(y, means).argmin(1), group)
    first, _ = kmeans(y, torch.ones(200), 5, rounds=0)
    assert not torch.equal(first, group), "it began there: the test shows nothing"
