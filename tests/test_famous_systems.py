"""DALL-E, DALL-E 2 and Imagen, of small untrained parts: what each hands on, and what its arguments do."""
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from course_lib.denoiser import Denoiser, predict_x0
from course_lib.guidance import augment, clip_x0
from course_lib.nets.autoencoder import KLAutoencoder, VQAutoencoder
from course_lib.nets.clip import CLIP
from course_lib.nets.text import Tokenizer
from course_lib.nets.token_transformers import DALLE, MaskGIT
from course_lib.nets.unet import LevelEmbed, UNet, VectorEmbed
from course_lib.priors import AutoregressivePrior, DiffusionPrior
from course_lib.samplers import dpmpp_2m, draw
from course_lib.schedules import Cosine
from course_lib.systems import DallE, Imagen, UnCLIP
from course_lib.systems.prompts import seeded

WORDS = Tokenizer(["red heart cat face dark skin tone fluent noto twemoji"], length=6)
TEXTS = ["red heart", "dark cat face", "noto heart"]


def awake(model):
    for p in model.parameters():
        if not p.any() or p.ndim > 1:
            torch.nn.init.normal_(p, std=0.1)
    return model.eval()


def denoiser(**more):
    return awake(Denoiser(UNet((8, 16), **more), Cosine(), predict_x0))


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return awake(CLIP(WORDS, dim=128, width=8))


@pytest.fixture(scope="module")
def dalle(clip):
    torch.manual_seed(0)
    codec = awake(VQAutoencoder(fine=8, coarse=8, codes=2))
    net = awake(DALLE(len(WORDS), 6, codec.codebook_size, codes=2, width=16, depth=1))
    return DallE(WORDS, net, codec, clip)


@pytest.fixture(scope="module")
def unclip(clip):
    torch.manual_seed(1)
    net = denoiser(channels=8, words=128, vectors={"embedding": partial(VectorEmbed, width=128)})
    prior = awake(DiffusionPrior(6, 128, width=16, depth=1))
    return UnCLIP(clip, prior, net, awake(KLAutoencoder(fine=8, coarse=8)))


@pytest.fixture(scope="module")
def imagen(clip):
    torch.manual_seed(2)
    large = denoiser(patch=4, words=128, cond_ch=3, vectors={"aug_level": LevelEmbed})
    return Imagen(clip, denoiser(words=128), large)


QUICK = {"dalle": {}, "unclip": {"steps": 2}, "imagen": {"steps": 2}}
BETWEEN = {"dalle": (3, 8, 16), "unclip": (3, 128), "imagen": (3, 3, 16, 16)}


@pytest.fixture(params=QUICK)
def one(request):
    return request.getfixturevalue(request.param), QUICK[request.param], BETWEEN[request.param]


def test_one_protocol_for_all(one):
    system, quick, shape = one
    x = system.generate(TEXTS, seed=3, **quick)
    assert x.shape == (3, 3, 64, 64) and x.min() >= -1 and x.max() <= 1
    assert torch.equal(x, system.generate(TEXTS, seed=3, **quick))
    assert not torch.equal(x, system.generate(TEXTS, seed=4, **quick))
    how = {} if isinstance(system, UnCLIP) else quick
    assert system.intermediate(TEXTS, seed=3, **how).shape == shape


def test_the_random_state_is_left_alone(one):
    system, quick, _ = one
    torch.manual_seed(9)
    expected = torch.rand(2)
    torch.manual_seed(9)
    system.generate(TEXTS[:1], **quick)
    assert torch.equal(torch.rand(2), expected)


def test_a_prompt_counts_and_unknown_words_are_named(one):
    system, quick, _ = one
    x = system.generate(TEXTS, seed=3, **quick)
    assert not torch.equal(x[1:], system.generate([TEXTS[0], "red", "red"], seed=3, **quick)[1:])
    with pytest.warns(UserWarning, match="cannot read: zebra"):
        system.generate(["zebra heart"], **quick)
    with pytest.raises(TypeError, match="expected a list of texts, given one text"):
        system.generate("red heart", **quick)


def test_all_parts_move(one):
    system = deepcopy(one[0])
    nets = [part for part in vars(system).values() if isinstance(part, torch.nn.Module)]
    assert system.to(None) is system and system.device.type == "cpu" and len(nets) >= 3
    assert system.to("meta").device.type == "meta"
    assert {p.device.type for net in nets for p in [*net.parameters(), *net.buffers()]} == {"meta"}


# ---- DALL-E -----------------------------------------------------------------------------------------

