"""Text to picture: cross-attention, the network that reads, its batches, and the assembled system."""
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from course_lib import data, recipes
from course_lib.autoencoder import KLAutoencoder
from course_lib.classifier import labels
from course_lib.denoiser import Denoiser, predict_x0
from course_lib.layers import CrossAttention
from course_lib.schedules import Cosine
from course_lib.systems import StableDiffusion, captioned, read
from course_lib.text import TextEncoder, Tokenizer
from course_lib.unet import UNet


class Encoder(TextEncoder):
    """A text tower with its tokenizer: the smallest Reader."""

    def __init__(self):
        self.tokens = Tokenizer(["red heart cat face dark skin tone fluent noto twemoji"], length=6)
        super().__init__(len(self.tokens), width=16, depth=1, length=6)

    def words(self, texts):
        tokens = self.tokens(texts)
        return self(tokens)[0], tokens.mask

    def unread(self, text):
        return self.tokens.unread(text)


def build(text=16, widths=(8, 16)):
    net = UNet(widths, channels=8, text=text)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return net


@pytest.fixture
def system():
    torch.manual_seed(0)
    return StableDiffusion(Encoder().eval(), Denoiser(build(), Cosine(), predict_x0).eval(),
                           KLAutoencoder(fine=8, coarse=8).eval())


@pytest.fixture
def heard():
    """Pixels, words and which of them are words."""
    torch.manual_seed(0)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    return torch.randn(2, 16, 3, 5), torch.randn(2, 4, 12), mask


def test_cross_attention_is_pytorchs(heard):
    x, text, mask = heard
    layer = CrossAttention(16, 12)
    torch.nn.init.normal_(layer.out.weight)
    split = lambda y: y.unflatten(-1, (4, 4)).transpose(1, 2)  # (B, n, 16) -> (B, 4 heads, n, 4)
    q = split(layer.q(layer.norm(x)).flatten(2).transpose(1, 2))
    y = F.scaled_dot_product_attention(q, split(layer.k(text)), split(layer.v(text)), mask[:, None, None])
    y = y.transpose(1, 2).flatten(2).transpose(1, 2).unflatten(2, (3, 5))
    torch.testing.assert_close(layer(x, text, mask), x + layer.out(y))


def test_every_pixel_divides_one_look_among_the_words(heard):
    x, text, mask = heard
    w = CrossAttention(16, 12).weights(x, text, mask)
    assert w.shape == (2, 4, 15, 4)
    torch.testing.assert_close(w.sum(-1), torch.ones(2, 4, 15))
    assert (w.movedim(-1, 1)[~mask] == 0).all()


def test_a_new_network_does_not_read_the_words_yet(heard):
    """The look is zero at the start, so a reading network begins as one that does not read."""
    x, text, mask = heard
    assert torch.equal(CrossAttention(16, 12)(x, text, mask), x)


def test_words_matter_and_padding_does_not():
    torch.manual_seed(0)
    net = build()
    x, t, text = torch.randn(2, 8, 8, 8), torch.tensor([10, 500]), torch.randn(2, 4, 16)
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    out = net(x, t, text=text, mask=mask)
    other = text.clone()
    other[~mask] = 9.0
    torch.testing.assert_close(net(x, t, text=other, mask=mask), out)
    other[0, 1] += 1
    changed = (net(x, t, text=other, mask=mask) - out).abs().amax((1, 2, 3))
    assert changed[0] > 1e-3 and changed[1] < 1e-5


def test_the_look_is_more_than_the_mean():
    """Two words that trade vectors with each other's mean kept: only attention can tell."""
    torch.manual_seed(0)
    net, mask = build(), torch.ones(1, 2, dtype=torch.bool)
    x, t, text = torch.randn(1, 8, 8, 8), torch.tensor([500]), torch.randn(1, 2, 16)
    apart = text + torch.tensor([1.0, -1.0])[:, None]
    assert (net(x, t, text=text, mask=mask) - net(x, t, text=apart, mask=mask)).abs().max() > 1e-4


@pytest.mark.parametrize(("text", "mask", "named"), [
    (None, None, r"text must be \(2, L, 16\), one vector a word, given None"),
    (torch.zeros(2, 4, 12), None, r"given \(2, 4, 12\)"),
    (torch.zeros(1, 4, 16), None, r"given \(1, 4, 16\)"),
    (torch.zeros(2, 4, 16), None, r"mask must be \(2, 4\)"),
    (torch.zeros(2, 4, 16), torch.ones(2, 4), r"mask must be \(2, 4\)"),
    (torch.zeros(2, 4, 16), torch.zeros(2, 4).bool(), "a True in every row"),
])
def test_a_wrong_text_is_named(text, mask, named):
    with pytest.raises(ValueError, match=named):
        build()(torch.randn(2, 8, 8, 8), torch.tensor([1, 2]), text=text, mask=mask)


