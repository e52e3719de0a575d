"""The auto-encoders: what goes in comes back, the loss is the bound, tokens are a bijection."""
import copy
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from course_lib import data, recipes, train
from course_lib.metrics import psnr
from course_lib.nets.autoencoder import (
    KLAutoencoder,
    Pixels,
    VQAutoencoder,
    kl_standard_normal,
    optimize_latents,
)


def build(kind, **more):
    torch.manual_seed(0)
    return kind(fine=8, coarse=16, **more)


def pictures(n=4):
    return data.to_float(data.emoji(64, split="val").pictures[:n])


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("kind", "channels"), [(KLAutoencoder, 8), (VQAutoencoder, 4)])
def test_shapes(kind, channels):
    model, x = build(kind), pictures()
    z = model.encode(x)
    assert z.shape == (4, channels, 8, 8) and model.decode(z).shape == x.shape
    assert model.loss(x).shape == ()


def test_pixels_do_nothing():
    x = pictures()
    assert Pixels().decode(Pixels().encode(x)) is x


@pytest.mark.parametrize("kind", [KLAutoencoder, VQAutoencoder])
def test_training_brings_the_pictures_nearer(kind):
    model, x = build(kind), pictures(8)
    error = lambda m: ((m.decode(m.encode(x)) - x) ** 2).mean().item()
    before = error(model)
    for _ in train.fit(model, lambda m, x: m.loss(x), iter(lambda: x, None), 40, lr=5e-3):
        pass
    assert error(model.eval()) < 0.5 * before


def test_one_seed_one_result():
    def trained():
        model = build(KLAutoencoder)
        torch.manual_seed(1)
        for _ in train.fit(model, lambda m, x: m.loss(x), iter(lambda: pictures(), None), 3):
            pass
        return model.state_dict()
    assert all(map(torch.equal, trained().values(), trained().values()))


# ---- the variational loss ----------------------------------------------------------------------

def test_kl_is_that_of_the_distributions():
    mu, logvar = normal(3, 2, 4, 4).double(), normal(3, 2, 4, 4, seed=1).double()
    expected = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum((1, 2, 3))
    assert torch.allclose(kl_standard_normal(mu, logvar), expected, rtol=1e-10)
    assert kl_standard_normal(torch.zeros(2, 5), torch.zeros(2, 5)).tolist() == [0, 0]


@pytest.mark.parametrize("beta", [0.0, 0.3])
def test_the_loss_is_error_plus_kl(beta):
    model, x = build(KLAutoencoder, beta=beta).eval(), pictures()
    torch.manual_seed(5)
    loss = model.loss(x)
    torch.manual_seed(5)
    mu, logvar = model.posterior(x)
    z = mu + (0.5 * logvar).exp() * torch.randn_like(mu) * (beta > 0)
    kl = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0)).sum() / len(x)
    expected = ((model.decoder(z) - x) ** 2).sum() / x.numel() + beta * kl / (3 * 64 * 64)
    assert torch.allclose(loss, expected, rtol=1e-5)


def test_beta_scales_the_kl_as_twice_the_decoder_variance():
    """loss = 2 v / D times the negative bound (up to a constant), with beta = 2 v."""
    model, x, v = build(KLAutoencoder, beta=0.5).eval(), pictures(), 0.25
    torch.manual_seed(2)
    loss = model.loss(x)
    torch.manual_seed(2)
    mu, logvar = model.posterior(x)
    out = model.decoder(mu + (0.5 * logvar).exp() * torch.randn_like(mu))
    constant = Normal(0.0, v**0.5).log_prob(torch.zeros(())) * x[0].numel()
    bound = Normal(out, v**0.5).log_prob(x).sum((1, 2, 3)) - constant - kl_standard_normal(mu, logvar)
    assert torch.allclose(loss, -2 * v / x[0].numel() * bound.mean(), rtol=1e-4)


