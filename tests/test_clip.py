"""CLIP: the contrastive loss, which texts count as true, and that it learns."""
import math
import random

import pytest
import torch
from torch.nn import functional as F

from course_lib import data, train
from course_lib.clip import CLIP, clip_loss, facts, pairs, statement
from course_lib.text import Tokenizer


def unit(n, d, seed):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_the_loss_by_hand():
    u, v = unit(5, 4, 0), unit(5, 4, 1)
    p = lambda logits: sum(-math.log(math.exp(row[i]) / sum(map(math.exp, row)))
                           for i, row in enumerate(logits)) / len(logits)
    logits = (7 * u @ v.T).tolist()
    by_hand = (p(logits) + p([*zip(*logits, strict=True)])) / 2
    assert clip_loss(u, v, 7).item() == pytest.approx(by_hand, rel=1e-5)
    assert clip_loss(torch.ones(6, 4) / 2, torch.ones(6, 4) / 2, 7).item() == pytest.approx(math.log(6))


def test_all_true_texts_share_the_target():
    """Pictures 0 and 1 have the same text: the best they can reach is ln 2 between them, not 0."""
    u = torch.eye(3)[[0, 0, 1]]
    match = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    assert clip_loss(u, u, 100, match).item() == pytest.approx(2 / 3 * math.log(2), abs=1e-4)
    assert clip_loss(u, u, 100, match) < clip_loss(u, u.roll(1, 0), 100, match)


def test_targets_by_hand():
    """Text 1 is true of both pictures, text 0 of picture 0 only: the two directions differ."""
    u, v, match = unit(2, 4, 0), unit(2, 4, 1), torch.tensor([[True, True], [False, True]])
    logits = 5 * u @ v.T
    rows, columns = logits.log_softmax(1), logits.log_softmax(0)
    by_rows = -((rows[0, 0] + rows[0, 1]) / 2 + rows[1, 1]) / 2
    by_columns = -(columns[0, 0] + (columns[0, 1] + columns[1, 1]) / 2) / 2
    assert clip_loss(u, v, 5, match).item() == pytest.approx(((by_rows + by_columns) / 2).item(), rel=1e-5)


@pytest.fixture(scope="module")
def emoji():
    return data.emoji(64)


def test_statements_are_true_and_match_says_so(emoji):
    rng = random.Random(0)
    for row in emoji.table[::97]:
        for _ in range(8):
            text, said = statement(row, rng)
            assert text and said <= facts(row)
    tokenizer = Tokenizer(row["caption"] for row in emoji.table)
    torch.manual_seed(0)
    x, tokens, match = next(pairs(emoji, tokenizer, 64))
    assert x.shape == (64, 3, 64, 64) and tokens.ids.shape == (64, tokenizer.length)
    assert match.diagonal().all() and match.sum() > 64  # shared keywords: more than the diagonal
    assert match.float().mean() < 0.2


def test_a_small_clip_learns_its_pairs(emoji):
    few = data.Emoji(emoji.pictures[:300:10], emoji.table[:300:10])
    tokenizer = Tokenizer(row["caption"] for row in few.table)
    torch.manual_seed(0)
    model = CLIP(tokenizer, dim=32, width=16)
    batches = pairs(few, tokenizer, 30)
    *_, tick = train.fit(model, lambda m, b: m.loss(b), batches, 150, lr=2e-3, ema=0.5)
    with torch.no_grad():
        u = tick.ema.pictures(data.to_float(few.pictures))
        v = tick.ema.texts([row["caption"] for row in few.table])
    assert torch.allclose(torch.cat([u, v]).norm(dim=1), torch.ones(2 * len(u)))
    assert (u @ v.T).argmax(1).eq(torch.arange(len(u))).float().mean() > 0.6
