"""The emoji: counts, splits, sizes, errors, reproducible rendering."""
import importlib.util
import json
import re
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from course_lib import data, files
from course_lib.data import emoji, flip_and_shift, shift, shrink, to_float, to_uint8

HERE = Path(__file__).resolve().parent
COLUMNS = {"id", "style", "name", "caption", "category", "concept", "tone", "codepoints",
           "keywords", "chinese", "face", "split"}


@pytest.fixture(scope="module")
def everything():
    return emoji(64, split="all")


# ------------------------------------------------------------------ what is in the set

def test_counts_and_columns(everything):
    assert len(everything) == 10_856 == len(everything.captions)
    assert everything.pictures.shape == (10_856, 3, 64, 64)
    assert everything.pictures.dtype == torch.uint8
    styles = Counter(row["style"] for row in everything.table)
    assert styles == {"fluent": 3139, "twemoji": 3988, "noto": 3729}
    for i, row in enumerate(everything.table):
        assert row.keys() == COLUMNS and row["id"] == str(i)
        assert row["caption"] == f'{row["style"]} {row["name"]}' and row["concept"]
    # every picture shows something, nearly all with white corners
    assert (everything.pictures.flatten(1).amin(1) < 240).all()
    corners = everything.pictures[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].flatten(1)
    assert (corners == 255).all(1).double().mean() > 0.95


def test_splits_are_parts_of_the_whole(everything):
    parts = {s: emoji(16, split=s) for s in ("train", "val", "held_out")}
    ids = [row["id"] for part in parts.values() for row in part.table]
    assert sorted(ids) == sorted(row["id"] for row in everything.table)
    whole = shrink(everything.pictures, 4)
    for name, part in parts.items():
        rows = [int(row["id"]) for row in part.table]
        assert torch.equal(part.pictures, whole[rows])
        assert all(row["split"] == name for row in part.table)
    # about 4 % of the concepts, at least 300 pictures of new combinations, the rest to train on
    concepts = {s: {row["concept"] for row in part.table} for s, part in parts.items()}
    share = len(concepts["val"]) / len(set().union(*concepts.values()))
    assert 0.03 < share < 0.05
    assert len(parts["held_out"]) >= 300 and len(parts["train"]) > 9000


def test_splits_do_not_leak(everything):
    """`val` shares no concept with the others; no combination in `held_out` is trained on, in any
    style; yet training shows every word of every held-out caption."""
    concepts, pairs, words = (defaultdict(set) for _ in range(3))
    for row in everything.table:
        concepts[row["split"]].add(row["concept"])
        pairs[row["split"]].add((row["concept"], row["tone"]))
        words[row["split"]] |= set(re.findall(r"[\w'-]+", row["caption"]))
    assert not concepts["val"] & (concepts["train"] | concepts["held_out"])
    assert not pairs["held_out"] & pairs["train"]
    assert words["held_out"] <= words["train"]
    held = [row for row in everything.table if row["split"] == "held_out"]
    assert {row["style"] for row in held} == {"fluent", "twemoji", "noto"}
    # both kinds of combination: role x skin tone, and object x colour
    assert sum(row["tone"] != "" for row in held) > 200 and ("purple heart", "") in pairs["held_out"]


def test_faces():
    faces = emoji(32, "faces")
    assert 200 < len(faces) < 400 and faces.pictures.shape[1:] == (3, 32, 32)
    assert all(row["face"] == "1" and row["category"] == "Smileys & Emotion" for row in faces.table)
    assert "noto grinning face" in faces.captions


def test_a_contact_sheet_is_what_it_looks_like(everything):
    """Tile 33 of a sheet is in the second row, second column: cut it out by hand."""
    from PIL import Image
    for name, first in (("fluent-1", 0), ("twemoji-2", 4163), ("noto-4", 10_199)):
        sheet = np.array(Image.open(data.FOLDER / "sheets" / f"{name}.png"))
        tile = torch.from_numpy(sheet[64:128, 64:128]).permute(2, 0, 1)
        assert torch.equal(everything.pictures[first + 33], tile)