def test_latents_are_scaled_and_scaled_back():
    model, x = build(KLAutoencoder), pictures(32)
    with torch.no_grad():
        model.encoder.paths[0].weight.mul_(5)  # latents far from unit variance
        for _ in range(700):
            model._follow(model.posterior(x)[0])
    z, mu = model.encode(x), model.posterior(x)[0]
    assert z.mean((0, 2, 3)).abs().max() < 0.02 and (z.var((0, 2, 3)) - 1).abs().max() < 0.02
    assert (mu.var((0, 2, 3)) - 1).abs().max() > 0.2, "they were scaled already: the test shows nothing"
    assert torch.allclose(model.decode(z), model.decoder(mu), atol=1e-4)


def test_the_scale_counts_how_the_mean_differs_from_batch_to_batch():
    """Batches that are all 1 or all -1 have no variance, but together they have variance 1 around 0."""
    model = build(KLAutoencoder)
    for _ in range(700):
        for level in (1.0, -1.0):
            model._follow(torch.full((2, model.channels, 8, 8), level))
    assert model.mean.abs().max() < 0.02 and (model.var - 1).abs().max() < 0.02


def test_the_log_variance_of_a_cloud_stays_within_limits():
    """-20 .. 10, whatever the encoder says: its exponential is neither 0 nor infinite."""
    model = build(KLAutoencoder, channels=2)
    for said, kept in ((-99.0, -20), (99.0, 10), (3.0, 3)):
        model.encoder.register_forward_hook(lambda *_, said=said: torch.full((1, 4, 8, 8), said))
        assert (model.posterior(pictures(1))[1] == kept).all()


def test_the_scale_stands_still_outside_training():
    model = build(KLAutoencoder)
    before = copy.deepcopy(model.state_dict())
    model.eval().loss(pictures())
    assert torch.equal(model.mean, before["mean"])
    model.train().loss(pictures())
    assert not torch.equal(model.mean, before["mean"])


# ---- tokens -------------------------------------------------------------------------------------

def test_every_token_comes_back():
    """All ids through the decoder's input and back by hand: digits in mixed base 7, 5, 5, 5."""
    model = build(VQAutoencoder)
    assert model.codebook_size == 875
    ids = torch.arange(875 + 21).remainder(875).reshape(14, 8, 8)
    seen = {}
    model.decode = lambda z: seen.setdefault("z", z)
    model.decode_tokens(ids)
    digits = ((seen["z"] + 1) * torch.tensor([3.0, 2, 2, 2])[:, None, None]).round().long()
    back = ((digits[:, 0] * 5 + digits[:, 1]) * 5 + digits[:, 2]) * 5 + digits[:, 3]
    assert torch.equal(back, ids) and len(back.unique()) == 875


def test_tokens_say_all_that_the_decoder_sees():
    model, x = build(VQAutoencoder), pictures()
    ids = model.encode_tokens(x)
    assert ids.dtype == torch.int64 and ids.shape == (4, 8, 8) and len(ids.unique()) > 3
    assert torch.allclose(model.decode_tokens(ids), model.decode(model.encode(x)), atol=1e-5)


def test_rounding_lets_the_gradient_through():
    model, x = build(VQAutoencoder), pictures()
    z = model.encode(x)
    steps = (z * torch.tensor([3.0, 2, 2, 2])[:, None, None])
    assert torch.allclose(steps, steps.round(), atol=1e-5) and z.abs().max() <= 1
    weight = model.encoder.paths[0].weight
    [through] = torch.autograd.grad(z.sum(), weight)
    [smooth] = torch.autograd.grad(torch.tanh(model.encoder(x)).sum(), weight)
    assert through.abs().sum() > 0 and torch.allclose(through, smooth, rtol=1e-4, atol=1e-4)


def test_quantize_takes_the_nearest_level_and_passes_the_gradient():
    model = build(VQAutoencoder)
    z = (3 * normal(2, 4, 8, 8)).requires_grad_()  # also outside of [-1, 1]
    levels = [torch.linspace(-1, 1, n) for n in model.levels]
    for k, level in enumerate(levels):
        gap = (model.quantize(z)[:, k, ..., None] - level).abs()
        assert gap.min(-1).values.max() < 1e-6, "on the grid"
        assert torch.equal(gap.argmin(-1), (z[:, k, ..., None] - level).abs().argmin(-1)), "the nearest"
    [slope] = torch.autograd.grad(model.quantize(z).sum(), z)
    assert torch.equal(slope, torch.ones_like(z))


