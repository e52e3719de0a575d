"""The figures of a model card, where the answer is known."""
import pytest
import torch
from torch import nn

from course_lib import data
from course_lib.data import Emoji
from course_lib.recipes import SHIPPED, Recipe
from course_lib.recipes.judges import accuracy, retrieval
from course_lib.recipes.latent_models import fidelity
from course_lib.recipes.training import measured

ROWS = [{"category": category, "tone": tone, "style": style, "caption": caption}
        for category, tone, style, caption in (
            ("Smileys & Emotion", "light", "fluent", "one"), ("Smileys & Emotion", "", "noto", "two"),
            ("Smileys & Emotion", "dark", "twemoji", "three"), ("Flags", "mixed", "fluent", "four"))]


@pytest.fixture
def new_pictures(monkeypatch):
    """Gives the validation split pictures of these colours, 0 .. 255; no other split can be asked for."""
    def give(colours):
        pictures = torch.tensor(colours, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 64, 64)
        splits = {(64, "val"): Emoji(pictures, (ROWS * len(colours))[:len(colours)])}
        monkeypatch.setattr(data, "emoji", lambda size, split: splits[size, split])
    return give


class Told(nn.Module):
    """A network that does what it is told, with a parameter, since a network has one."""

    def __init__(self, **does):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))
        self.__dict__.update(does)


def test_the_fidelity_of_a_codec_by_hand(new_pictures):
    """White comes back 0.2 too dark, which is 20 dB; grey 0.02 too bright, 40 dB; black far too bright, which
    is shown as white: an error of 2, 0 dB. Their mean is 20 dB."""
    new_pictures([255, 0, 127] * 30)
    near = lambda z: torch.where(z > 0.5, z - 0.2, torch.where(z < -0.5, z + 7, z + 0.02))
    codec = Told(encode=lambda x: x.flip(3), decode=lambda z: near(z.flip(3)))
    assert fidelity(codec, SHIPPED) == {"psnr_new_pictures_db": 20.0}


def test_the_accuracy_of_a_classifier_that_always_says_the_first(new_pictures):
    new_pictures([0, 0, 0, 0])
    first = lambda x, n: torch.eye(n)[0].expand(len(x), n)
    judge = Told(forward=lambda x: {"category": first(x, 9), "tone": first(x, 7), "style": first(x, 3)})
    assert accuracy(judge, SHIPPED) == {"category_right": 0.75, "tone_right": 0.25, "style_right": 0.5}


@pytest.mark.parametrize(("look", "share"), [
    (torch.eye(4), 1.0), (torch.eye(4).roll(1, 0), 0.0), (torch.eye(4)[[0, 0, 0, 3]], 0.5),
    (torch.eye(4) + torch.tensor([[0.0], [2], [0], [0]]) * torch.tensor([1.0, 0, 1, 0]), 0.75)],
    ids=["perfect", "all wrong", "three look like the first", "the second looks more like two others"])
def test_the_retrieval_of_a_clip_by_hand(new_pictures, look, share):
    """Text k is the unit vector e_k; a picture is what it looks like."""
    new_pictures([0, 1, 2, 3])
    number = {"one": 0, "two": 1, "three": 2, "four": 3}
    clip = Told(pictures=lambda x: look[data.to_uint8(x)[:, 0, 0, 0].long()],
                texts=lambda texts: torch.eye(4)[[number[text] for text in texts]])
    assert retrieval(clip, SHIPPED) == {"own_caption_first": share}


def test_the_loss_on_new_pictures_is_the_mean_of_eight_batches():
    """The losses are 0, 1, ... 7; what the recipe measures stands beside their mean."""
    def endless(split, device, store):
        assert (split, device.type, store) == ("val", "cpu", SHIPPED)
        return ({"x": torch.tensor(float(k))} for k in range(99))
    plan = Recipe(Told, endless, steps=1, measure=lambda model, store: {"beauty": 5.0})
    assert measured(plan, Told(loss=lambda x: x), SHIPPED) == {"validation_loss": 3.5, "beauty": 5.0}


def test_the_loss_on_new_pictures_is_the_same_each_time_and_takes_no_random_number_away():
    plan = Recipe(Told, lambda *_: iter([{}] * 9), steps=1)
    model = Told(loss=lambda: torch.rand(()))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = measured(plan, model, SHIPPED)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert measured(plan, model, SHIPPED) == one
