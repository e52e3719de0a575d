"""How to train every network of the course, and the networks as shipped.

    python -m course_lib.recipes faces32            # train; goes on where it stopped; writes to runs/faces32
    python -m course_lib.recipes faces32 --ship     # and put the finished network into data/checkpoints

`load(NAME)` gives the shipped network, `get(NAME)` its recipe. What the shipped one did otherwise than its
recipe says, if anything, stands in its model card, in data/checkpoints/manifest.json.
"""
from .dalle import dalle, maskgit
from .imagen import imagen, imagen_enlarger
from .judges import classifier, clip, clip_judge, tokenizer
from .latent_models import (
    ae64,
    latent_denoiser,
    latents,
    ldm64,
    ldm64_weak,
    look_alikes,
    sd64,
    vae64,
    vq64,
    vq64x2,
)
from .pixel_models import (
    all32,
    blind16,
    faces,
    faces32,
    level16,
    picture_denoiser,
    sr16to64,
    sr16to64_regression,
)
from .registry import RECIPES, SHIPPED, Recipe, Store, get, load, recipe
from .unclip import unclip, unclip_prior, unclip_prior_ar

__all__ = [
    "RECIPES", "SHIPPED", "Recipe", "Store", "ae64", "all32", "blind16", "classifier", "clip", "clip_judge",
    "dalle", "faces", "faces32", "get", "imagen", "imagen_enlarger", "latent_denoiser", "latents", "ldm64",
    "ldm64_weak", "level16", "load", "look_alikes", "maskgit", "picture_denoiser", "recipe", "sd64",
    "sr16to64", "sr16to64_regression", "tokenizer", "unclip", "unclip_prior", "unclip_prior_ar", "vae64",
    "vq64", "vq64x2",
]
