"""DALL-E's transformer and the masked one: what they may see, and that remembering changes nothing."""
import math

import pytest
import torch
from torch.nn import functional as F

from course_lib import data, recipes
from course_lib.captions import mostly_captions
from course_lib.nets.text import PAD, START
from course_lib.nets.token_transformers import DALLE, MaskGIT
from course_lib.nets.transformer import Cache, Transformer, looks_back
from course_lib.recipes import latent_models


def build(kind, **more):
    torch.manual_seed(0)
    return kind(20, 5, 7, (2, 3), codes=2, width=32, depth=2, **more).eval()


def nothing(n, length):
    """The empty text: a start token, then padding."""
    text = torch.full((n, length), PAD)
    text[:, 0] = START
    return text


def example(n=2):
    g = torch.Generator().manual_seed(1)
    text = nothing(n, 5)
    text[:, 1:3] = torch.randint(3, 20, (n, 2), generator=g)
    return torch.randint(0, 7, (n, 2, 6), generator=g), text


def written_out(model, tokens, text):
    """Logits of every picture token from the whole sequence at once, (B, n, codebook_size)."""
    ids = model.ids(tokens)
    x = torch.cat([model._text(text), model.cells(ids)[:, :-1]], dim=1)
    return model.to_tokens(model.body(x)[:, model.length - 1:], ids)


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
    for embed in (model.word_embed, model.token_embed):
        torch.nn.init.zeros_(embed.weight)
    even = math.log(20) / 8 + 7 / 8 * math.log(7)  # all equally likely
    assert model.loss(tokens, text).item() == pytest.approx(even, rel=1e-5)
    silent = model.loss(tokens, nothing(2, 5)).item()  # no word to predict
    assert silent == pytest.approx(7 / 8 * math.log(7), rel=1e-5)


def test_each_place_has_the_ids_of_its_own_code():
    model, (tokens, _) = build(DALLE), example()
    ids = model.ids(tokens)
    assert ((ids >= 7) == (torch.arange(12) % 2 == 1)).all()
    h = torch.randn(2, 6, 32)
    first, second = model.token_embed.weight[:7], model.token_embed.weight[7:14]
    logits = model.to_tokens(h, ids)
    torch.testing.assert_close(logits[:, 0::2], h @ first.T)
    own = h + model.token_embed(ids[:, 0::2])
    torch.testing.assert_close(logits[:, 1::2], (h + model.within(own)) @ second.T)


@torch.no_grad()
def test_the_second_token_of_a_cell_hears_of_the_first_and_not_of_itself():
    model, (tokens, text) = build(DALLE), example()
    before = written_out(model, tokens, text)
    for code, heard in ((0, True), (1, False)):
        changed = tokens.clone()
        changed[:, 1, 4 + code] = (changed[:, 1, 4 + code] + 1) % 7  # a token of the last cell
        after = written_out(model, changed, text)
        torch.testing.assert_close(after[:, :11], before[:, :11])
        assert torch.allclose(after[:, 11], before[:, 11]) != heard


@torch.no_grad()
def test_the_masked_one_sees_both_sides_and_no_padding():
    model, (tokens, text) = build(MaskGIT), example()
    ids = model.ids(tokens)
    before, changed = model.logits(ids, text), ids.clone()
    changed[:, 8] = model.mask
    assert not torch.allclose(model.logits(changed, text)[:, 2], before[:, 2])
    torch.nn.init.normal_(model.word_embed.weight[PAD])
    torch.testing.assert_close(model.logits(ids, text), before)


@torch.no_grad()
def test_every_place_has_a_vector_of_its_own():
    assert len({tuple(v) for v in build(DALLE).places().tolist()}) == 6


def test_the_masked_loss_counts_hidden_tokens_alone():
    """Equal logits cost ln 7 a hidden token, however many are hidden."""
    model, (tokens, text) = build(MaskGIT), example(64)
    torch.nn.init.zeros_(model.token_embed.weight)
    assert model.loss(tokens, text).item() == pytest.approx(math.log(7), rel=1e-5)


