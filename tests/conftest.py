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


@pytest.fixture
def few_texts(monkeypatch):
    """A function to call before sd64 is trained, which reads every text first: those of the faces will do."""
    def shrink():
        faces = data.emoji(64, "faces")
        monkeypatch.setattr(data, "emoji", lambda size, split: faces)
        monkeypatch.setattr(latent_models, "latents", lambda *_: torch.ones(len(faces), 8, 8, 8))
    return shrink
