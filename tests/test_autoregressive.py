"""Drawing tokens: the chances, the draw, one after the other, and several at once."""
import math
from itertools import pairwise

import pytest
import torch
from test_token_transformers import build, example, nothing

from course_lib.autoregressive import chances, sample_token, unmask, write
from course_lib.nets.token_transformers import DALLE, MaskGIT

LOGITS = torch.tensor([[0.5, 0.2, 0.2, 0.1]]).log()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# ---- chances --------------------------------------------------------------------------------------

def test_temperature_divides_the_logits():
    torch.testing.assert_close(chances(LOGITS), LOGITS.exp())
    sharp = LOGITS.exp() ** 2
    torch.testing.assert_close(chances(LOGITS, 0.5), sharp / sharp.sum())
    assert chances(LOGITS, 0.0).tolist() == [[1, 0, 0, 0]]


def test_top_k_and_top_p_leave_the_likeliest_and_their_proportions():
    torch.testing.assert_close(chances(LOGITS, top_k=1), torch.tensor([[1.0, 0, 0, 0]]))
    three = torch.tensor([[0.5, 0.2, 0.2, 0]]) / 0.9
    torch.testing.assert_close(chances(LOGITS, top_k=3), three)
    torch.testing.assert_close(chances(LOGITS, top_p=0.85), three)  # 0.5 + 0.2 is less than 0.85
    torch.testing.assert_close(chances(LOGITS, top_p=0.0), torch.tensor([[1.0, 0, 0, 0]]))
    torch.testing.assert_close(chances(LOGITS, top_k=99, top_p=1.0), LOGITS.exp())
    torch.testing.assert_close(chances(LOGITS.flip(1), top_p=0.85), three.flip(1))


def test_first_top_k_then_top_p():
    """Of the three that top_k leaves the first has 0.5 / 0.9, less than 0.6, so one more stays."""
    p = chances(LOGITS, top_k=3, top_p=0.6)
    assert (p > 0).sum() == 2 and p[0, 0].item() == pytest.approx(0.5 / 0.7)


@pytest.mark.parametrize("wrong, match", [({"temperature": -1.0}, "temperature"), ({"top_k": 0}, "top_k"),
                                          ({"top_p": 1.5}, "top_p"), ({"top_k": 2.5}, "top_k")])
def test_wrong_numbers_are_named(wrong, match):
    with pytest.raises(ValueError, match=match):
        chances(LOGITS, **wrong)


# ---- one token ------------------------------------------------------------------------------------

def test_tokens_come_as_often_as_their_chances_say():
    p = torch.tensor([0.5, 0.0, 0.3, 0.2])
    drawn = sample_token(p.expand(20_000, 4), generator())
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    assert share[1] == 0 and (share - p).abs().max() < 0.015  # four standard errors


@pytest.mark.parametrize("u", [0.0, 1 - 2**-24])
def test_no_token_without_a_chance_is_drawn_at_the_ends(u, monkeypatch):
    monkeypatch.setattr("course_lib.autoregressive.uniform", lambda shape, *_: torch.full(shape, u))
    drawn = sample_token(torch.tensor([[0.0, 0.3, 0.7, 0.0]]))
    assert drawn.item() == (1 if u == 0 else 2)


# ---- one after the other --------------------------------------------------------------------------

def by_hand(model, text, null, w, seed):
    """The tokens without memory: the whole sequence is read again for each."""
    g, tokens = generator(seed), torch.zeros(len(text), 12, dtype=torch.long)
    from test_token_transformers import written_out
    for i in range(12):
        with_text, without = (written_out(model, tokens.view(-1, 2, 6), part)[:, i].log_softmax(1)
                              for part in (text, null))
        tokens[:, i] = sample_token(chances(without + w * (with_text - without), 0.7, 5), g)
    return tokens


@torch.no_grad()
@pytest.mark.parametrize("w", [1.0, 2.5])
def test_what_is_written_is_what_reading_everything_again_gives(w):
    model, (_, text) = build(DALLE), example()
    torch.nn.init.normal_(model.word_embed.weight)
    parts = list(write(model, {"text": text}, {"text": nothing(2, 5)}, w, 0.7, 5, generator=generator(3)))
    assert [part.shape[1] for part in parts] == [*range(1, 13)]
    assert all(torch.equal(a, parts[-1][:, :a.shape[1]]) for a in parts)
    assert torch.equal(parts[-1], by_hand(model, text, nothing(2, 5), w, 3))


def test_guidance_needs_the_empty_text():
    model, (_, text) = build(DALLE), example()
    for draw, kind in ((write, DALLE), (unmask, MaskGIT)):
        with pytest.raises(ValueError, match="w other than 1 needs `null`"):
            next(draw(build(kind), {"text": text}, w=2.0))
    assert next(write(model, {"text": text})).shape == (2, 1)


# ---- several at once ------------------------------------------------------------------------------

@torch.no_grad()
def test_what_is_known_stays_and_the_hidden_share_falls_as_a_cosine():
    model, (_, text) = build(MaskGIT), example()
    parts = list(unmask(model, {"text": text}, {"text": nothing(2, 5)}, 2.0, steps=5, generator=generator()))
    for i, part in enumerate(parts, 1):
        hidden = int(12 * math.cos(math.pi / 2 * i / 5)) if i < 5 else 0
        assert ((part < 0).sum(1) == hidden).all() and part.max() < 7
    for before, after in pairwise(parts):
        assert torch.equal(after[before >= 0], before[before >= 0])


@torch.no_grad()
def test_without_doubt_the_surest_stay_first(monkeypatch):
    """One place is certain, and is filled in the first step."""
    model, (_, text) = build(MaskGIT), example(1)
    logits = torch.zeros(1, 12, 7)
    logits[0, 8, 3] = 50.0
    monkeypatch.setattr(model, "logits", lambda ids, text: logits)
    first = next(unmask(model, {"text": text}, steps=20, doubt=0.0, generator=generator()))
    assert (first >= 0).nonzero().tolist() == [[0, 8]] and first[0, 8] == 3


@torch.no_grad()
def test_the_masked_one_is_asked_with_the_ids_of_its_places(monkeypatch):
    model, (_, text), seen = build(MaskGIT), example(1), []

    def spy(ids, text):
        seen.append(ids)
        return torch.zeros(1, 12, 7)
    monkeypatch.setattr(model, "logits", spy)
    parts = list(unmask(model, {"text": text}, steps=3, generator=generator()))
    assert (seen[0] == model.mask).all()
    known = parts[0] >= 0
    assert torch.equal(seen[1][known], (parts[0] + model.offset)[known])