def test_the_loss_of_tokens_is_the_psnr_turned_over():
    model, x = build(VQAutoencoder), pictures()
    error = ((model.decode(model.encode(x)) - x) ** 2).mean((1, 2, 3))
    psnr = 10 * torch.log10(2**2 / error)  # pictures span 2, from -1 to 1
    assert torch.allclose(10 * math.log10(4) - 10 / math.log(10) * model.loss(x), psnr.mean(), rtol=1e-5)


def test_searched_tokens_decode_nearer_to_the_picture():
    model, x = build(VQAutoencoder), pictures()
    error = lambda ids: ((model.decode_tokens(ids) - x) ** 2).mean((1, 2, 3))
    guess, found = model.encode_tokens(x), model.encode_tokens(x, search=15)
    assert found.dtype == torch.int64 and found.shape == guess.shape
    assert (error(found) < 0.99 * error(guess)).all()


# ---- optimized latents --------------------------------------------------------------------------

@pytest.mark.parametrize("kind", [KLAutoencoder, VQAutoencoder])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_optimized_latents_decode_nearer_to_the_picture(kind, mode):
    model = build(kind)
    quantize = model.quantize if kind is VQAutoencoder else lambda z: z
    error = lambda z: ((model.decode(z) - x) ** 2).mean((1, 2, 3))
    with mode():
        x = pictures()
        z = optimize_latents(model, x, 15, quantize=quantize)
    x = x.clone()
    assert (error(z) < 0.99 * error(model.encode(x))).all() and not z.requires_grad
    assert torch.allclose(quantize(z), z, atol=1e-6), "tokens stay tokens"
    assert all(p.grad is None for p in model.parameters()), "the codec is left alone"


def test_optimized_latents_are_never_worse_than_the_guess():
    model, x = build(KLAutoencoder), pictures()
    assert torch.equal(optimize_latents(model, x, 0), model.encode(x))
    error = lambda z: ((model.decode(z) - x) ** 2).mean((1, 2, 3))
    assert (error(optimize_latents(model, x, 1)) < error(model.encode(x))).all(), "one step is one step"
    assert (error(optimize_latents(model, x, 5, lr=100.0)) <= error(model.encode(x))).all()


# ---- bad input ----------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", [KLAutoencoder, VQAutoencoder])
@pytest.mark.parametrize(("x", "named"), [
    (torch.zeros(1, 3, 32, 32), r"\(B, 3, 64, 64\), given float32 \(1, 3, 32, 32\)"),
    (torch.zeros(3, 64, 64), r"given float32 \(3, 64, 64\)"),
    (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "uint8.*to_float"),
    (torch.full((1, 3, 64, 64), 255.0), "255.*to_float"),
    (torch.full((1, 3, 64, 64), torch.nan), "12288 numbers that are NaN"),
    (torch.zeros(0, 3, 64, 64), r"given float32 \(0, 3, 64, 64\)"),
])
def test_pictures_of_another_kind_are_refused(kind, x, named):
    with pytest.raises(ValueError, match=named):
        build(kind).encode(x)


@pytest.mark.parametrize(("kind", "z"), [
    (KLAutoencoder, torch.zeros(1, 4, 8, 8)), (VQAutoencoder, torch.zeros(1, 8, 8, 8)),
    (KLAutoencoder, torch.zeros(1, 8, 16, 16)), (KLAutoencoder, torch.zeros(8, 8, 8))])
def test_latents_of_another_shape_are_refused(kind, z):
    with pytest.raises(ValueError, match=r"expected latents \(B, [48], 8, 8\), given"):
        build(kind).decode(z)


@pytest.mark.parametrize("bad", [-1, 875])
def test_tokens_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match=r"0 \.\. 874"):
        build(VQAutoencoder).decode_tokens(torch.full((1, 8, 8), bad))