def test_dalle_decodes_the_tokens_that_it_writes(dalle):
    tokens = dalle.intermediate(TEXTS, seed=3, w=1.5, top_p=0.9)
    expected = dalle.decoder.decode_tokens(tokens).clamp(-1, 1)
    torch.testing.assert_close(dalle.generate(TEXTS, seed=3, w=1.5, top_p=0.9), expected)
    film = list(dalle.film(TEXTS, seed=3, w=1.5, top_p=0.9))
    assert len(film) == 128 and torch.equal(film[-1].view(3, 8, 16), tokens)


def test_of_several_pictures_the_one_that_suits_the_prompt_is_kept(dalle):
    many = [text for text in TEXTS for _ in range(4)]
    x = dalle.generate(many, seed=3)
    score = (dalle.ranker.pictures(x) * dalle.ranker.texts(many)).sum(1).view(3, 4)
    best = x.view(3, 4, 3, 64, 64)[torch.arange(3), score.argmax(1)]
    torch.testing.assert_close(dalle.generate(TEXTS, seed=3, best_of=4), best)
    with pytest.raises(ValueError, match="best_of needs a CLIP that ranks"):
        replace(dalle, ranker=None).generate(TEXTS, best_of=2)


def test_the_masked_transformer_takes_its_place(dalle):
    torch.manual_seed(0)
    net = awake(MaskGIT(len(WORDS), 6, dalle.decoder.codebook_size, codes=2, width=16, depth=1))
    masked = replace(dalle, transformer=net)
    assert masked.generate(TEXTS, seed=3, steps=4).shape == (3, 3, 64, 64)
    assert len(list(masked.film(TEXTS, steps=4))) == 4


# ---- DALL-E 2 ---------------------------------------------------------------------------------------

def test_unclip_draws_what_its_prior_says(unclip):
    e = unclip.intermediate(TEXTS, seed=3, best_of=1)
    torch.testing.assert_close(e.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(unclip.generate(TEXTS, 2, seed=3, best_of=1),
                               unclip.picture(e, TEXTS, 2, seed=3))
    other = replace(unclip, prior=awake(AutoregressivePrior(6, 128, k=5, levels=4, width=16, depth=1)))
    assert other.intermediate(TEXTS, temperature=0.5).shape == (3, 128)


def test_an_embedding_counts_with_and_without_a_text(unclip):
    e = F.normalize(torch.randn(2, 128, generator=torch.Generator().manual_seed(0)), dim=1)
    x = unclip.picture(e, steps=2, seed=1)
    assert not torch.allclose(x, unclip.picture(e.flip(0), steps=2, seed=1), atol=1e-3)
    assert not torch.allclose(x, unclip.picture(e, TEXTS[:2], steps=2, seed=1), atol=1e-3)
    assert not torch.allclose(x, unclip.picture(e, steps=2, seed=1, w=1.0), atol=1e-3)
    nothing = torch.zeros(2, 128)  # and no text: guidance has nothing to lead away from
    torch.testing.assert_close(*(unclip.picture(nothing, steps=2, w=w) for w in (1.0, 4.0)))


# ---- Imagen -----------------------------------------------------------------------------------------

def test_imagen_enlarges_the_small_picture_that_it_made(imagen):
    small = imagen.intermediate(TEXTS, 2, seed=3)
    assert small.abs().max() <= 1
    torch.testing.assert_close(imagen.generate(TEXTS, 2, seed=3, level=0.2),
                               imagen.enlarge(small, TEXTS, 2, seed=3, level=0.2))


def test_how_the_range_is_kept_can_be_chosen(imagen):
    ways = [imagen.intermediate(TEXTS, 3, w=20.0, threshold=way) for way in (clip_x0, None)]
    assert not torch.allclose(imagen.intermediate(TEXTS, 3, w=20.0), ways[0], atol=1e-3)
    assert not torch.allclose(*ways, atol=1e-3)


def test_the_enlarger_is_told_the_truth_about_the_noise(imagen):
    """Step by step: the small picture gets its noise, the network is told how much and told the text."""
    small = imagen.intermediate(TEXTS, 2, seed=3)
    level = torch.full((3,), 0.3)
    with seeded(5), torch.no_grad():
        low = augment(small, level)
        x = imagen.enlarger.schedule.start((3, 3, 64, 64))
        told = partial(imagen.enlarger, **imagen.cond(TEXTS), low_res=low, aug_level=level)
        expected = draw(told, imagen.enlarger.schedule, x, 2, dpmpp_2m()).clamp(-1, 1)
    torch.testing.assert_close(imagen.enlarge(small, TEXTS, 2, seed=5, level=0.3), expected)
    with pytest.raises(ValueError, match=r"level must be one number, in 0 .. 1"):
        imagen.enlarge(small, TEXTS, level=2.0)