def test_what_is_hidden_is_not_seen_and_often_much(monkeypatch):
    """Of a picture the share cos(pi u / 2) is hidden, in the mean 2 / pi; the others are the true ones."""
    model, (tokens, text), seen = build(MaskGIT), example(4000), []

    def spy(ids, text):
        seen.append(ids)
        return torch.zeros(*ids.shape, 7)
    monkeypatch.setattr(model, "logits", spy)
    torch.manual_seed(0)
    model.loss(tokens, text)
    hidden = seen[0] == model.mask
    assert hidden.float().mean().item() == pytest.approx(2 / math.pi, abs=0.02)
    assert torch.equal(seen[0][~hidden], model.ids(tokens)[~hidden])


@torch.no_grad()
def test_a_causal_transformer_goes_on_by_any_number_of_tokens():
    torch.manual_seed(0)
    body, x, memory = Transformer(16, 2, causal=True), torch.randn(1, 6, 16), [Cache(), Cache()]
    parts = [body(part, memory=memory) for part in x.split([2, 3, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), body(x))


def test_nobody_looks_ahead_and_every_look_is_shared_out():
    torch.manual_seed(0)
    q, k = torch.randn(1, 2, 3, 8), torch.randn(1, 2, 5, 8)
    look = looks_back(q, k)
    torch.testing.assert_close(look.sum(3), torch.ones(1, 2, 3))
    assert torch.equal(look[0, 0] > 0, torch.ones(3, 5, dtype=torch.bool).tril(2))
    by_torch = F.scaled_dot_product_attention(k, k, k, is_causal=True)
    torch.testing.assert_close(looks_back(k, k) @ k, by_torch)


def test_wrong_texts_and_tokens_are_named():
    model, (tokens, text) = build(DALLE), example()
    with pytest.raises(ValueError, match=r"tokens must be whole numbers \(B, 2, 6\)"):
        model.loss(tokens[:, :, :3], text)
    with pytest.raises(ValueError, match=r"text must be the numbers of words \(B, 5\)"):
        model.loss(tokens, text[:, :4])


def test_what_dalle_learns_are_the_tokens_of_pictures_as_they_are(few_texts, monkeypatch):
    few_texts()
    emoji, reader, codec = data.emoji(64, split="train"), recipes.tokenizer(), recipes.load("vq64x2")
    x = data.to_float(emoji.pictures)
    monkeypatch.setattr(latent_models, "latents", lambda *_: codec.encode(x))
    batch = next(recipes.get("dalle").batches())
    own = (batch["tokens"][:, None] == codec.encode_tokens(x)).all(3).all(2).float()
    assert own.any(1).all()
    for i, text in zip(own.argmax(1), batch["text"], strict=True):
        texts = reader.encode(["", *mostly_captions(emoji.table[int(i)])])["text"]
        assert (texts == text).all(1).any()


def test_in_training_some_tokens_are_read_wrongly_and_none_when_drawing():
    model, (tokens, _) = build(DALLE, wrong=0.2), example(4000)
    ids = model.ids(tokens)
    assert torch.equal(model.misread(ids), ids)
    torch.manual_seed(0)
    read = model.train().misread(ids)
    wrong = (read != ids).float()
    assert wrong.mean().item() == pytest.approx(0.2 * 6 / 7, abs=0.01)  # one in seven is right by chance
    assert wrong.mean(1).std() > 0.1  # a share of its own for each picture
    assert torch.equal(read >= 7, ids >= 7)  # still tokens of the place's own code
    assert torch.equal(build(DALLE).train().misread(ids), ids)


def test_the_truth_to_be_said_is_never_misread(monkeypatch):
    """Only what is read is replaced: with the right logits at hand, the loss of the picture stays 0."""
    model, (tokens, _) = build(DALLE, wrong=0.5).train(), example()
    sure = 50.0 * F.one_hot(tokens.flatten(1), 7).float()
    monkeypatch.setattr(model, "to_tokens", lambda h, ids: sure)
    assert model.loss(tokens, nothing(2, 5)).item() < 1e-5


def test_dropout_is_for_training_alone():
    torch.manual_seed(0)
    body, x = Transformer(16, 2, dropout=0.5), torch.randn(1, 4, 16)
    assert not torch.equal(body(x), body(x))
    assert torch.equal(body.eval()(x), body(x))
    with pytest.raises(ValueError, match=r"dropout must be one number, in 0 \.\. 1"):
        Transformer(16, 2, dropout=2.0)