def test_batches_pair_each_picture_with_its_own_text():
    emoji, encoder = data.emoji(64, "faces"), Encoder()
    z = torch.arange(len(emoji.table), dtype=torch.float32)[:, None]
    first = lambda row: [row["name"], row["style"]]
    words, mask = read(encoder, ["", *(text for row in emoji.table for text in first(row))], batch=64)
    batches = captioned(emoji, z, encoder, 500, p=0.2, texts=first)
    dropped = styles = 0
    for _ in range(4):
        number, w, m = next(batches)
        for k, said, seen in zip(number[:, 0].long().tolist(), w, m, strict=True):
            row = [0, 2 * k + 1, 2 * k + 2]
            [found] = {i for i in row if torch.equal(seen, mask[i]) and torch.allclose(said, words[i])}
            dropped, styles = dropped + (found == 0), styles + (found == row[2])
    assert abs(dropped / 2000 - 0.2) < 4 * 0.009  # four standard errors of 2,000 coins
    assert abs(styles / 2000 - 0.4) < 4 * 0.011


def test_a_picture_follows_prompt_and_seed(system):
    one = system.generate(["red heart", "cat face"], steps=3)
    assert one.shape == (2, 3, 64, 64) and one.abs().max() <= 1
    assert torch.equal(one, system.generate(["red heart", "cat face"], steps=3))
    assert not torch.allclose(one, system.generate(["red heart", "cat face"], steps=3, seed=1), atol=1e-3)
    assert not torch.allclose(one[:1], system.generate(["cat face"], steps=3), atol=1e-3)
    torch.testing.assert_close(one[:1], system.generate(["red heart"], steps=3), atol=1e-4, rtol=0)


def test_w_is_the_place_on_the_line_from_no_text_to_the_text(system):
    x, t = system.noise(1), torch.tensor([500])
    at = lambda w, negative="": system.guided(["red heart"], w, negative)(x, t).x0
    torch.testing.assert_close(at(0.0), system.denoiser(x, t, **system.cond([""])).x0)
    torch.testing.assert_close(at(1.0), system.denoiser(x, t, **system.cond(["red heart"])).x0)
    torch.testing.assert_close(at(3.0), 3 * at(1.0) - 2 * at(0.0))
    torch.testing.assert_close(at(3.0, "cat"), 3 * at(1.0) - 2 * at(0.0, "cat"))


def test_parts_can_be_exchanged(system):
    decoder = KLAutoencoder(fine=8, coarse=8).eval()
    other = replace(system, decoder=decoder)
    assert not torch.allclose(other.generate(["red heart"], 2), system.generate(["red heart"], 2), atol=1e-3)


def test_unreadable_words_are_named_and_the_empty_prompt_is_fine(system):
    with pytest.warns(UserWarning, match="cannot read: zebra, zorro"):
        system.generate(["red zebra"], 1, negative="zorro")
    assert system.generate([""], 1).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(("texts", "steps", "named"), [
    ("red heart", 2, "texts must be a list of at least one prompt, given 'red heart'"),
    ([], 2, "at least one prompt"), (["red heart"], 0, "steps must be at least 1, given 0")])
def test_a_wrong_call_is_named(system, texts, steps, named):
    with pytest.raises(ValueError, match=named):
        system.generate(texts, steps)


@pytest.fixture(scope="module")
def sd64():
    return recipes.load("sd64")


def test_the_shipped_system_draws_combinations_that_it_never_saw(sd64):
    """Every sixth held-out caption; on the real pictures, the classifier is right on 99, 94 and 99 %."""
    held = data.emoji(64, split="held_out")
    rows = range(0, len(held), 6)
    truth = {name: v[list(rows)] for name, v in labels(held.table).items()}
    x = sd64.generate([held.captions[i] for i in rows], steps=12, w=2.0)
    with torch.no_grad():
        seen = recipes.load("classifier")(x)
    right = {name: (v.argmax(1) == truth[name]).float().mean().item() for name, v in seen.items()}
    assert right["category"] > 0.88 and right["tone"] > 0.75 and right["style"] > 0.85, right


@pytest.mark.parametrize(("prompt", "warned"), [
    ("", ""), ("猫", ""), ("noto zorgle", "zorgle"), ("кот", "кот"),
    ("red heart " * 20, "heart, red"), ("!?", "")])
def test_every_prompt_gets_a_picture(sd64, prompt, warned, recwarn):
    x = sd64.generate([prompt], steps=2)
    assert x.shape == (1, 3, 64, 64) and x.isfinite().all()
    said = " ".join(str(w.message) for w in recwarn if "cannot read" in str(w.message))
    assert warned in said and bool(said) == bool(warned)
