"""What all systems share: prompts that are checked, a seed that decides everything, parts that move together.
"""
import contextlib
import dataclasses
import zlib
from typing import Protocol

import torch
from torch import Tensor, nn

from .. import checks
from ..captions import spell_out
from ..rng import of_seed


class Reader(Protocol):
    """What training needs to know about a text encoder."""

    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Texts -> what a network is told of them, by name: "words", one vector a word (B, L, width), and
        "mask", True where there is a word (B, L). The empty text has at least one."""


class TextEncoder(Reader, Protocol):
    """What a system needs to know about a text encoder."""

    def unread(self, text: str) -> list[str]:
        """What of the text is lost on the encoder: unknown to it, or too far back."""


@checks.typed
@torch.no_grad()
def encode(encoder: Reader, texts: list[str], batch: int = 512) -> dict[str, Tensor]:
    """`encoder.encode` of many texts, a batch at a time; an emoji reaches every encoder as its name."""
    texts = spell_out(checks.texts(texts))
    checks.counts(texts=len(texts), batch=batch)
    parts = [encoder.encode(texts[i:i + batch]) for i in range(0, len(texts), batch)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@checks.typed
def check_prompts(encoder: TextEncoder, texts: list[str], negative=None) -> tuple[list[str], list[str]]:
    """The prompts, and as many negative ones: negative is None, one text for all, or one for each.

    Raises TypeError or ValueError for what is no list of prompts. Words that the encoder does not read, in
    whatever script, are named in a warning. Emoji are read as their names.
    """
    texts = checks.texts(texts)
    if not texts:
        raise ValueError("texts must be a list of at least one prompt, given []")
    if negative is None or isinstance(negative, str):
        negative = [negative or ""] * len(texts)
    if len(checks.texts(negative)) != len(texts):
        raise ValueError(f"{len(negative)} negative texts for {len(texts)} prompts: give one, or one each")
    lost = [word for text in spell_out([*texts, *negative]) for word in encoder.unread(text)]
    if lost:
        checks.warn(f"the text encoder cannot read: {', '.join(dict.fromkeys(lost))}")
    return texts, negative


@contextlib.contextmanager
def seeded(seed: int):
    """Inside, torch's global random state depends on the seed alone; afterwards it is what it was. It is not
    that of `torch.manual_seed(seed)`: there the start was drawn, and the noise on the way must be another."""
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        torch.manual_seed(zlib.crc32(f"{seed} on the way".encode()))
        yield


class System:
    """A dataclass of parts that were trained separately. Each can be exchanged: `replace(system,
    decoder=other)`, from dataclasses. Most have a denoiser of samples of `shape`."""

    def to(self, device) -> "System":
        """Move all parts to a device; returns the system itself. device None: they stay."""
        for field in dataclasses.fields(self):
            part = getattr(self, field.name)
            if isinstance(part, nn.Module | Tensor) or hasattr(part, "to"):
                setattr(self, field.name, part.to(device))
        return self

    @property
    def device(self) -> torch.device:
        """Where the denoiser is."""
        return next(self.denoiser.parameters()).device

    @checks.typed
    def start(self, n: int, seed: int = 0) -> Tensor:
        """The noise that n samples start from, (n, *shape): the same for the same seed, on every device."""
        shape = (checks.whole(n, 1, what="n"), *self.shape)
        return self.denoiser.schedule.start(shape, of_seed(seed), self.device)


class TextToPicture(System):
    """text encoder -> something in between -> decoder. `intermediate` gives what lies between: a latent,
    tokens, an embedding or a small picture; `generate` goes all the way."""

    @checks.typed
    def cond(self, texts: list[str]) -> dict[str, Tensor]:
        """What the networks are told about the texts; [""] is what they were told without one."""
        return {name: v.to(self.device) for name, v in encode(self.text_encoder, texts).items()}

    @checks.typed
    def told(self, texts: list[str], negative: str | list[str] | None = None) -> tuple[dict, dict]:
        """The same of the prompts and of the texts to stay away from, by default the empty one. Warns of
        words that the text encoder does not read."""
        texts, negative = check_prompts(self.text_encoder, texts, negative)
        return self.cond(texts), self.cond(negative)