@pytest.mark.parametrize(("kind", "channels"), [(KLAutoencoder, 8), (VQAutoencoder, 4)])
def test_latents_that_are_not_finite_are_refused(kind, channels):
    z = torch.zeros(1, channels, 8, 8)
    z[:, 0], z[:, 1, 0] = torch.inf, torch.nan
    with pytest.raises(ValueError, match="latents holds 72 numbers that are NaN or infinite"):
        build(kind).decode(z)


@pytest.mark.parametrize("ids", [torch.zeros(1, 8, 8), torch.zeros(1, 8, 4).long(), torch.zeros(8, 8).long()])
def test_tokens_of_another_kind_are_refused(ids):
    with pytest.raises(ValueError, match=r"tokens are whole numbers \(B, 8, 8\) in 0 \.\. 874, given"):
        build(VQAutoencoder).decode_tokens(ids)


@pytest.mark.parametrize("more", [{"channels": 0}, {"channels": 2.5}, {"beta": -1}, {"beta": math.nan}])
def test_wrong_numbers_of_an_autoencoder_are_named(more):
    with pytest.raises(ValueError, match=f"{next(iter(more))} must be"):
        KLAutoencoder(**more)


@torch.no_grad()
def test_two_tokens_of_a_cell_stand_side_by_side():
    """The first says the numbers 0 .. 3 of its cell, the second 4 .. 7, and no other cell's."""
    model, x = build(VQAutoencoder, codes=2), pictures()
    z, ids = model.encode(x), model.encode_tokens(x)
    assert z.shape == (4, 8, 8, 8) and ids.shape == (4, 8, 16) and torch.equal(ids, model.pack(z))
    torch.testing.assert_close(model.decode_tokens(ids), model.decode(z), atol=1e-5, rtol=1e-4)
    for code in (0, 1):
        changed = z.clone()
        part = changed[:, 4 * code:4 * code + 4, 2, 5]
        changed[:, 4 * code:4 * code + 4, 2, 5] = torch.where(part[:, :1] > 0, part - 2 / 3, part + 2 / 3)
        differs = (model.pack(changed) != ids).nonzero()
        assert {(row, column) for _, row, column in differs.tolist()} == {(2, 10 + code)}


@torch.no_grad()
def test_a_local_encoder_reads_a_cell_from_the_24_pixels_around_it_alone():
    """The cell of row 3, column 5 stands at the pixels 24 .. 31, 40 .. 47; it sees 8 more on each side."""
    model, x = build(VQAutoencoder, codes=2, local=True).encoder, pictures()
    other = torch.rand_like(x)
    for edge, same in ((0, True), (1, False)):
        rows, columns = slice(16 + edge, 40 - edge), slice(32 + edge, 56 - edge)
        mixed = other.clone()
        mixed[:, :, rows, columns] = x[:, :, rows, columns]
        assert torch.allclose(model(mixed)[:, :, 3, 5], model(x)[:, :, 3, 5], atol=1e-5) == same


@torch.no_grad()
def test_a_local_encoder_does_not_know_where_a_cell_stands():
    """Equal cells have equal tokens, also at the edge: white is white, and a shifted picture shifts them."""
    model = build(VQAutoencoder, codes=2, local=True)
    white = model.encode_tokens(torch.ones(1, 3, 64, 64)).view(64, 2)
    assert torch.equal(white, white[:1].expand(64, 2))
    x = F.pad(pictures()[:, :, 16:48, 16:48], (16, 16, 16, 16), value=1.0)
    moved = x.roll((8, 8), dims=(2, 3))
    torch.testing.assert_close(model.encoder(moved), model.encoder(x).roll((1, 1), dims=(2, 3)))


def test_vq64x2_gives_more_back_than_vq64():
    """The richer alphabet was taken for its floor; measured on the first hundred new pictures."""
    x = data.to_float(data.emoji(64, split="val").pictures[:100])
    with torch.inference_mode():
        one, two = (psnr(codec.decode_tokens(codec.encode_tokens(x)), x).mean()
                    for codec in map(recipes.load, ("vq64", "vq64x2")))
    assert two > one + 1
