"""What can be said of a picture: its caption, its name, its keywords, its Chinese name, and the emoji itself.

A row is one line of data/captions.csv (`Emoji.table`). An emoji in a text is read as its name, so a prompt or
a search in emoji is one in the words that the networks have learned: "noto 🍎" is the caption "noto red
apple".
"""
import re
from functools import lru_cache

import torch

from . import checks, data

TONES = "light", "medium-light", "medium", "medium-dark", "dark"  # of U+1F3FB and the four that follow
SELECTORS = re.compile("[\ufe0e\ufe0f]")  # say: draw the character before this as text, as a picture
JOINER = "\u200d"  # makes one picture of two: woman + rocket = woman astronaut
# The flag of a region is a black flag and its letters, as invisible characters: make them visible.
LETTERS = {0xE0000 + code: chr(code) for code in range(0x20, 0x7F)} | {0xE007F: ""}


@checks.typed
def facts(row: dict) -> set[str]:
    """What is true of a picture, by its row in the table: style, name, keywords, Chinese name."""
    return {f"style {row['style']}", f"name {row['name']}", f"chinese {row['chinese']}", *keywords(row)}


@checks.typed
def keywords(row: dict) -> list[str]:
    """Its English keywords; a few pictures have none."""
    return [word for word in row["keywords"].split("|") if word]


@checks.typed
def texts_of(row: dict) -> list[str]:
    """All texts of a picture that are true of it alone or of a few: caption, name, Chinese name, all
    keywords in one line, and the first three of them."""
    words = keywords(row)
    texts = row["caption"], row["name"], row["chinese"], " ".join(words), " ".join(words[:3])
    return [text for text in texts if text]


@checks.typed
def mostly_captions(row: dict) -> list[str]:
    """The same texts, with the caption so often that half of all draws give it."""
    return [row["caption"]] * 4 + texts_of(row)[1:]


@checks.typed
def mostly_captions_in_english(row: dict) -> list[str]:
    """The same without the Chinese name, for an encoder that reads English only."""
    return [text for text in mostly_captions(row) if text != row["chinese"]]


@checks.typed
def random_text(row: dict) -> tuple[str, set[str]]:
    """A random true text of a picture, and the facts it states: the caption half of the time, else
    the name, one to three keywords, or the Chinese name. Drawn from torch's random state."""
    kind = torch.rand(()).item()
    if kind < 0.5:
        return row["caption"], {f"style {row['style']}", f"name {row['name']}"}
    if kind < 0.6 and row["chinese"]:
        return row["chinese"], {f"chinese {row['chinese']}"}
    words = keywords(row)
    if kind < 0.85 and words:
        count = torch.randint(1, 4, ()).item()
        some = [words[k] for k in torch.randperm(len(words))[:count].tolist()]
        return " ".join(some), set(some)
    return row["name"], {f"name {row['name']}"}


# ---- Emoji as words --------------------------------------------------------------------------------

@checks.typed
def spell_out(text: str | list[str]) -> str | list[str]:
    """The text with the name in place of every emoji, or a list with each of its texts so.

    The longest known emoji comes first: 👩🏿‍🚀 is "woman astronaut, dark skin tone". One that the data have
    only in parts is read in parts: 🐱🏿 is "cat face dark skin tone". What they do not have stays as it is,
    for the encoder's `unread` to name.
    """
    if not isinstance(text, str):
        return [spell_out(one) for one in checks.texts(text)]
    if text.isascii():
        return text
    names, known = _names()
    text = known.sub(lambda found: f" {names[found[0]]} ", SELECTORS.sub("", text))
    return " ".join(text.replace(JOINER, "").translate(LETTERS).split())


@lru_cache(1)
def _names() -> tuple[dict[str, str], re.Pattern]:
    """Emoji of all splits -> name, without selectors; and the pattern that finds them, long ones first."""
    names = {chr(0x1F3FB + i): f"{tone} skin tone" for i, tone in enumerate(TONES)}
    for row in data.table(split="all"):
        emoji = "".join(chr(int(code, 16)) for code in row["codepoints"].split("-"))
        names[SELECTORS.sub("", emoji)] = row["name"]
    return names, re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
