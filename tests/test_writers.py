"""DALL-E's transformer and the masked one: what they may see, and that remembering changes nothing."""
import math

import pytest
import torch

from course_lib.nets.text import PAD
from course_lib.nets.transformer import Cache, Transformer
from course_lib.nets.writers import DALLE, MaskedWriter, nothing


def build(kind, **more):
    torch.manual_seed(0)
    return kind(20, 5, 7, (2, 3), codes=2, width=32, depth=2, **more).eval()


def example(n=2):
    g = torch.Generator().manual_seed(1)
    text = nothing(n, 5)
    text[:, 1:3] = torch.randint(3, 20, (n, 2), generator=g)
    return torch.randint(0, 7, (n, 2, 6), generator=g), text


def written_out(model, tokens, text):
    """Logits of every picture token from the whole sequence at once, (B, n, codebook_size)."""
    x = torch.cat([model._text(text), model.signs(model.numbers(tokens)[:, :-1]) + model.places()[:-1]], 1)
    return model.own(model.to_signs(model.body(x)[:, model.length - 1:]))


@torch.no_grad()
def test_with_memory_the_logits_are_those_without():
    model, (tokens, text) = build(DALLE), example()
    expected = written_out(model, tokens, text)
    logits, memory = model.read(text)
    found = [logits]
    for i, token in enumerate(tokens.flatten(1).unbind(1)[:-1]):
        found.append(model.follow(token, i, memory))
    torch.testing.assert_close(torch.stack(found, 1), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_token_hears_of_nothing_that_comes_later():
    model, (tokens, text) = build(DALLE), example()
    before, changed = written_out(model, tokens, text), tokens.clone()
    changed[:, 1, 2] = (changed[:, 1, 2] + 1) % 7  # the token number 8
    after = written_out(model, changed, text)
    torch.testing.assert_close(after[:, :9], before[:, :9])
    assert not torch.allclose(after[:, 9:], before[:, 9:])


def test_the_loss_of_dalle_is_one_eighth_words_and_seven_eighths_picture():
    model, (tokens, text) = build(DALLE), example()
    for layer in (model.to_words, model.to_signs):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    even = math.log(20) / 8 + 7 / 8 * math.log(14)  # all equally likely
    assert model.loss(tokens, text).item() == pytest.approx(even, rel=1e-5)
    silent = model.loss(tokens, nothing(2, 5)).item()  # no word to predict
    assert silent == pytest.approx(7 / 8 * math.log(14), rel=1e-5)


def test_each_place_has_its_own_alphabet():
    model, (tokens, _) = build(DALLE), example()
    signs = model.numbers(tokens)
    assert ((signs >= 7) == (torch.arange(12) % 2 == 1)).all()
    logits = torch.arange(14.0).expand(1, 12, 14)
    own = model.own(logits)
    assert own[0, 0].tolist() == [*range(7)] and own[0, 1].tolist() == [*range(7, 14)]
    assert torch.equal(model.own(logits[:, 3:], first=3), own[:, 3:])


@torch.no_grad()
def test_the_masked_one_sees_both_sides_and_no_padding():
    model, (tokens, text) = build(MaskedWriter), example()
    signs = model.numbers(tokens)
    before, changed = model.logits(signs, text), signs.clone()
    changed[:, 8] = model.mask
    assert not torch.allclose(model.logits(changed, text)[:, 2], before[:, 2])
    torch.nn.init.normal_(model.words.weight[PAD])
    torch.testing.assert_close(model.logits(signs, text), before)


@torch.no_grad()
def test_every_place_has_a_vector_of_its_own():
    assert len({tuple(v) for v in build(DALLE).places().tolist()}) == 12


def test_the_masked_loss_counts_hidden_tokens_alone():
    """Equal logits cost ln 7 whatever is hidden; and nothing of what is hidden may be seen."""
    model, (tokens, text) = build(MaskedWriter), example(64)
    torch.nn.init.zeros_(model.to_signs.weight)
    torch.nn.init.zeros_(model.to_signs.bias)
    assert model.loss(tokens, text).item() == pytest.approx(math.log(7), rel=1e-5)


def test_after_the_first_tokens_they_come_one_at_a_time():
    body, x = Transformer(16, 1, causal=True), torch.randn(1, 4, 16)
    memory = [Cache()]
    body(x[:, :2], memory=memory)
    with pytest.raises(ValueError, match="one at a time; given 2"):
        body(x[:, 2:], memory=memory)


def test_wrong_texts_and_tokens_are_named():
    model, (tokens, text) = build(DALLE), example()
    with pytest.raises(ValueError, match=r"tokens must be whole numbers \(B, 2, 6\)"):
        model.loss(tokens[:, :, :3], text)
    with pytest.raises(ValueError, match=r"text must be the numbers of words \(B, 5\)"):
        model.loss(tokens, text[:, :4])
