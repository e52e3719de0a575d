"""The classifier: its labels, that it learns, and what the shipped one reaches on new combinations."""
import pytest
import torch

from course_lib import data, recipes, train
from course_lib.batches import label_batches
from course_lib.nets.classifier import LABELS, Classifier, labels


def test_every_picture_has_its_labels():
    table = data.emoji(16, split="all").table
    truth = labels(table)
    for name, values in LABELS.items():
        assert truth[name].shape == (len(table),) and set(truth[name].tolist()) == set(range(len(values)))
        assert values[truth[name][4000]] == table[4000][name]


def test_a_small_classifier_learns():
    emoji = data.emoji(64)
    few = data.Emoji(emoji.pictures[::300], emoji.table[::300])
    torch.manual_seed(0)
    batches = label_batches(few, 32)
    *_, tick = train.fit(Classifier(8), lambda m, b: m.loss(**b), batches, 250, lr=3e-3, ema=0.5)
    x, truth = data.to_float(few.pictures), labels(few.table)
    with torch.no_grad():
        out = tick.ema(x)
    for name in LABELS:
        assert torch.allclose(out[name].exp().sum(1), torch.ones(len(x)), atol=1e-5)
        assert out[name].argmax(1).eq(truth[name]).float().mean() > 0.8, name
    assert tick.ema.features(x).shape == (len(x), 32)


@pytest.fixture(scope="module")
def held_out():
    return data.emoji(64, split="held_out")


def test_the_shipped_classifier_on_new_combinations(held_out):
    model, truth = recipes.load("classifier"), labels(held_out.table)
    with torch.no_grad():
        out = [model(data.to_float(part)) for part in held_out.pictures.split(64)]
    for name, least in (("category", 0.95), ("tone", 0.85), ("style", 0.95)):
        right = torch.cat([o[name] for o in out]).argmax(1) == truth[name]
        assert right.float().mean() > least, name


def test_the_shipped_clip_finds_captions_of_new_combinations(held_out):
    """The right one among 100, both ways."""
    clip = recipes.load("clip")
    with torch.no_grad():
        u = torch.cat([clip.pictures(data.to_float(part)) for part in held_out.pictures.split(64)])
        v = clip.texts(held_out.captions)
    g = torch.Generator().manual_seed(0)
    draws = [torch.randperm(len(u), generator=g)[:100] for _ in range(10)]
    hits = lambda sim: sim.argmax(1).eq(torch.arange(100)).float().mean()
    for pictures, texts in ((u, v), (v, u)):
        assert torch.stack([hits(pictures[i] @ texts[i].T) for i in draws]).mean() > 0.8


@pytest.mark.parametrize(("x", "named"), [
    (torch.zeros(1, 3, 32, 32), r"\(B, 3, 64, 64\), given float32 \(1, 3, 32, 32\)"),
    (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "uint8.*to_float"),
    (torch.full((1, 3, 64, 64), 255.0), "255.*to_float"),
    (torch.full((1, 3, 64, 64), torch.nan), "12288 numbers that are NaN")])
def test_pictures_of_another_kind_are_refused(x, named):
    model = Classifier(8)
    for f in (model, model.features, lambda x: model.loss(x, **labels(data.table()[:1]))):
        with pytest.raises(ValueError, match=named):
            f(x)


def test_the_loss_is_the_sum_of_three_cross_entropies():
    torch.manual_seed(0)
    model, x, truth = Classifier(8), torch.randn(4, 3, 64, 64), labels(data.table()[:4])
    log_p = model(x)
    by_hand = sum(-log_p[name][range(4), truth[name]].mean() for name in LABELS)
    torch.testing.assert_close(model.loss(x, **truth), by_hand)
