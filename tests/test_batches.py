"""Batches: each picture with what belongs to it, a seed repeats them, and wrong tables are refused."""
import itertools

import pytest
import torch
from elsewhere import Elsewhere
from torch import nn

from course_lib import data, recipes
from course_lib.batches import (
    caption_batches,
    class_batches,
    enlarging_batches,
    label_batches,
    latent_batches,
    pair_batches,
    picture_batches,
    small_batches,
)
from course_lib.captions import facts, mostly_captions, texts_of
from course_lib.data import Emoji, shrink, to_float, to_uint8
from course_lib.nets.classifier import LABELS, Classifier, labels
from course_lib.nets.clip import CLIP
from course_lib.nets.text import TextTransformer, Tokenizer
from course_lib.nets.unet import Regression
from course_lib.systems.prompts import encode


class Encoder(nn.Module):
    """Every text has a vector of its own: its number; what has been read is noted."""

    def __init__(self):
        super().__init__()
        self.number, self.calls = {}, 0

    def encode(self, texts):
        self.calls += len(texts)
        numbers = [self.number.setdefault(text, len(self.number)) for text in texts]
        words = torch.tensor(numbers, dtype=torch.float32)[:, None, None].expand(-1, 3, 2)
        mask = torch.tensor([[True, n % 2 == 0, n % 3 == 0] for n in numbers])
        return {"words": words, "mask": mask}


@pytest.fixture(scope="module")
def emoji():
    return data.emoji(64)


@pytest.fixture(scope="module")
def faces():
    return data.emoji(64, "faces")


