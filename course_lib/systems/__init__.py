"""Whole systems, put together from parts that were trained separately."""
from .dalle import DallE
from .from_diffusers import from_diffusers
from .imagen import Imagen
from .latent_diffusion import LatentDiffusion
from .stable_diffusion import StableDiffusion
from .unclip import UnCLIP

__all__ = ["DallE", "Imagen", "LatentDiffusion", "StableDiffusion", "UnCLIP", "from_diffusers"]
