"""The U-Net: the shapes it takes, and what it is told: all that it was built for, and nothing else."""
from functools import partial

import pytest
import torch

from course_lib.denoiser import Denoiser, predict_x0
from course_lib.nets.layers import TimeEmbed
from course_lib.nets.unet import Blind, ClassEmbed, LevelEmbed, Regression, UNet, VectorEmbed
from course_lib.schedules import DDPM

LABEL = {"label": partial(ClassEmbed, classes=5)}
LEVEL = {"aug_level": LevelEmbed}
VECTOR = {"clip": partial(VectorEmbed, width=6)}
T = torch.tensor([10, 500])


def build(**more):
    """A small network whose weights are all at work."""
    torch.manual_seed(0)
    net = UNet((8, 16), channels=3, **more)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return net


def picture(n=2, edge=8):
    return torch.randn(n, 3, edge, edge, generator=torch.Generator().manual_seed(1))


ONES = torch.ones(2, 4, dtype=torch.bool)
WORDS = {"words": torch.randn(2, 4, 7), "mask": ONES}
GIVEN = {"words": WORDS, "label": {"label": torch.tensor([1, 2])},
         "aug_level": {"aug_level": torch.tensor([0.1, 0.2])}, "clip": {"clip": torch.randn(2, 6)},
         "low_res": {"low_res": torch.randn(2, 3, 8, 8)}}
BUILT = {"words": {"words": 7}, "label": {"vectors": LABEL}, "aug_level": {"vectors": LEVEL},
         "clip": {"vectors": VECTOR}, "low_res": {"cond_ch": 3}, "nothing": {}}


def test_an_untrained_network_says_zero_whatever_it_is_told():
    net = UNet((8, 16), words=7, cond_ch=3, vectors={**LABEL, **LEVEL, **VECTOR})
    told = {k: v for part in GIVEN.values() for k, v in part.items()}
    assert torch.equal(net(picture(), T, **told), torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("port", GIVEN)
def test_what_it_is_told_reaches_the_picture_of_its_own_row(port):
    net, told = build(**BUILT[port]), GIVEN[port]
    before = net(picture(), T, **told)
    assert before.shape == (2, 3, 8, 8)
    changed = {k: v.clone() for k, v in told.items()}
    first = next(iter(told))
    changed[first][1] = {"label": 4, "aug_level": 0.9}.get(first, 3.0)
    difference = (net(picture(), T, **changed) - before).abs().amax((1, 2, 3))
    assert difference[0] < 1e-5 and difference[1] > 1e-4


def test_several_vectors_are_added_to_the_time():
    net = build(vectors={**LABEL, **VECTOR})
    told = GIVEN["label"] | GIVEN["clip"]
    emb = net.time(T) + net.vectors["label"](told["label"]) + net.vectors["clip"](told["clip"])
    plain = build()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("vectors.")})
    plain.time.forward = lambda t: emb
    torch.testing.assert_close(net(picture(), T, **told), plain(picture(), T))


@pytest.mark.parametrize("built", BUILT)
@pytest.mark.parametrize("given", GIVEN)
def test_a_condition_that_it_was_not_built_with_is_refused_by_name(built, given):
    if built == given:
        return
    own = GIVEN.get(built, {})
    names = ", ".join(sorted(GIVEN[given]))
    takes = ", ".join(sorted(own)) or "no condition"
    with pytest.raises(ValueError, match=f"this network was built without {names}.*It takes {takes}"):
        build(**BUILT[built])(picture(), T, **own, **GIVEN[given])


@pytest.mark.parametrize("name", ["txt", "level", "classes"])
def test_a_misspelt_condition_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"this network was built without {name}"):
        build(**BUILT["label"])(picture(), T, **{name: torch.ones(2)})


@pytest.mark.parametrize(("built", "missing"), [
    ("words", "mask, words"), ("aug_level", "aug_level"), ("clip", "clip"), ("low_res", "low_res")])
def test_a_condition_that_is_missing_is_named(built, missing):
    net = build(**BUILT[built])
    for said in ({}, {name: None for name in GIVEN[built]}):
        with pytest.raises(ValueError, match=f"this network also needs {missing}"):
            net(picture(), T, **said)


def test_an_enlarger_needs_picture_and_level():
    net = build(cond_ch=3, vectors=LEVEL)
    with pytest.raises(ValueError, match="this network also needs aug_level"):
        net(picture(), T, **GIVEN["low_res"])
    with pytest.raises(ValueError, match="this network also needs low_res"):
        net(picture(), T, **GIVEN["aug_level"])
    assert net(picture(), T, **GIVEN["low_res"], **GIVEN["aug_level"]).shape == (2, 3, 8, 8)


def test_no_label_is_the_label_that_says_nothing():
    """Absent, None, or the number of classes: one and the same; a class is another."""
    net = build(vectors={**LABEL, **LEVEL})
    level = GIVEN["aug_level"]
    none = net(picture(), T, **level)
    assert torch.equal(none, net(picture(), T, label=torch.tensor([5, 5]), **level))
    assert torch.equal(none, net(picture(), T, label=None, **level))
    some = net(picture(), T, label=torch.tensor([0, 5]), **level)
    torch.testing.assert_close(some[1], none[1])
    assert not torch.allclose(some[0], none[0], atol=1e-4)


