"""Text encoder against size of the diffusion network. Writes benchmarks/encoders.csv; notebook 05 plots it.

    python benchmarks/encoders.py         # about two hours on one CPU core; goes on where it stopped

Seven ways to read a caption times three sizes of U-Net, 800 steps each of 64 latents of ae64 with their
captions, people only: 60 % of the pictures, and the ones whose captions combine most. The words reach every
U-Net as vectors of 128 numbers. With one seed, all runs of one size see the same pictures, times, noise and
dropped captions, and their U-Nets start with the same weights.

bag: one learned vector a word. scratch: two transformer layers on top, learned too. MiniLM n: a frozen
sentence encoder cut after n of its 6 layers, and a learned linear map to 128.

Scored with the shipped classifier and CLIP, one picture a prompt, on the captions of the held-out split and
on paraphrases of them: style, up to three keywords that no training caption contains, skin tone.
"""
from collections import deque
from pathlib import Path

import table
import torch
from torch import nn
from tqdm.auto import tqdm

from course_lib import data, metrics, recipes, samplers, train
from course_lib.captions import keywords
from course_lib.guidance import drop, guide
from course_lib.nets.classifier import labels
from course_lib.nets.text import MiniLM, TextTransformer, Tokenizer, Tokens, words
from course_lib.systems.prompts import encode

STEPS, BATCH, WIDTH, LENGTH, SAMPLING = 800, 64, 128, 24, 10
SIZES = {"small": (16, 24), "middle": (32, 48), "large": (56, 80)}
ENCODERS = ("bag", "scratch", "MiniLM 0", "MiniLM 1", "MiniLM 2", "MiniLM 4", "MiniLM 6")
SCALES = (1.0, 2.5, 4.0, 7.0)
PATH = Path(__file__).with_suffix(".csv")

everything, held = data.emoji(64), data.emoji(64, split="held_out")
who = [i for i, row in enumerate(everything.table) if row["category"] == "People & Body"]
emoji = data.Emoji(everything.pictures[who], [everything.table[i] for i in who])
people = [i for i, row in enumerate(held.table) if row["category"] == "People & Body"]
captions = [row["caption"] for row in emoji.table]
known = {word for caption in captions for word in words(caption)}
tokenizer = Tokenizer(captions, least=1, length=LENGTH)


def paraphrase(row) -> str:
    """The row's caption with keywords that no training caption contains in place of its name, or "" where
    there are none."""
    new = [k for k in keywords(row) if not known & set(words(k))][:3]
    tone = ", ".join(part for part in row["caption"].split(", ") if part.endswith("skin tone"))
    return ", ".join(filter(None, (f"{row['style']} {' '.join(new)}", tone))) if new else ""


PROMPTS = {"held out": [(i, held.table[i]["caption"]) for i in people],
           "paraphrase": [(i, paraphrase(held.table[i])) for i in people if paraphrase(held.table[i])]}


def short(row) -> str:
    """A caption that tells neither style nor skin tone."""
    return row["name"].split(",")[0]


class Ears(nn.Module):
    """What is learned of an encoder: (raw, mask) of `listen` -> {"words": (B, L, 128), "mask": (B, L)}."""

    def __init__(self, name: str):
        super().__init__()
        self.frozen = name.startswith("MiniLM")
        self.net = nn.Linear(MiniLM.width, WIDTH) if self.frozen else TextTransformer(
            len(tokenizer), WIDTH, depth=2 * (name == "scratch"), length=LENGTH)

    def forward(self, raw, mask):
        return {"words": self.net(raw) if self.frozen else self.net(Tokens(raw, mask))[0], "mask": mask}


def listen(name: str, texts: list[str]):
    """What is computed once for each text: MiniLM's words or token numbers, and the mask."""
    if name.startswith("MiniLM"):
        return tuple(encode(MiniLM(int(name[-1]), LENGTH), texts).values())
    return tokenizer(texts)


class Told(nn.Module):
    """A denoiser and its ears, trained together."""

    def __init__(self, name: str, size: str):
        super().__init__()
        self.denoiser = recipes.latent_denoiser(SIZES[size], words=WIDTH)  # first, so that all start equal
        self.ears = Ears(name)

    def loss(self, batch):
        z, raw, mask = batch
        return self.denoiser.loss(z, **self.ears(raw, mask))


def batches(z, raw, mask):
    """Latents with what was heard of their captions; row 0 is the empty text, for one in ten."""
    for i in emoji.draws(BATCH):
        j = drop(i + 1, torch.tensor(0), 0.1)
        yield z[i], raw[j], mask[j]


