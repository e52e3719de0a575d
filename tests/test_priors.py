"""The priors of DALL-E 2: embeddings as points and as numbers, and what is drawn for a text."""
import pytest
import torch
from torch.nn import functional as F

from course_lib.priors import AutoregressivePrior, DiffusionPrior, stretched


def text(n=3, length=5, dim=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.randint(1, length + 1, (n, 1), generator=g)
    return {"words": torch.randn(n, length, dim, generator=g), "mask": mask,
            "topic": F.normalize(torch.randn(n, dim, generator=g), dim=1)}


def points(n=400, dim=8, seed=0):
    """Unit vectors that lie around a common direction, with a different spread along each axis."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=g) * torch.linspace(1.0, 0.05, dim)
    return F.normalize(x + torch.eye(dim)[-1], dim=1)


def build(kind, **more):
    torch.manual_seed(0)
    return kind(5, 8, width=32, depth=2, **more).eval()


PRIORS = [(DiffusionPrior, {}), (AutoregressivePrior, {"k": 6, "levels": 9})]


@pytest.fixture(params=PRIORS, ids=["diffusion", "autoregressive"])
def prior(request):
    kind, more = request.param
    return build(kind, **more)


def awake(prior):
    for p in prior.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.3)
    return prior


def test_an_embedding_is_drawn_for_each_text_and_the_seed_decides(prior):
    awake(prior)
    e = prior.embed(text(), text(seed=1), seed=4)
    assert e.shape == (3, 8)
    torch.testing.assert_close(e.norm(dim=1), torch.ones(3))
    assert torch.equal(e, prior.embed(text(), text(seed=1), seed=4))
    assert not torch.equal(e, prior.embed(text(), text(seed=1), seed=5))


def test_padding_is_not_read(prior):
    awake(prior)
    told = text()
    loud = told | {"words": torch.where(told["mask"][:, :, None], told["words"], 1e3)}
    torch.testing.assert_close(prior.embed(loud, loud), prior.embed(told, told))


def test_guidance_leads_away_from_nothing(prior):
    awake(prior)
    plain, led = (prior.embed(text(), text(seed=1), w=w) for w in (1.0, 3.0))
    assert not torch.allclose(plain, led)
    torch.testing.assert_close(prior.embed(text(), text(), w=3.0), plain)  # nothing to lead away from


def test_a_prior_learns_where_the_pictures_of_a_text_lie(prior):
    """Two texts, two places: after a short training, what is drawn for a text lies at its place."""
    if isinstance(prior, AutoregressivePrior):
        prior.measure(points(), torch.ones(400))
    told, place = text(2), points(2, seed=3)
    optimizer = torch.optim.Adam(prior.train().parameters(), 3e-3)
    torch.manual_seed(0)
    for _ in range(150):
        i = torch.randint(2, (32,))
        loss = prior.loss(place[i], **{k: v[i] for k, v in told.items()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = prior.eval().embed(told, told) @ place.T
    assert (found.diagonal() > 0.9).all() and (found.argmax(1) == torch.arange(2)).all()


def test_of_several_the_nearest_to_the_text_is_kept(monkeypatch):
    prior, told, drawn = build(DiffusionPrior), text(), 3 * points(12, seed=5)
    monkeypatch.setattr("course_lib.priors.draw", lambda *_: drawn)
    for i, e in enumerate(prior.embed(told, told, best_of=4)):
        mine = F.normalize(drawn[4 * i:4 * i + 4], dim=1)
        assert torch.equal(e, mine[(mine @ told["topic"][i]).argmax()])


def test_the_loss_of_the_diffusion_prior_is_the_error_of_the_stretched_embedding():
    """An untrained network predicts 0: the error is the mean square of the embedding's numbers, 1."""
    assert build(DiffusionPrior).loss(points(64), **text(64)).item() == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(stretched(points(4)).square().mean(1), torch.ones(4))


def test_axes_and_steps_are_those_of_the_embeddings():
    prior, e, weights = build(AutoregressivePrior, k=8, levels=40), points(), torch.rand(400) + 0.1
    prior.measure(e, weights)
    share = weights / weights.sum()
    torch.testing.assert_close(prior.mean, share @ e)
    y = (e - prior.mean) @ prior.axes
    spread = y.T @ (share[:, None] * y)
    torch.testing.assert_close(spread, spread.diagonal().diag(), atol=1e-5, rtol=1e-4)
    assert (spread.diagonal().diff() <= 1e-6).all() and (prior.steps.diff(dim=1) >= 0).all()
    used = torch.zeros(8, 40).scatter_add_(1, prior.tokens(e).T, share.expand(8, 400))
    assert used.max() < 4 / 40  # each step stands for about as much weight
    assert (F.cosine_similarity(prior.embedding(prior.tokens(e)), e) > 0.97).all()


def test_what_is_on_few_axes_is_rounded_away():
    few, many = (build(AutoregressivePrior, k=k, levels=64) for k in (2, 8))
    for prior in (few, many):
        prior.measure(points(), torch.ones(400))
    kept = [F.cosine_similarity(p.embedding(p.tokens(points())), points()).mean() for p in (few, many)]
    assert kept[0] < kept[1]


@torch.no_grad()
def test_with_memory_the_numbers_are_those_without():
    prior, told = awake(build(AutoregressivePrior, k=6, levels=9)), text()
    tokens = torch.randint(9, (3, 6), generator=torch.Generator().manual_seed(0))
    x = torch.cat([prior.text(**told), prior._vectors(tokens[:, :-1])], dim=1)
    expected = prior.to_number(prior.body(x)[:, -6:])
    logits, memory = prior.read(**told)
    found = [logits, *(prior.follow(tokens[:, i], i, memory) for i in range(5))]
    torch.testing.assert_close(torch.stack(found, 1), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_an_embedding_is_blurred_in_training_alone():
    prior = build(AutoregressivePrior, k=6, levels=30, dropout=0.0, blur=0.2)
    prior.measure(points(), torch.ones(400))
    seen, tokens = [], prior.tokens
    prior.tokens = lambda e: seen.append(e) or tokens(e)
    e, told = points(64), text(64)
    prior.loss(e, **told)
    prior.train().loss(e, **told)
    assert torch.equal(seen[0], e) and (seen[1] - e).std() == pytest.approx(0.2, rel=0.1)


@torch.no_grad()
def test_near_steps_are_read_alike():
    """A step is read as the number that it is: the vector of the middle one of three lies between theirs."""
    prior = build(AutoregressivePrior, k=6, levels=3)
    low, middle, high = (prior._vectors(torch.full((1, 6), i)) for i in range(3))
    torch.testing.assert_close(middle, (low + high) / 2)
    assert not torch.allclose(low, high)
