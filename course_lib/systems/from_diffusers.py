"""The same three parts with published weights: a Stable Diffusion 1 or 2 pipeline of Hugging Face diffusers.

`from_diffusers` takes the networks of a pipeline and leaves its loop, scheduler and guidance aside: these are
the course's own (`systems.StableDiffusion`, `samplers.sample`, `guidance.guide`). Needs diffusers,
transformers.
"""
import torch
from torch import Tensor, nn

from .. import checks
from ..denoiser import Denoiser, predict_eps, predict_v
from ..schedules import DDPM
from .stable_diffusion import StableDiffusion

TARGETS = {"epsilon": predict_eps, "v_prediction": predict_v}


class PipelineText:
    """Tokenizer and text encoder of a pipeline: always `length` tokens, and padding is read like words."""

    def __init__(self, tokenizer, model):
        self.tokenizer, self.model = tokenizer, model
        self.length = model.config.max_position_embeddings

    @torch.no_grad()
    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Texts -> {"words": the last hidden states (B, length, width), "mask": True everywhere}."""
        texts = checks.texts(texts)
        ids = self.tokenizer(texts, padding="max_length", max_length=self.length, truncation=True,
                             return_tensors="pt").input_ids
        x = self.model(ids.to(self.model.device)).last_hidden_state
        return {"words": x, "mask": torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)}

    def to(self, device) -> "PipelineText":
        """Move the encoder."""
        self.model.to(device)
        return self

    def unread(self, text: str) -> list[str]:
        """What lies beyond `length` tokens; every script can be spelt in bytes."""
        ids = self.tokenizer(text).input_ids
        return [self.tokenizer.decode(ids[self.length - 1:-1])] if len(ids) > self.length else []


class PipelineNet(nn.Module):
    """A pipeline's U-Net under our conventions: our time t is theirs plus 1, and there is a mask."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, x: Tensor, t: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        dtype = self.unet.dtype
        return self.unet(x.to(dtype), t - 1, words.to(dtype)).sample.to(x.dtype)


class PipelineDecoder:
    """A pipeline's auto-encoder: latents, scaled to about unit variance -> pictures in [-1, 1]."""

    def __init__(self, vae):
        self.vae = vae

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, C, h, w) -> pictures (B, 3, H, W)."""
        return self.vae.decode(z.to(self.vae.dtype) / self.vae.config.scaling_factor).sample.float()

    def to(self, device) -> "PipelineDecoder":
        """Move the auto-encoder."""
        self.vae.to(device)
        return self


def from_diffusers(pipe) -> StableDiffusion:
    """A diffusers StableDiffusionPipeline -> the system of this course with its weights."""
    config = pipe.scheduler.config
    if config.prediction_type not in TARGETS:
        raise ValueError(f"the pipeline predicts {config.prediction_type!r}; known are {', '.join(TARGETS)}")
    schedule = DDPM(config.num_train_timesteps, beta=pipe.scheduler.betas)
    denoiser = Denoiser(PipelineNet(pipe.unet), schedule, TARGETS[config.prediction_type]).eval()
    edge = pipe.unet.config.sample_size
    reader = PipelineText(pipe.tokenizer, pipe.text_encoder)
    return StableDiffusion(reader, denoiser, PipelineDecoder(pipe.vae),
                           shape=(pipe.unet.config.in_channels, edge, edge))