def numbered(emoji):
    """The emoji with pictures that say which they are: every pixel of picture k is (k // 256, k % 256, 0)."""
    k = torch.arange(len(emoji))
    colours = torch.stack([k // 256, k % 256, 0 * k], 1).to(torch.uint8)
    return Emoji(colours[:, :, None, None].expand(-1, 3, 64, 64).contiguous(), emoji.table)


def numbers(x):
    """Which of the `numbered` pictures these are, by their middle pixels."""
    colour = to_uint8(x)[:, :, x.shape[2] // 2, x.shape[3] // 2].long()
    return (256 * colour[:, 0] + colour[:, 1]).tolist()


def test_pictures_come_with_the_weights_and_under_their_name(emoji):
    few = numbered(Emoji(emoji.pictures[:600], emoji.table[:600]))
    batches = picture_batches(few, 500, name="x")
    torch.manual_seed(0)
    found = [numbers(batch["x"]) for batch in itertools.islice(batches, 40)]
    count = torch.bincount(torch.tensor(found).flatten(), minlength=600).double()
    expected = 20_000 * few.weights()
    # chi-square with 599 degrees of freedom: four standard deviations
    assert abs(((count - expected) ** 2 / expected).sum().item() - 599) < 4 * (2 * 599) ** 0.5
    changed = next(picture_batches(few, 3, change=lambda x: x * 0 + 0.5))
    assert changed.keys() == {"x_0"} and torch.equal(changed["x_0"], torch.full((3, 3, 64, 64), 0.5))


def test_small_pictures_are_those_of_the_large_ones(faces):
    torch.manual_seed(0)
    batch = next(small_batches(faces, 20))
    assert batch.keys() == {"x_0", "low_res"} and batch["low_res"].shape == (20, 3, 16, 16)
    torch.testing.assert_close(batch["low_res"], shrink(batch["x_0"], 4))


def test_damaged_pictures_are_as_damaged_as_the_level_says(faces):
    """low_res = sqrt(1 - level^2) small + level noise, with levels even in 0 .. most."""
    torch.manual_seed(0)
    batch = next(enlarging_batches(faces, 400, most=0.5))
    assert batch.keys() == {"x_0", "low_res", "aug_level"}
    level = batch["aug_level"]
    assert level.shape == (400,) and 0 <= level.min() < 0.02 and 0.48 < level.max() < 0.5
    assert abs(level.mean() - 0.25) < 4 * 0.5 / (12 * 400) ** 0.5
    rest = batch["low_res"] - (1 - level**2).sqrt()[:, None, None, None] * shrink(batch["x_0"], 4)
    spread = (rest / level[:, None, None, None]).flatten(1).std(1)  # 768 numbers each: +- 2.6 %
    assert (spread - 1).abs().max() < 5 * 0.026 and len(spread.unique()) == 400


def test_every_latent_is_that_of_its_row(emoji):
    z = torch.arange(len(emoji)).float()[:, None]
    torch.manual_seed(0)
    batch = next(latent_batches(emoji, z, 1000))
    assert batch.keys() == {"x_0"} and batch["x_0"].shape == (1000, 1)
    torch.manual_seed(0)
    assert batch["x_0"][:, 0].long().tolist() == next(emoji.draws(1000)).tolist()


def test_every_latent_has_its_own_class_or_none(emoji):
    n = len(emoji)
    z, label = torch.arange(n).float()[:, None], torch.arange(n) % 7
    torch.manual_seed(0)
    batch = next(class_batches(emoji, z, label, 7, 5000, p=0.2))
    assert batch.keys() == {"x_0", "label"} and batch["label"].dtype == torch.long
    silent = batch["label"] == 7
    assert torch.equal(batch["label"][~silent], batch["x_0"][~silent, 0].long() % 7)
    assert abs(silent.float().mean().item() - 0.2) < 4 * (0.16 / 5000) ** 0.5
    assert not (next(class_batches(emoji, z, label, 7, 500, p=0.0))["label"] == 7).any()
    assert (next(class_batches(emoji, z, label, 7, 500, p=1.0))["label"] == 7).all()


def test_batches_pair_each_picture_with_its_own_text(faces):
    z, encoder = torch.arange(len(faces), dtype=torch.float32)[:, None], Encoder()
    first = lambda row: [row["name"], row["style"]]
    read = encode(encoder, ["", *(text for row in faces.table for text in first(row))], batch=64)
    torch.manual_seed(0)
    batches = caption_batches(faces, z, encoder, 500, p=0.2, texts=first)
    dropped = styles = 0
    for _ in range(4):
        batch = next(batches)
        assert batch.keys() == {"x_0", "words", "mask"}
        rows = batch["x_0"][:, 0].long().tolist()
        for k, said, seen in zip(rows, batch["words"], batch["mask"], strict=True):
            row = [0, 2 * k + 1, 2 * k + 2]
            [found] = {i for i in row
                       if torch.equal(seen, read["mask"][i]) and torch.allclose(said, read["words"][i])}
            dropped, styles = dropped + (found == 0), styles + (found == row[2])
    assert abs(dropped / 2000 - 0.2) < 4 * 0.009  # four standard errors of 2,000 coins
    assert abs(styles / 2000 - 0.4) < 4 * 0.011


def test_half_of_the_texts_are_the_caption(faces):
    """By default, of all that say something; the others are the row's own, too."""
    z, encoder = torch.arange(len(faces), dtype=torch.float32)[:, None], Encoder()
    torch.manual_seed(0)
    batch = next(caption_batches(faces, z, encoder, 4000))
    text = {n: text for text, n in encoder.number.items()}
    said = [text[int(n)] for n in batch["words"][:, 0, 0].tolist()]
    rows = [faces.table[int(k)] for k in batch["x_0"][:, 0].tolist()]
    spoken = [(t, row) for t, row in zip(said, rows, strict=True) if t]
    assert abs(len(spoken) / 4000 - 0.9) < 4 * (0.09 / 4000) ** 0.5
    assert all(t in texts_of(row) for t, row in spoken) and len({t for t, _ in spoken}) > len(faces)
    captions = sum(t == row["caption"] for t, row in spoken) / len(spoken)
    expected = sum(mostly_captions(row).count(row["caption"]) / len(mostly_captions(row))
                   for _, row in spoken) / len(spoken)
    assert abs(captions - expected) < 4 * 0.5 / len(spoken) ** 0.5 and abs(expected - 0.5) < 0.02


def test_every_text_is_read_once_before_the_first_batch(faces):
    encoder, z = Encoder(), torch.zeros(len(faces), 1)
    batches = caption_batches(faces, z, encoder, 8)
    next(batches)
    before = encoder.calls
    assert before == len({text for row in faces.table for text in texts_of(row)} | {""})
    next(batches)
    assert encoder.calls == before


def test_match_says_which_text_is_true_of_which_picture(emoji):
    few = numbered(emoji)
    tokenizer = Tokenizer(word for row in emoji.table for word in facts(row))
    torch.manual_seed(0)
    batch = next(pair_batches(few, tokenizer, 64))
    x, tokens, match = batch["x"], batch["tokens"], batch["match"]
    assert batch.keys() == {"x", "tokens", "match"}
    assert x.shape == (64, 3, 64, 64) and tokens.ids.shape == (64, tokenizer.length)
    assert match.diagonal().all() and match.sum() > 64  # shared keywords: more than the diagonal
    assert match.float().mean() < 0.2
    rows = [emoji.table[k] for k in numbers(x)]
    for j in range(64):  # the words of text j are words of what is true of picture j
        said = {tokenizer.vocabulary[n] for n in tokens.ids[j, 1:] if n}
        true = {tokenizer.vocabulary[n] for fact in facts(rows[j]) for n in tokenizer([fact]).ids[0, 1:] if n}
        assert said <= true
        for i in range(64):  # a picture with the same facts has the same truth
            if facts(rows[i]) == facts(rows[j]):
                assert match[i, j]


def test_a_row_of_match_is_a_picture_and_a_column_a_text(monkeypatch):
    """Picture "two" is also true of the text "one", but not the other way round."""
    table = [{"name": "one"}, {"name": "two"}]
    true = {"one": {"1"}, "two": {"1", "2"}}
    monkeypatch.setattr("course_lib.batches.facts", lambda row: true[row["name"]])
    monkeypatch.setattr("course_lib.batches.random_text", lambda row: (row["name"], true[row["name"]]))
    few = Emoji(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), table)
    monkeypatch.setattr(Emoji, "draws", lambda self, n: iter([torch.tensor([0, 1])]))
    match = next(pair_batches(few, Tokenizer(["one two"]), 2))["match"]
    assert match.tolist() == [[True, False], [True, True]]


def test_pictures_come_with_their_own_labels(emoji):
    torch.manual_seed(0)
    batch = next(label_batches(numbered(emoji), 300))
    assert batch.keys() == {"x", *LABELS} and batch["x"].shape == (300, 3, 64, 64)
    truth = labels([emoji.table[k] for k in numbers(batch["x"])])
    assert all(torch.equal(batch[name], truth[name]) for name in LABELS)


@pytest.mark.parametrize("make", [label_batches, lambda e, n: pair_batches(e, Tokenizer(["red"]), n)],
                         ids=["label", "pair"])
def test_pictures_for_judges_are_shifted_by_up_to_three_pixels(emoji, make):
    """A black square in the middle of white: its place is the shift."""
    pictures = torch.full((len(emoji), 3, 64, 64), 255, dtype=torch.uint8)
    pictures[:, :, 30, 30] = 0
    torch.manual_seed(0)
    found = set()
    for batch in itertools.islice(make(Emoji(pictures, emoji.table), 1), 400):
        [[_, row, column]] = (batch["x"][0, :1] == -1).nonzero().tolist()
        found.add((row, column))
    assert found == set(itertools.product(range(27, 34), repeat=2))


def flat(batch):
    return [x for part in batch.values() for x in (part if isinstance(part, tuple) else (part,))]


KINDS = ["picture", "small", "enlarging", "latent", "class", "caption", "pair", "label"]


def all_kinds(emoji, device=None):
    n, g = len(emoji), torch.Generator().manual_seed(0)
    z, label, tokenizer = torch.randn(n, 4, generator=g), torch.arange(n) % 3, Tokenizer(emoji.captions)
    return {
        "picture": lambda: picture_batches(emoji, 6, device, change=data.flip_and_shift),
        "small": lambda: small_batches(emoji, 6, device),
        "enlarging": lambda: enlarging_batches(emoji, 6, device),
        "latent": lambda: latent_batches(emoji, z, 6, device),
        "class": lambda: class_batches(emoji, z, label, 3, 6, device),
        "caption": lambda: caption_batches(emoji, z, Encoder(), 6, device),
        "pair": lambda: pair_batches(emoji, tokenizer, 6, device),
        "label": lambda: label_batches(emoji, 6, device)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_stream_draws_with_the_weights(emoji, kind):
    """Ten concepts of one picture, and one of fifty: its share is sqrt(50) / (10 + sqrt(50)), not 5 / 6."""
    rows = [row | {"concept": "many" if k >= 10 else row["name"]} for k, row in enumerate(emoji.table[:60])]
    few = Emoji(numbered(emoji).pictures[:60, :, :8, :8].contiguous(), rows)
    z, read = torch.arange(60.0)[:, None], Tokenizer(emoji.captions[:60])
    stream = {
        "picture": lambda n: picture_batches(few, n), "small": lambda n: small_batches(few, n),
        "enlarging": lambda n: enlarging_batches(few, n), "latent": lambda n: latent_batches(few, z, n),
        "class": lambda n: class_batches(few, z, z[:, 0].long(), 60, n),
        "caption": lambda n: caption_batches(few, z, Encoder(), n),
        "pair": lambda n: pair_batches(few, read, n), "label": lambda n: label_batches(few, n)}[kind](500)
    torch.manual_seed(0)
    drawn = [batch.get("x_0", batch.get("x")) for batch in itertools.islice(stream, 4)]
    found = torch.tensor([k for x in drawn for k in (numbers(x) if x.ndim == 4 else x[:, 0].tolist())])
    share = 50**0.5 / (10 + 50**0.5)
    assert abs((found >= 10).float().mean() - share) < 4 * (share * (1 - share) / 2000) ** 0.5
    assert len(found.unique()) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_one_stream(faces, kind):
    """All that is random comes from torch's global state."""
    make = all_kinds(faces)[kind]
    def first(seed):
        batches = make()
        torch.manual_seed(seed)
        return [x for batch in itertools.islice(batches, 3) for x in flat(batch)]
    one, same, other = first(0), first(0), first(1)
    assert all(map(torch.equal, one, same)) and not all(map(torch.equal, one, other))
    half = len(one) // 3
    assert not all(map(torch.equal, one[:half], one[half:2 * half])), "the batches are not all the same"


@pytest.mark.parametrize("kind", KINDS)
def test_batches_lie_on_the_device_that_is_asked_for(faces, kind):
    """As they would with CUDA, and with the numbers that they have on the CPU."""
    with Elsewhere():
        torch.manual_seed(0)
        one = next(all_kinds(faces)[kind]())
        torch.manual_seed(0)
        two = next(all_kinds(faces, "cuda")[kind]())
        assert one.keys() == two.keys() and {x.device.type for x in flat(two)} == {"cuda"}
        assert all(torch.equal(x, y.cpu()) for x, y in zip(flat(one), flat(two), strict=True))


@pytest.mark.parametrize(("build", "kind"), [
    (lambda: Regression(recipes.sr16to64_regression().new().net), "small"),
    (lambda: recipes.sr16to64().new(), "enlarging"), (lambda: Classifier(8), "label"),
    (lambda: CLIP(Tokenizer(["red heart"]), dim=8, width=8), "pair")],
    ids=["regression", "enlarger", "classifier", "clip"])
def test_the_keys_are_the_arguments_of_the_loss(faces, build, kind):
    if kind == "pair":
        batches = pair_batches(faces, Tokenizer(["red heart"]), 4)
    else:
        batches = all_kinds(faces)[kind]()
    loss = build().loss(**next(batches))
    assert loss.shape == () and loss.isfinite() and loss > 0


@pytest.mark.parametrize("make", [
    lambda e, z: latent_batches(e, z, 4), lambda e, z: class_batches(e, z, torch.zeros(len(e)).long(), 3, 4),
    lambda e, z: class_batches(e, torch.zeros(len(e), 1), z.long(), 3, 4),
    lambda e, z: caption_batches(e, z, Encoder(), 4)], ids=["latent", "class", "class label", "caption"])
def test_latents_of_other_pictures_are_refused(faces, make):
    with pytest.raises(ValueError, match=rf"there are {len(faces) + 1} entries for {len(faces)} pictures"):
        next(make(faces, torch.zeros(len(faces) + 1)))


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_a_batch_of_nothing_is_refused(faces, n):
    with pytest.raises(ValueError, match="n, the size of a batch, must be a whole number, at least 1; given"):
        next(picture_batches(faces, n))


def test_a_text_tower_as_encoder_gives_what_the_network_reads(faces):
    """The real parts together: TextTransformer's words for sd64's kind of network."""
    torch.manual_seed(0)
    tokenizer = Tokenizer(faces.captions)
    tower = TextTransformer(len(tokenizer), width=16, depth=1)
    class Tower:
        def encode(self, texts):
            return {"words": tower(tokenizer(texts))[0], "mask": tokenizer(texts).mask}
    batch = next(caption_batches(faces, torch.zeros(len(faces), 8, 8, 8), Tower(), 5))
    model = recipes.latent_denoiser((8, 8), words=16)
    assert batch["words"].shape == (5, 16, 16) and not batch["words"].requires_grad
    assert model.loss(**batch).isfinite() and to_float(faces.pictures[:1]).shape == (1, 3, 64, 64)


def test_captions_come_with_pictures_and_with_what_is_told_beside():
    """Pictures as uint8 become floats, and what is told beside each is its own."""
    faces, encoder = data.emoji(16, "faces"), Encoder()
    mean = to_float(faces.pictures).mean((1, 2, 3))
    batch = next(caption_batches(faces, faces.pictures, encoder, 40, mean=mean))
    assert batch["x_0"].shape == (40, 3, 16, 16) and batch["x_0"].dtype == torch.float32
    torch.testing.assert_close(batch["x_0"].mean((1, 2, 3)), batch["mean"])
    with pytest.raises(ValueError, match="they must be of the same"):
        next(caption_batches(faces, faces.pictures, encoder, 4, mean=mean[:-1]))
