"""Whole systems, put together from parts that were trained separately."""
from .from_diffusers import from_diffusers
from .latent_diffusion import LatentDiffusion
from .stable_diffusion import StableDiffusion

__all__ = ["LatentDiffusion", "StableDiffusion", "from_diffusers"]
