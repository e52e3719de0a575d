"""Texts of a picture are true of it; an emoji in a text is read as its name, and nothing is lost in silence.
"""
from collections import Counter

import pytest
import torch

from course_lib import data, recipes
from course_lib.captions import (
    facts,
    keywords,
    mostly_captions,
    mostly_captions_in_english,
    random_text,
    spell_out,
    texts_of,
)

TABLE = data.table(split="all")


def test_all_texts_of_a_picture_are_true_of_it():
    """Caption, name, Chinese name and keywords of its row, the caption first, none of them empty."""
    for row in TABLE[::7]:
        texts, words = texts_of(row), keywords(row)
        assert texts[0] == row["caption"] and row["name"] in texts and all(texts)
        lines = {" ".join(words), " ".join(words[:3])}
        assert set(texts) <= {row["caption"], row["name"], row["chinese"], *lines}
        assert (row["chinese"] == "" or row["chinese"] in texts) and (not words or " ".join(words) in texts)
        said = {f"{kind} {row[kind]}" for kind in ("style", "name", "chinese")}
        assert facts(row) == {*said, *words}


def test_a_row_without_keywords_has_texts_too():
    row = {"caption": "noto cat", "style": "noto", "name": "cat", "chinese": "", "keywords": ""}
    assert texts_of(row) == ["noto cat", "cat"] and keywords(row) == []
    torch.manual_seed(0)
    found = Counter(random_text(row)[0] for _ in range(1000))
    assert found.keys() == {"noto cat", "cat"} and abs(found["noto cat"] - 500) < 4 * 16


def test_half_of_mostly_captions_is_the_caption():
    """Of every row that has all kinds of texts; never less."""
    whole = 0
    for row in TABLE:
        texts = mostly_captions(row)
        assert set(texts) == set(texts_of(row))
        share = texts.count(row["caption"]) / len(texts)
        assert share >= 0.5
        whole += share == 0.5
    assert whole > 0.9 * len(TABLE)


def test_random_texts_are_true_and_as_often_as_said():
    """The caption half of the time, the Chinese name in one tenth, keywords in a quarter, else the name."""
    torch.manual_seed(0)
    for row in TABLE[::97]:
        for _ in range(8):
            text, said = random_text(row)
            assert text and said <= facts(row)
    row = next(row for row in TABLE if len(keywords(row)) > 4 and row["name"] not in keywords(row))
    kinds, known = Counter(), {row[kind]: kind for kind in ("caption", "chinese", "name")}
    for _ in range(4000):
        text, said = random_text(row)
        kind = known.get(text, "keywords")
        kinds[kind] += 1
        if kind == "keywords":
            assert said <= set(keywords(row)) and 1 <= len(said) <= 3
            assert sorted(text.split()) == sorted(" ".join(said).split())
    expected = {"caption": 0.5, "chinese": 0.1, "keywords": 0.25, "name": 0.15}
    for kind, p in expected.items():
        assert abs(kinds[kind] / 4000 - p) < 4 * (p * (1 - p) / 4000) ** 0.5, kind


def test_random_texts_follow_torchs_seed():
    def said():
        torch.manual_seed(3)
        return [random_text(row)[0] for row in TABLE[:50]]
    assert said() == said()


# ---- Emoji as words --------------------------------------------------------------------------------


def typed(row):
    """The emoji of a row as a keyboard may write it: without selectors, and with one at each place."""
    parts = [chr(int(code, 16)) for code in row["codepoints"].split("-")]
    for selector in ("", "\ufe0f"):
        for k in range(1, len(parts) + 1):
            yield "".join(parts[:k]) + selector + "".join(parts[k:])


def test_every_emoji_of_the_data_is_its_name():
    """All styles and splits; alone, in a sentence, and as the caption of its style."""
    for row in TABLE:
        assert {spell_out(emoji) for emoji in typed(row)} == {row["name"]}
        *_, emoji = typed(row)
        assert spell_out(f"{row['style']} {emoji}") == row["caption"]
        assert spell_out(f"a{emoji}with hat") == f"a {row['name']} with hat"


def test_captions_stay_as_they_are():
    captions = [row["caption"] for row in TABLE]
    assert spell_out(captions) == captions


@pytest.mark.parametrize(("text", "read"), [
    ("", ""), ("a  cat, 3 * 4 # 5!", "a  cat, 3 * 4 # 5!"), ("红心 café", "红心 café"),
    ("🐱 with hat", "cat face with hat"),
    ("noto 🍎", "noto red apple"),
    ("🐱🍎", "cat face red apple"),
    ("👩🏿‍🚀", "woman astronaut, dark skin tone"),
    ("👍🏿", "thumbs up, dark skin tone"), ("🐱🏿", "cat face dark skin tone"),  # the second is no emoji
    ("🏻🏽🏿", "light skin tone medium skin tone dark skin tone"),
    ("🐱🏼🏾", "cat face medium-light skin tone medium-dark skin tone"),
    ("❤", "red heart"), ("❤️", "red heart"), ("❤︎", "red heart"), ("♥", "heart suit"), ("☺️", "smiling face"),
    ("3️⃣", "keycap, 3"), ("#⃣", "keycap, #"),
    ("🇩🇪🇫🇷", "flag, germany flag, france"),
    ("🏴󠁧󠁢󠁥󠁮󠁧󠁿", "flag, england"), ("🏴󠁵󠁳󠁴󠁸󠁿", "black flag ustx"),  # Texas is in no font of ours
    ("👩‍🐱", "woman cat face"), ("👩‍👩‍👦‍🍎", "family, woman, woman, boy red apple"),  # nor are these
    ("👩‍🦰", "woman, red hair"), ("🦰", "🦰"), ("a → b", "a → b")])
def test_how_a_text_is_read(text, read):
    assert spell_out(text) == read and spell_out(read) == read
    assert spell_out([text, "red"]) == [read, "red"]


def test_all_captions_are_read_but_words_of_new_concepts_and_two_keycaps():
    """"keycap, #" and "keycap, *" are the same to our networks, so that the sign is lost is the truth."""
    model, lost = recipes.load("clip"), {}
    for row in TABLE:
        lost.setdefault(row["split"], set()).update(model.unread(row["caption"]))
    assert lost["train"] == {"#", "*"} and lost["held_out"] == set()
    assert "tornado" in lost["val"] and all(word.isalpha() for word in lost["val"])
    marked = {row["name"] for row in TABLE if {"#", "*"} & {*model.unread(row["caption"])}}
    assert marked == {"keycap, #", "keycap, *"}


def test_captions_in_english_leave_out_the_chinese_name_alone():
    for row in data.table()[:300]:
        assert mostly_captions_in_english(row) == [t for t in mostly_captions(row) if t != row["chinese"]]
    assert any(len(mostly_captions_in_english(row)) < len(mostly_captions(row)) for row in data.table()[:300])
