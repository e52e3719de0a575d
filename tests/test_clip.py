"""CLIP: the contrastive loss, that it learns, and what it refuses."""
import math

import pytest
import torch
from torch.nn import functional as F

from course_lib import data, recipes, train
from course_lib.batches import pair_batches
from course_lib.nets.clip import CLIP, clip_loss
from course_lib.nets.text import Tokenizer


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


def test_a_small_clip_learns_its_pairs(emoji):
    few = data.Emoji(emoji.pictures[:300:10], emoji.table[:300:10])
    tokenizer = Tokenizer(row["caption"] for row in few.table)
    torch.manual_seed(0)
    model = CLIP(tokenizer, dim=32, width=16)
    batches = pair_batches(few, tokenizer, 30)
    *_, tick = train.fit(model, lambda m, b: m.loss(**b), batches, 150, lr=2e-3, ema=0.5)
    with torch.no_grad():
        u = tick.ema.pictures(data.to_float(few.pictures))
        v = tick.ema.texts([row["caption"] for row in few.table])
    assert torch.allclose(torch.cat([u, v]).norm(dim=1), torch.ones(2 * len(u)))
    assert (u @ v.T).argmax(1).eq(torch.arange(len(u))).float().mean() > 0.6


def test_a_search_in_emoji_is_one_in_words():
    model = recipes.load("clip")
    emoji = ["🍎", "❤️ 👩🏿‍🚀", "👍🏿 café"]
    names = ["red apple", "red heart woman astronaut, dark skin tone", "thumbs up, dark skin tone cafe"]
    with torch.no_grad():
        assert torch.equal(model.texts(emoji), model.texts(names))
        one, two = model.encode(emoji), model.encode(names)
    assert one.keys() == two.keys() == {"words", "mask"}
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert model.unread("🍎 + 🦰 zorgle") == ["zorgle", "+", "🦰"]
    for f in (model.texts, model.encode):
        with pytest.raises(TypeError, match="expected a list of texts"):
            f("🍎")


def test_encode_gives_the_words_that_the_text_tower_gives(emoji):
    """The same numbers as its sequence; padding is marked, and the empty text has one word."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(emoji.captions)
    model, texts = CLIP(tokenizer, dim=16, width=16).eval(), ["noto red heart", ""]
    with torch.no_grad():
        said, tokens = model.encode(texts), tokenizer(texts)
        torch.testing.assert_close(said["words"], model.text(tokens)[0])
    assert torch.equal(said["mask"], tokens.mask) and said["mask"].sum(1).tolist() == [4, 1]
    assert torch.equal(model.texts(texts), model.texts(tokens))


@pytest.mark.parametrize(("x", "named"), [
    (torch.zeros(1, 3, 32, 32), r"\(B, 3, 64, 64\), given float32 \(1, 3, 32, 32\)"),
    (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "uint8.*to_float"),
    (torch.full((1, 3, 64, 64), 255.0), "255.*to_float"),
    (torch.full((1, 3, 64, 64), torch.nan), "12288 numbers that are NaN")])
def test_pictures_of_another_kind_are_refused(emoji, x, named):
    with pytest.raises(ValueError, match=named):
        CLIP(Tokenizer(["red"]), dim=16, width=16).pictures(x)


def test_the_temperature_goes_down_to_a_hundredth(emoji):
    """As in the paper, section 2.5: beyond that the training would become unstable."""
    model = CLIP(Tokenizer(["red heart"]), dim=8, width=8)
    x, tokens = data.to_float(emoji.pictures[:3]), model.tokenizer(["red", "heart", "red heart"])
    with torch.no_grad():
        for scale in (50.0, 100.0, 1000.0):
            model.log_scale.fill_(math.log(scale))
            expected = clip_loss(model.pictures(x), model.texts(tokens), min(scale, 100))
            torch.testing.assert_close(model.loss(x, tokens, torch.eye(3).bool()), expected)