# ------------------------------------------------------------------ sizes and batches

def test_small_sizes_are_exact_means(everything):
    """32 and 16 px are the mean of 2 x 2 and 4 x 4 pixels, rounded; nothing overflows uint8."""
    some = everything.pictures[::500]
    for size in (32, 16):
        k = 64 // size
        small = emoji(size, split="all").pictures
        mean = some.double().unfold(2, k, k).unfold(3, k, k).mean((-1, -2))
        assert small.shape == (10_856, 3, size, size) and small.dtype == torch.uint8
        assert torch.equal(small[::500], (mean + 0.5).floor().to(torch.uint8))
        torch.testing.assert_close(shrink(some.double(), k), mean)
    assert shrink(torch.full((1, 64, 64), 255, dtype=torch.uint8), 4).unique().tolist() == [255]


def test_float_and_back():
    bytes_ = torch.arange(256).to(torch.uint8)
    x = to_float(bytes_)
    assert x[0] == -1 and x[255] == 1 and torch.equal(to_uint8(x), bytes_)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_weights_share_by_concept(power):
    """A concept with c pictures gets a share ~ c^power: 1 is by picture, 0 by concept."""
    e = emoji(16)
    w = e.weights(power)
    count = Counter(row["concept"] for row in e.table)
    share = defaultdict(float)
    for row, v in zip(e.table, w.tolist(), strict=True):
        share[row["concept"]] += v
    total = sum(c**power for c in count.values())
    assert w.sum().item() == pytest.approx(1) and w.shape == (len(e),)
    for concept, c in count.items():
        assert share[concept] == pytest.approx(c**power / total)
    people = sum(v for row, v in zip(e.table, w.tolist(), strict=True) if row["tone"])
    assert {0.0: people < 0.2, 0.5: 0.2 < people < 0.5, 1.0: people > 0.5}[power]


def test_batches_follow_the_weights():
    """100 one-pixel pictures whose value is their number: 84 of one concept, 16 of their own."""
    pictures = torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(100, 3, 1, 1)
    e = data.Emoji(pictures, [{"concept": str(max(0, i - 83))} for i in range(100)])
    g = lambda: torch.Generator().manual_seed(0)
    batch = next(e.batches(20_000, generator=g()))
    assert batch.shape == (20_000, 3, 1, 1) and batch.dtype == torch.float32
    assert -1 <= batch.min() < -0.99 and batch.max() <= 1
    found = torch.bincount(to_uint8(batch)[:, 0, 0, 0].long(), minlength=100).double()
    expected = 20_000 * e.weights()
    assert expected[99] > 9 * expected[0]  # sqrt(84) times as often
    # chi-square with 99 degrees of freedom: mean 99, variance 198; four standard deviations
    assert abs(((found - expected) ** 2 / expected).sum().item() - 99) < 4 * 198**0.5
    assert torch.equal(batch, next(e.batches(20_000, generator=g())))


# ------------------------------------------------------------------ errors

