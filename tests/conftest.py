"""What several test files use."""
import pytest
import torch

from course_lib import data
from course_lib.recipes import latent_models


@pytest.fixture(scope="module")
def random_latents():
    """In place of ae64's latents, which take half a minute: for tests that do not ask what a latent shows."""
    def latents(codec, split="train", store=None):
        g = torch.Generator().manual_seed(7)
        return torch.randn(len(data.table(split=split)), 8, 8, 8, generator=g)
    patch = pytest.MonkeyPatch()
    patch.setattr(latent_models, "latents", latents)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def a_few():
    """In place of `data.emoji`, two dozen faces: for recipes that read every text first, for minutes."""
    def some(size, split, emoji=data.emoji):
        faces = emoji(size, "faces")
        return data.Emoji(faces.pictures[:24], faces.table[:24])
    return some


@pytest.fixture
def few_texts(monkeypatch, a_few):
    """A function to call before a recipe that reads every text first: those of `a_few` will do."""
    def shrink():
        monkeypatch.setattr(data, "emoji", a_few)
        monkeypatch.setattr(latent_models, "latents", lambda *_: torch.ones(24, 8, 8, 8))
    return shrink
