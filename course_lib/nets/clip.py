"""CLIP (Radford et al. 2021): pictures and texts in one space, in which partners lie close.

Two towers end in unit vectors u_i (picture) and v_j (text). In a batch of pairs each picture must find its
text among all texts, and each text its picture:

    L = -1/2 mean_i [ln softmax_j(u_i v_j / tau)_{j=i} + ln softmax_i(u_i v_j / tau)_{i=j}]
"""
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .. import checks
from ..captions import spell_out
from .autoencoder import SIZE
from .layers import picture_tower
from .text import TextTransformer, Tokenizer, Tokens


@checks.typed
class CLIP(nn.Module):
    """Two towers and a temperature. tokenizer: gives the vocabulary; dim: of the common space.

    An emoji in a text is read as its name (`spell_out`).
    """

    def __init__(self, tokenizer: Tokenizer, dim: int = 128, width: int = 64):
        super().__init__()
        checks.channels(width=width)
        checks.counts(dim=dim)
        self.tokenizer = tokenizer
        self.tower = picture_tower(width)
        self.text = TextTransformer(len(tokenizer), length=tokenizer.length)
        self.from_picture, self.from_text = nn.Linear(4 * width, dim), nn.Linear(128, dim)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # ln 1/tau

    def pictures(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, 64, 64) in [-1, 1] -> unit vectors (B, dim)."""
        checks.pictures(x, SIZE)
        return F.normalize(self.from_picture(self.tower(x)), dim=1)

    def texts(self, texts: list[str] | Tokens) -> Tensor:
        """Texts -> unit vectors (B, dim)."""
        tokens = texts if isinstance(texts, Tokens) else self.tokenizer(spell_out(checks.texts(texts)))
        return F.normalize(self.from_text(self.text(tokens.to(self.log_scale.device))[1]), dim=1)

    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Texts -> {"words": one vector a word (B, L, 128), "mask": True where there is a word (B, L)}: what
        a text-to-picture network reads, as Stable Diffusion 1 reads the words of OpenAI's CLIP."""
        tokens = self.tokenizer(spell_out(checks.texts(texts))).to(self.log_scale.device)
        return {"words": self.text(tokens)[0], "mask": tokens.mask}

    @checks.typed
    def unread(self, text: str) -> list[str]:
        """What is lost of a text: words never seen in training or too far back, signs like € and +."""
        return self.tokenizer.unread(spell_out(text))

    @checks.typed
    def loss(self, x: Tensor, tokens: Tokens, match: Tensor) -> Tensor:
        """The loss above, (): pictures x (B, 3, 64, 64), their texts, and which text is true of which
        picture, (B, B)."""
        if match.shape != (len(x), len(x)):
            raise ValueError(f"match must be ({len(x)}, {len(x)}), given {checks.kind(match)}")
        scale = self.log_scale.exp().clamp(max=100)
        return clip_loss(self.pictures(x), self.texts(tokens), scale, match)


@checks.typed
def clip_loss(pictures: Tensor, texts: Tensor, scale: Tensor | float, match: Tensor | None = None) -> Tensor:
    """Symmetric contrastive loss of unit vectors (B, d), (B, d), in nats; chance is ln B.

    scale: 1 / tau. match (B, B): True where text j is true of picture i. All true texts of a picture, and
    all true pictures of a text, share its target equally; each has at least one. Default: the diagonal.
    """
    logits = scale * pictures @ texts.T
    match = torch.eye(len(logits), device=logits.device) if match is None else match.to(logits)
    rows = F.cross_entropy(logits, match / match.sum(1, keepdim=True))
    columns = F.cross_entropy(logits.T, match.T / match.T.sum(1, keepdim=True))
    return (rows + columns) / 2