@pytest.mark.parametrize(("kwargs", "message"), [
    ({"size": 48}, r"unknown size 48: choose one of 16, 32, 64"),
    ({"size": "64"}, "unknown size '64'"),
    ({"subset": "smileys"}, r"unknown subset 'smileys'.*'faces'"),
    ({"split": "test"}, r"unknown split 'test'.*'held_out'")])
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        emoji(**kwargs)


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the data folder that may be damaged; the caches are emptied before and after."""
    shutil.copytree(data.FOLDER / "sheets", tmp_path / "sheets")
    for name in ("captions.csv", "manifest.json"):
        shutil.copy(data.FOLDER / name, tmp_path)
    saved = data._table, data._pictures
    for f in ("_table", "_pictures"):  # fresh caches, so that the other tests keep theirs
        monkeypatch.setattr(data, f, data.lru_cache(1)(getattr(data, f).__wrapped__))
    monkeypatch.setattr(data, "FOLDER", tmp_path)
    yield tmp_path
    monkeypatch.undo()
    assert (data._table, data._pictures) == saved


@pytest.mark.parametrize("name", ["sheets/noto-4.png", "captions.csv", "manifest.json"])
def test_missing_file(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{re.escape(str(Path(name)))} is missing\..*make data"):
        emoji(32)


@pytest.mark.parametrize("name", ["sheets/noto-4.png", "captions.csv"])
def test_one_changed_byte(copy, name):
    raw = bytearray((copy / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / name).write_bytes(raw)
    damaged = rf"{re.escape(str(Path(name)))} is damaged.*git checkout.*make data"
    with pytest.raises(ValueError, match=damaged):
        emoji(32)


# ------------------------------------------------------------------ reproducibility

def test_rendering_is_reproducible_to_the_byte(everything):
    """Twelve SVG documents, as the build script made them from the packages, rendered again."""
    pytest.importorskip("resvg_py", reason="pip install 'noise-to-emoji[data]' to render SVG")
    spec = importlib.util.spec_from_file_location("build", data.FOLDER / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    icons = json.loads((HERE / "small_slice.json").read_text("utf-8"))
    assert len(icons) == 12 and len({icon["caption"].split()[0] for icon in icons}) == 3
    for icon in icons:
        picture = torch.from_numpy(np.array(build.render(icon["svg"]))).permute(2, 0, 1)
        assert everything.table[icon["id"]]["caption"] == icon["caption"]
        assert torch.equal(picture, everything.pictures[icon["id"]]), icon["caption"]


def test_the_first_call_may_be_in_inference_mode():
    data._pictures.cache_clear()
    with torch.inference_mode():
        assert len(data.emoji(64, split="val"))
    assert not data._pictures().is_inference()


def test_flip_and_shift_moves_whole_pictures():
    """A mark of one pixel lands where it or its mirror image lies, moved by up to 4; each place occurs."""
    x = torch.ones(2, 3, 64, 64)
    x[:, :, 30, 10] = -1.0
    torch.manual_seed(0)
    places = set()
    for _ in range(200):
        y = flip_and_shift(x)
        assert y.shape == x.shape and torch.equal(y[0], y[1]) and (y == -1).sum() == 6
        places.add(tuple((y[0, 0] == -1).nonzero()[0].tolist()))
    rows, columns = {p[0] for p in places}, {p[1] for p in places}
    assert rows == set(range(26, 35)) and columns == set(range(6, 15)) | set(range(49, 58))


def test_the_table_alone_is_the_table_of_the_pictures():
    for subset, split in (("all", "train"), ("faces", "val"), ("all", "held_out"), ("all", "all")):
        assert data.table(subset, split) == emoji(16, subset, split).table
    with pytest.raises(ValueError, match="unknown split 'test': choose one of 'train', 'val', 'held_out'"):
        data.table(split="test")


def test_shift_moves_all_pictures_alike_on_white():
    x = torch.zeros(2, 3, 8, 8)
    torch.manual_seed(0)
    seen = set()
    for _ in range(100):
        y = shift(x, 1)
        assert y.shape == x.shape and torch.equal(y[0], y[1]) and set(y.unique().tolist()) <= {0.0, 1.0}
        seen.add(((y[0, 0] == 1).any(1).sum().item(), (y[0, 0] == 1).any(0).sum().item()))
    assert len(seen) >= 4 and torch.equal(shift(x, 0), x)


@pytest.mark.parametrize(("f", "named"), [
    (lambda: to_float(torch.zeros(2, 3, 4, 4)),
     r"to_float takes uint8 pictures, 0 \.\. 255; given float32 \(2, 3, 4, 4\)"),
    (lambda: to_float(torch.zeros(3).long()), "to_float takes uint8 pictures"),
    (lambda: to_uint8(torch.zeros(3, dtype=torch.uint8)), "pictures must be a tensor of floats, given uint8"),
    (lambda: to_uint8(torch.tensor([0.0, 255.0])), r"to_uint8 takes floats in -1 \.\. 1; given 0 \.\. 255"),
    (lambda: to_uint8(torch.tensor([0.0, torch.nan])), "pictures holds 1 numbers that are NaN"),
    (lambda: shrink(torch.zeros(1, 3, 64, 64), 5),
     r"k = 5 does not divide the edges of float32 \(1, 3, 64, 64\)"),
    (lambda: shrink(torch.zeros(1, 3, 64, 60), 8), "k = 8 does not divide"),
    (lambda: shrink(torch.zeros(1, 3, 64, 64), 0), "k must be a whole number, at least 1; given 0"),
    (lambda: shrink(torch.zeros(1, 3, 64, 64), 2.0), "k must be a whole number, at least 1; given 2.0"),
    (lambda: shift(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)),
     "pictures must be a tensor of floats, given uint8"),
    (lambda: shift(torch.full((1, 3, 2, 2), torch.nan)), "pictures holds 12 numbers that are NaN"),
    (lambda: shift(torch.zeros(1, 3, 8, 8), -1), "most must be a whole number, at least 0; given -1"),
    (lambda: flip_and_shift(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)),
     "pictures must be a tensor of floats"),
    (lambda: emoji(16).weights(float("nan")), "power must be one number"),
    (lambda: next(emoji(16).batches(0)),
     "n, the size of a batch, must be a whole number, at least 1; given 0")])
def test_wrong_input_is_named(f, named):
    with pytest.raises(ValueError, match=named):
        f()


def test_nothing_stays_nothing():
    x = torch.zeros(0, 3, 4, 4)
    assert to_uint8(x).shape == to_float(x.byte()).shape == shift(x).shape == (0, 3, 4, 4)


def test_a_manifest_changed_by_hand_is_named(copy):
    facts = json.loads((copy / "manifest.json").read_text("utf-8"))
    facts["captions.csv"]["sha256"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(facts), "utf-8")
    with pytest.raises(ValueError, match=r"manifest.json is damaged.*make data"):
        emoji(32)


def test_other_data_have_another_fingerprint_and_other_line_ends_have_not(copy):
    before = data.fingerprint()
    for name in ("manifest.json", "captions.csv"):
        text = (copy / name).read_text("utf-8")
        (copy / name).write_text(text, "utf-8", newline="\r\n")
        assert b"\r\n" in (copy / name).read_bytes() and data.fingerprint() == before
    facts = files.read_json(copy / "manifest.json")
    files.write_json(copy / "manifest.json", facts | {"captions.csv": {"sha256": "0" * 64}})
    assert data.fingerprint() != before


@pytest.mark.parametrize(("change", "named"), [
    (lambda f: f.pop("sheets/fluent-1.png"), "too few: after the beginning comes row 0, and sheets/fluent"),
    (lambda f: f.pop("sheets/noto-2.png"), "too few: after sheets/noto-1.png comes row 8151, and sheets"),
    (lambda f: f.pop("sheets/noto-4.png"), "too few: after sheets/noto-3.png comes row 10199, and the end"),
    (lambda f: f.update({"sheets/copy.png": f["sheets/noto-2.png"]}),
     "twice: after sheets/copy.png comes row 9175, and sheets/noto-2.png begins with row 8151"),
    (lambda f: f["sheets/noto-4.png"].update(count=658), "twice: after sheets/noto-4.png comes row 10857"),
    (lambda f: f["sheets/noto-1.png"].update(first=7126), "twice: .* sheets/noto-1.png begins with row 71")])
def test_sheets_that_do_not_show_each_row_once_are_named(copy, change, named):
    facts = files.read_json(copy / "manifest.json")
    change(facts)
    files.write_json(copy / "manifest.json", facts)
    with pytest.raises(ValueError, match=rf"manifest\.json has a sheet {named}.*make data"):
        emoji(16)


def test_a_table_of_the_benchmarks_is_read_by_name():
    rows = data.results("vae.csv")
    text = (data.FOLDER.parent / "benchmarks" / "vae.csv").read_text(encoding="utf-8")
    assert len(rows) == len(text.splitlines()) - 1 and ",".join(rows[0]) == text.splitlines()[0]
    with pytest.raises(ValueError, match=r"no table 'vea\.csv' in benchmarks/; there are: .*vae\.csv"):
        data.results("vea.csv")