@torch.inference_mode()
def draw(model, heard, nothing, w: float, codec):
    """One picture for each prompt, the k-th from the same noise in every run."""
    x = torch.randn(len(heard[0]), 8, 8, 8, generator=torch.Generator().manual_seed(0))
    parts = []
    for raw, mask, noise in zip(*(part.split(128) for part in (*heard, x)), strict=True):
        blank = model.ears(*(part.expand(len(raw), *part.shape[1:]) for part in nothing))
        denoise = guide(model.denoiser, model.ears(raw, mask), blank, w)
        z = samplers.draw(denoise, denoise.schedule, noise, SAMPLING, samplers.dpmpp_2m())
        parts.append(codec.decode(z).clamp(-1, 1))
    return torch.cat(parts)


class Judge:
    """Scores of pictures that should show the rows `which` of the held-out split."""

    def __init__(self):
        self.classifier, self.clip = recipes.load("classifier"), recipes.load("clip")
        self.names = sorted({row["name"] for row in held.table})
        self.named, self.said = self.texts(self.names), self.texts([row["caption"] for row in held.table])
        self.truth = labels(held.table)
        self.concept = torch.tensor([self.names.index(row["name"]) for row in held.table])

    def texts(self, texts):
        with torch.inference_mode():
            return self.clip.texts(texts)

    @torch.inference_mode()
    def __call__(self, x, which) -> dict[str, str]:
        parts = x.split(64)
        seen = torch.cat([self.clip.pictures(part) for part in parts])
        features = torch.cat([self.classifier.features(part) for part in parts])
        originals = data.to_float(held.pictures[which]).split(64)
        real = torch.cat([self.classifier.features(part) for part in originals])
        answers = {k: head(features).argmax(1) for k, head in self.classifier.heads.items()}
        right = {k: (v == self.truth[k][which]).float().mean() for k, v in answers.items()}
        right["concept"] = ((seen @ self.named.T).argmax(1) == self.concept[which]).float().mean()
        right["clip_score"] = metrics.clip_score(seen, self.said[which]).mean()
        right["frechet"] = metrics.frechet(real, features)
        return {k: f"{float(v):.4f}" for k, v in right.items()}


def plan():
    """(encoder, size, captions, seed) of every run, the decisive ones first."""
    decisive = [(e, s, "rich") for s in ("large", "small") for e in ("bag", "scratch", "MiniLM 6")]
    ladder = [(f"MiniLM {n}", s, "rich", 0) for n in (0, 2, 4, 1) for s in ("large", "small")]
    runs = [*((*run, 0) for run in decisive), ("scratch", "large", "short", 0), *ladder]
    runs += [(*run, seed) for seed in (1, 2) for run in decisive]
    return runs + [(e, "middle", "rich", 0) for e in ENCODERS]


def one(encoder, size, kind, seed, z, codec, judge) -> list[dict]:
    """Train one model and score it: a row for each set of prompts and each w."""
    torch.manual_seed(seed)
    model = Told(encoder, size)
    raw, mask = listen(encoder, ["", *(captions if kind == "rich" else map(short, emoji.table))])
    torch.manual_seed(seed)
    ticks = train.fit(model, lambda m, batch: m.loss(batch), batches(z, raw, mask), STEPS, lr=2e-3, ema=0.99)
    model = deque(tqdm(ticks, f"{encoder}, {size}, {kind}, {seed}", STEPS), maxlen=1).pop().ema.eval()
    rows = []
    for prompts, pairs in PROMPTS.items():
        which, texts = zip(*pairs, strict=True)
        if kind == "short":  # it is asked as it was taught
            texts = [short(held.table[i]) for i in which]
        for w in SCALES if prompts == "held out" else (4.0,):
            x = draw(model, listen(encoder, list(texts)), (raw[:1], mask[:1]), w, codec)
            parameters = sum(p.numel() for p in model.denoiser.parameters())
            rows.append({"encoder": encoder, "size": size, "captions": kind, "seed": seed, "prompts": prompts,
                         "w": w, "parameters": parameters, **judge(x, list(which))})
    return rows


def main() -> None:
    rows = table.read(PATH)
    done = {(r["encoder"], r["size"], r["captions"], int(r["seed"] or 0)) for r in rows}
    z, codec, judge = recipes.latents("ae64")[who], recipes.load("ae64"), Judge()
    if not rows:  # what the real pictures get
        rows += [{"encoder": "real", "prompts": k, **judge(data.to_float(held.pictures[which]), which)}
                 for k, pairs in PROMPTS.items() for which in [[i for i, _ in pairs]]]
    for run in tqdm([run for run in plan() if run not in done]):
        rows += one(*run, z, codec, judge)
        table.write(PATH, rows)


if __name__ == "__main__":
    main()