@pytest.mark.parametrize(("built", "told", "named"), [
    ("clip", {"clip": torch.zeros(3, 6)},
     r"clip must be a tensor with one entry a picture, 2; given float32 \(3, 6\)"),
    ("clip", {"clip": torch.tensor(1.0)},
     r"clip must be a tensor with one entry a picture, 2; given float32 \(\)"),
    ("aug_level", {"aug_level": torch.tensor([0.1])},
     r"aug_level must be a tensor with one entry a picture, 2; given float32 \(1,\)"),
    ("aug_level", {"aug_level": torch.tensor([0.1, 1.5])}, r"a level must be numbers \(B,\) in 0 \.\. 1"),
    ("aug_level", {"aug_level": torch.tensor([0.1, -0.5])}, r"a level must be numbers \(B,\) in 0 \.\. 1"),
    ("aug_level", {"aug_level": torch.tensor([0.1, torch.nan])},
     r"a level must be numbers \(B,\) in 0 \.\. 1"),
    ("aug_level", {"aug_level": torch.zeros(2, 1)}, r"a level must be numbers \(B,\) in 0 \.\. 1"),
    ("label", {"label": torch.tensor([0, 6])},
     r"label must be whole numbers \(B,\) in 0 \.\. 5 \(no class\)"),
    ("low_res", {"low_res": torch.zeros(2, 3, 4, 4)},
     r"low_res must be \(2, 3, 8, 8\), given \(2, 3, 4, 4\)"),
    ("low_res", {"low_res": torch.zeros(2, 1, 8, 8)},
     r"low_res must be \(2, 3, 8, 8\), given \(2, 1, 8, 8\)")])
def test_a_condition_of_another_kind_is_named(built, told, named):
    with pytest.raises(ValueError, match=named):
        build(**BUILT[built])(picture(), T, **told)


@pytest.mark.parametrize(("x", "t", "named"), [
    (torch.zeros(2, 3, 7, 8), T, r"H and W multiples of 2; given \(2, 3, 7, 8\)"),
    (torch.zeros(3, 8, 8), T, r"x must be \(B, 3, H, W\), .*given \(3, 8, 8\)"),
    (picture(), torch.tensor([1, 2, 3]), r"t must be 2 times, one a picture; given \(3,\)"),
    (picture(), torch.tensor(5), r"t must be 2 times, one a picture; given \(\)")])
def test_pictures_and_times_of_another_shape_are_named(x, t, named):
    with pytest.raises(ValueError, match=named):
        build()(x, t)


def test_conditions_are_refused_through_a_denoiser_too():
    model = Denoiser(build(), DDPM(10), predict_x0)
    for call in (lambda: model(picture(), torch.tensor(5), label=torch.tensor([1, 2])),
                 lambda: model.loss(picture(), label=torch.tensor([1, 2]))):
        with pytest.raises(ValueError, match="built without label"):
            call()


def test_a_blind_network_does_not_see_the_time():
    net = Blind(build())
    one, other = (net(picture(), torch.tensor([t, t])) for t in (3, 900))
    assert torch.equal(one, other) and torch.equal(one, net.net(picture(), torch.zeros(2)))


def test_a_regression_sees_the_small_picture_alone():
    """x_t, time and level are 0; the loss is the mean squared error."""
    net = UNet((8, 16), patch=4, cond_ch=3, vectors=LEVEL)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    model, small, large = Regression(net), torch.randn(2, 3, 4, 4), torch.randn(2, 3, 16, 16)
    zeros = torch.zeros(2)
    expected = net(torch.zeros(2, 3, 16, 16), zeros, low_res=small, aug_level=zeros)
    torch.testing.assert_close(model(small), expected)
    torch.testing.assert_close(model.loss(large, small), ((expected - large) ** 2).mean())


def test_the_labels_maker_keeps_the_shares_with_the_weights():
    embed = ClassEmbed(8, 5)
    assert torch.equal(embed.none(3), torch.tensor([5, 5, 5])) and embed.none(3).dtype == torch.long
    torch.testing.assert_close(embed.share, torch.full((5,), 0.2))
    assert "share" in embed.state_dict() and not any(p is embed.share for p in embed.parameters())
    assert torch.equal(embed(torch.tensor([0, 5])), torch.zeros(2, 8))


def test_a_time_is_sines_and_cosines_of_waves_from_1_to_a_ten_thousandth():
    """Vaswani et al. 2017, section 3.5; a level is a time of 1000 times its size."""
    embed = TimeEmbed(4, waves=6)
    t = torch.tensor([0.0, 3.0, 1000.0])
    angle = t[:, None] * 10_000.0 ** -(torch.arange(3) / 3)
    torch.testing.assert_close(embed(t), embed.mlp(torch.cat([angle.sin(), angle.cos()], 1)))
    level = LevelEmbed(4, waves=6)
    level.load_state_dict(embed.state_dict())
    assert torch.equal(level(t / 1000), embed(t))
