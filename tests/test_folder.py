"""Your own pictures: every kind of file that a folder may hold, near copies, splits, and the fish of lab 02d.
"""
import importlib.util
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, features

from course_lib import data, folder
from course_lib.batches import picture_batches
from course_lib.data import to_float
from course_lib.folder import areas, distances, groups, picture, read

RED, WHITE = torch.tensor([255, 0, 0]), torch.tensor([255, 255, 255])


def noise(width, height, seed=0, channels=3):
    """A picture of random numbers."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, channels), dtype=np.uint8))


def colour(x):
    """The one colour of a picture (3, S, S)."""
    assert (x == x[:, :1, :1]).all()
    return x[:, 0, 0]


@pytest.fixture
def some(tmp_path):
    """A folder of 24 good pictures."""
    for k in range(24):
        noise(20 + k, 30, seed=k).save(tmp_path / f"red-fish_{k:02}.png")
    return tmp_path


# ---- areas -----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("n", "size"), [(12, 8), (8, 12), (7, 7), (31, 8), (9, 32)])
def test_areas_are_those_of_finer_pixels(n, size):
    """Repeat each of n pixels `size` times: now n of them make one of the others, and their mean is exact."""
    x = torch.rand(n, dtype=torch.float64)
    assert torch.allclose(areas(n, size) @ x, x.repeat_interleave(size).view(size, n).mean(1))
    assert torch.allclose(areas(n, size).sum(1), torch.ones(size, dtype=torch.float64))


@pytest.mark.parametrize("edge", [8, 12, 20, 33, 65])
def test_a_picture_is_the_mean_over_areas(tmp_path, edge):
    large = noise(edge, edge, seed=edge)
    large.save(tmp_path / "x.png")
    fine = np.asarray(large).repeat(8, 0).repeat(8, 1).astype(float)  # 8 * edge, and so a multiple of 8
    mean = fine.reshape(8, edge, 8, edge, 3).mean((1, 3))
    expected = torch.from_numpy(np.floor(mean + 0.5 + 1e-9)).permute(2, 0, 1)
    assert torch.equal(picture(tmp_path / "x.png", 8).double(), expected)


def test_where_pixels_fit_it_is_shrink(tmp_path):
    noise(96, 96).save(tmp_path / "x.png")
    whole = torch.from_numpy(np.array(noise(96, 96))).permute(2, 0, 1)
    assert torch.equal(picture(tmp_path / "x.png", 32), data.shrink(whole, 3))
    assert torch.equal(picture(tmp_path / "x.png", 48), data.shrink(whole, 2))
    assert torch.equal(picture(tmp_path / "x.png", 96), whole)


@pytest.mark.parametrize("square", folder.SQUARES)
def test_a_large_picture_is_right_to_one_level(tmp_path, square):
    """Averaged in two steps, which rounds twice and cuts, or adds, a few pixels at the edge."""
    y, x = np.mgrid[0:700, 0:1001]
    smooth = np.stack([255 * x / 1000, 255 * y / 699, 0 * x + 90.0], 2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "x.png")
    small = picture(tmp_path / "x.png", 16, square)
    if square == "crop":
        part = smooth[:, 150:850]
    else:
        part = np.full((1001, 1001, 3), 255, np.uint8)
        part[150:850] = smooth
    share = areas(len(part), 16)
    exact = share @ torch.from_numpy(part).double().permute(2, 0, 1) @ share.T
    assert (small.double() - exact).abs().max() < (1.5 if square == "crop" else 8)
    assert (small.double() - exact)[:, 5:11].abs().max() < 1.5


# ---- square ----------------------------------------------------------------------------------------

def test_crop_keeps_the_middle_and_pad_keeps_all(tmp_path):
    for name, size in (("wide", (90, 30)), ("high", (30, 90))):
        image = Image.new("RGB", size, "blue")
        image.paste("red", (30, 0, 60, 30) if name == "wide" else (0, 30, 30, 60))
        image.save(tmp_path / f"{name}.png")
        assert colour(picture(tmp_path / f"{name}.png", 30, "crop")).equal(RED.to(torch.uint8))
        padded = picture(tmp_path / f"{name}.png", 30, "pad")
        padded = padded if name == "wide" else padded.transpose(1, 2)
        assert (padded[:, :10] == 255).all() and (padded[:, 20:] == 255).all()
        assert (padded[:, 10:20, 10:20] == RED[:, None, None]).all()
        assert (padded[2, 10:20, :10] == 255).all() and (padded[0, 10:20, :10] == 0).all()


def test_small_pictures_grow(tmp_path):
    image = Image.new("RGB", (8, 8), "red")
    image.paste("white", (4, 0, 8, 8))
    image.save(tmp_path / "x.png")
    x = picture(tmp_path / "x.png", 32)
    assert (x[:, :, :16] == RED[:, None, None]).all() and (x[:, :, 16:] == 255).all()


# ---- kinds of files --------------------------------------------------------------------------------

def test_transparency_becomes_white(tmp_path):
    rgba = Image.new("RGBA", (16, 16), (0, 0, 0, 0))  # transparent black
    rgba.save(tmp_path / "nothing.png")
    assert colour(picture(tmp_path / "nothing.png", 8)).equal(WHITE.to(torch.uint8))
    Image.new("RGBA", (16, 16), (255, 0, 0, 128)).save(tmp_path / "half.png")
    assert colour(picture(tmp_path / "half.png", 8)).tolist() == [255, 127, 127]
    Image.new("LA", (16, 16), (0, 0)).save(tmp_path / "la.png")
    assert colour(picture(tmp_path / "la.png", 8)).equal(WHITE.to(torch.uint8))


def test_an_edge_is_laid_on_white_before_it_is_averaged(tmp_path):
    """Half of each pixel's area is transparent black: the mean is half white, not darker."""
    rgba = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    rgba.paste((255, 0, 0, 255), (0, 0, 16, 1))
    rgba.save(tmp_path / "x.png")
    assert picture(tmp_path / "x.png", 8)[:, 0, 0].tolist() == [255, 128, 128]


def test_palettes(tmp_path):
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.paste(0, (8, 0, 16, 16))
    image.save(tmp_path / "opaque.png")
    image.save(tmp_path / "clear.png", transparency=0)
    image.save(tmp_path / "x.gif", transparency=0)
    assert picture(tmp_path / "opaque.png", 8)[:, 0, 7].tolist() == [0, 0, 0]
    for name in ("clear.png", "x.gif"):
        x = picture(tmp_path / name, 8)
        assert x[:, 0, 0].tolist() == [255, 0, 0] and x[:, 0, 7].tolist() == [255, 255, 255]


@pytest.mark.parametrize("name", ["grey.png", "grey.jpg", "bits.png", "sixteen.png", "sixteen.tif",
                                  "thirtytwo.tif"])
def test_grey_of_every_depth(tmp_path, name):
    """The left half is black, the right half 200 of 255 (or, with one bit, white)."""
    values = np.zeros((32, 32), np.uint16)
    values[:, 16:] = 200
    image = Image.fromarray(values.astype(np.uint8))
    if name == "bits.png":
        image = image.point(lambda v: 255 * (v > 100)).convert("1")
    elif "sixteen" in name:
        image = Image.fromarray(values * 257)
    elif "thirtytwo" in name:
        image = Image.fromarray(values.astype(np.int32) * 257)
    image.save(tmp_path / name)
    x = picture(tmp_path / name, 8).int()
    assert (x[:, :, 0] == 0).all() and ((x[:, :, 7] - (255 if name == "bits.png" else 200)).abs() <= 1).all()


def test_colours_of_print(tmp_path):
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=95)
    assert ((colour(picture(tmp_path / "x.jpg", 8)).int() - RED).abs() < 12).all()


def test_colours_of_sixteen_bits(tmp_path):
    """Pillow reads them with eight. It writes none, so this file is made by hand: a PNG of 8 x 8 pixels."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    rows = (b"\0" + struct.pack(">HHH", 65535, 128 * 257, 0) * 8) * 8
    (tmp_path / "x.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    assert colour(picture(tmp_path / "x.png", 8)).tolist() == [255, 128, 0]


@pytest.mark.parametrize("way", range(1, 9))
def test_a_turned_picture_is_turned_back(tmp_path, way):
    """Stored in each of the eight ways that a camera may note, a picture comes back as it is seen."""
    seen = noise(32, 24, seed=way)
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}
    stored = seen.transpose(undo[way]) if way > 1 else seen
    note = Image.Exif()
    note[0x0112] = way
    stored.save(tmp_path / "x.png", exif=note)
    seen.save(tmp_path / "seen.png")
    assert torch.equal(picture(tmp_path / "x.png", 16), picture(tmp_path / "seen.png", 16))


def test_a_note_that_is_damaged_does_not_matter(tmp_path):
    noise(32, 24).save(tmp_path / "plain.png")
    for k, note in enumerate((b"Exif\0\0", b"Exif\0\0nonsense", b"\xff" * 40)):
        noise(32, 24).save(tmp_path / f"{k}.png", exif=note)
        assert torch.equal(picture(tmp_path / f"{k}.png", 16), picture(tmp_path / "plain.png", 16))


def test_the_first_frame_of_a_film(tmp_path):
    frames = [Image.new("P", (16, 16), k) for k in range(3)]
    for frame in frames:
        frame.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:], duration=100)
    with Image.open(tmp_path / "x.gif") as film:
        assert film.n_frames == 3
    assert colour(picture(tmp_path / "x.gif", 8)).equal(RED.to(torch.uint8))


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm"])
def test_every_common_ending(tmp_path, ending):
    if ending == "webp" and not features.check("webp"):
        pytest.skip("this Pillow has no WebP")
    Image.new("RGB", (40, 40), "red").save(tmp_path / f"x.{ending}")
    assert ((picture(tmp_path / f"x.{ending}", 8).int() - RED[:, None, None]).abs() < 8).all()


# ---- what cannot be used ---------------------------------------------------------------------------

def test_what_cannot_be_used_is_named_and_left_out(some, capsys):
    noise(200, 200).save(some / "cut.jpg")
    noise(200, 200).save(some / "cut.png")
    for name in ("cut.jpg", "cut.png"):
        whole = (some / name).read_bytes()
        (some / name).write_bytes(whole[:len(whole) // 2])
    (some / "empty.jpg").touch()
    (some / "text.png").write_text("no picture at all", "utf-8")
    (some / "notes.txt").write_text("mine", "utf-8")
    (some / "photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(80))
    (some / "drawing.svg").write_text("<svg/>", "utf-8")
    Image.new("RGB", (300, 3)).save(some / "thin.png")
    Image.new("F", (20, 20), 0.5).save(some / "decimals.tif")
    Image.fromarray(np.full((20, 20), 10**6, np.int32)).save(some / "huge.tif")
    found = read(some)
    assert len(found) == 24
    why = found.left_out
    assert sorted(why) == ["cut.jpg", "cut.png", "decimals.tif", "drawing.svg", "empty.jpg", "huge.tif",
                           "notes.txt", "photo.HEIC", "text.png", "thin.png"]
    assert "truncated" in why["cut.jpg"] and why["cut.png"]
    assert why["empty.jpg"] == "the file is empty"
    assert why["text.png"] == why["notes.txt"] == "no picture"
    assert why["photo.HEIC"] == "HEIC, iPhones save it: export it as PNG or JPEG"
    assert why["drawing.svg"] == "SVG, a drawing made of lines: export it as PNG or JPEG"
    assert why["thin.png"] == "it has only 300 x 3 pixels"
    assert "decimals: save it with 8 bits" in why["decimals.tif"] and "8 bits" in why["huge.tif"]
    out, said = capsys.readouterr()
    assert not out and said.startswith("24 pictures. Left out: cut.jpg (") and said.endswith("and 5 more.\n")
    assert said.count("\n") == 1


def test_a_picture_too_large_for_the_memory_is_left_out(some, monkeypatch):
    noise(50, 50).save(some / "vast.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1200)  # an error from twice as many on
    with pytest.warns(Image.DecompressionBombWarning):
        assert "decompression bomb" in read(some).left_out["vast.png"]


def test_whatever_a_decoder_raises(some, monkeypatch):
    def burst(image):
        raise MemoryError if image.width == 21 else SyntaxError("broken PNG file")
    monkeypatch.setattr(folder, "_on_white", burst)
    with pytest.raises(ValueError, match=r"0 of them are pictures that can be used.*red-fish_00.png \(broken "
                                         r"PNG file\); red-fish_01.png \(MemoryError\)"):
        read(some)


def test_nothing_is_said_where_nothing_is_wrong(some, capsys):
    assert read(some).left_out == {}
    assert capsys.readouterr() == ("", "")


def test_hidden_files_are_passed_over_and_subfolders_are_searched(some):
    for place in ("b/deep", "a", ".hidden", "__MACOSX", "a/.ipynb_checkpoints"):
        (some / place).mkdir(parents=True)
        noise(20, 20, seed=len(place)).save(some / place / "x.png")
    (some / ".DS_Store").write_bytes(b"\0")
    (some / "a" / "._x.png").write_bytes(b"\0")
    found = read(some)
    names = [row["file"] for row in found.table]
    assert names == ["a/x.png", "b/deep/x.png", *(f"red-fish_{k:02}.png" for k in range(24))]
    assert found.left_out == {}
    assert torch.equal(found.pictures[0], picture(some / "a" / "x.png"))


def test_captions_are_the_names_in_words():
    words = {"phone/red_fish-07.jpg": "red fish", "0815.png": "0815", "Köln Dom 3.jpg": "Köln Dom",
             "a.b.png": "a.b", "x2.png": "x2"}
    assert {name: folder._words(name) for name in words} == words


@pytest.mark.parametrize("kind", ["missing", "a file", "empty", "no pictures", "too few"])
def test_a_folder_that_is_no_good_says_what_to_do(tmp_path, kind):
    place, error, match = tmp_path / "mine", ValueError, "training needs at least 20.*Add pictures"
    if kind in ("missing", "a file"):
        error, match = FileNotFoundError, "there is no folder.*unpacked"
    else:
        place.mkdir()
    if kind == "a file":
        place.write_bytes(b"PK")
    if kind == "empty":
        match = "has 0 files, and 0 of them.*" + match
    if kind == "no pictures":
        (place / "notes.txt").write_text("mine", "utf-8")
        match = "has 1 files, and 0 of them.*" + match + r".*Left out: notes.txt \(no picture\)\."
    if kind == "too few":
        for k in range(19):
            noise(20, 20, seed=k).save(place / f"{k}.png")
        match = "has 19 files, and 19 of them.*" + match
    with pytest.raises(error, match=match):
        read(place)


def test_few_are_enough_if_asked(tmp_path):
    noise(20, 20).save(tmp_path / "x.png")
    assert len(read(str(tmp_path), fewest=1)) == 1


@pytest.mark.parametrize(("more", "match"), [
    ({"size": 0}, "size must be a whole number, at least 8"), ({"size": 32.5}, "size must be a whole number"),
    ({"square": "squash"}, "unknown square 'squash': choose one of 'crop', 'pad'"),
    ({"fewest": 0}, "fewest must be a whole number, at least 1"),
    ({"path": 3}, "path must be a text or of type Path")])
def test_wrong_arguments_are_named(some, more, match):
    with pytest.raises(ValueError, match=match):
        read(**{"path": some, **more})


# ---- near copies -----------------------------------------------------------------------------------

def random_pictures(n, seed=0, size=8):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def by_hand(a, b, flips=True, shifts=0):
    """The least root mean square over mirrored and moved copies of a, pixel by pixel."""
    least, size = 9.0, a.shape[-1]
    for mirrored in (False, True) if flips else (False,):
        for dy in range(-shifts, shifts + 1):
            for dx in range(-shifts, shifts + 1):
                y = torch.ones_like(a)
                for i in range(size):
                    for j in range(size):
                        if 0 <= i + dy < size and 0 <= j + dx < size:
                            y[:, i, j] = a[:, i + dy, j + dx]
                y = y.flip(2) if mirrored else y
                least = min(least, ((y - b) ** 2).mean().sqrt().item())
    return least


@pytest.mark.parametrize("how", [{}, {"flips": False}, {"shifts": 2}, {"flips": False, "shifts": 1}])
def test_distances(how):
    x, among = random_pictures(3), random_pictures(4, seed=1)
    expected = torch.tensor([[by_hand(a, b, **how) for b in among] for a in x])
    assert torch.allclose(distances(x, among, **how), expected, atol=1e-4)


def test_mirrored_and_moved_copies_are_found():
    x = random_pictures(6)
    for margin in (x[..., :2], x[..., -2:], x[:, :, :2], x[:, :, -2:]):  # so that nothing is lost
        margin.fill_(1.0)
    assert distances(x, x).diagonal().max() < 1e-3
    moved = x.flip(3).roll((1, -2), (2, 3))
    assert distances(moved, x, shifts=2).diagonal().max() < 1e-3
    assert distances(moved, x).diagonal().min() > 0.2 < distances(x.flip(3), x, flips=False).diagonal().min()


def test_distances_say_what_is_wrong():
    x = random_pictures(2)
    with pytest.raises(ValueError, match=r"pictures of one size, given \(2, 3, 8, 8\) and \(2, 3, 4, 4\)"):
        distances(x, random_pictures(2, size=4))
    with pytest.raises(ValueError, match=r"use data\.to_float"):
        distances((x * 100).abs().to(torch.uint8), x)
    with pytest.raises(ValueError, match="shifts must be a whole number"):
        distances(x, x, shifts=-1)


def as_bytes(x):
    return data.to_uint8(x)


def test_groups_hold_together_what_is_linked():
    """a is near b, and b near c; a and c need not be near. Mirror images are near. All else is alone."""
    x = random_pictures(8)
    step = torch.full((3, 8, 8), 0.06)
    x[3] = (x[0] * 0.5 + step).clamp(-1, 1)
    x[0] = x[0] * 0.5
    x[6] = (x[3] + step).clamp(-1, 1).flip(2)
    assert distances(x[[0]], x[[6]]).item() > 0.1 > distances(x[[3]], x[[6]]).item()
    assert groups(as_bytes(x)).tolist() == [0, 1, 2, 0, 3, 4, 0, 5]
    assert groups(as_bytes(x), limit=0.01).unique().tolist() == list(range(8))
    assert groups(as_bytes(x), limit=9).unique().tolist() == [0]


def test_groups_of_many():
    """More than are compared at a time: the copies stand in another part."""
    x = random_pictures(300)
    x[290:] = x[:10]
    label = groups(as_bytes(x))
    assert torch.equal(label[290:], label[:10]) and len(label.unique()) == 290


# ---- splits ----------------------------------------------------------------------------------------

def a_folder(n=60, copies=12):
    """n pictures, the last of them copies of the first."""
    x = random_pictures(n)
    x[n - copies:] = x[:copies].flip(3)
    table = [{"file": f"{k}.png", "caption": str(k), "concept": f"{k}.png"} for k in range(n)]
    return folder.Folder(as_bytes(x), table, {"a.txt": "no picture"})


def test_no_copy_on_the_other_side():
    mine = a_folder()
    train, new = mine.split(0.2)
    assert len(train) + len(new) == 60 and 8 <= len(new) <= 12
    assert distances(to_float(new.pictures), to_float(train.pictures)).min() > folder.LIMIT
    assert not {row["concept"] for row in train.table} & {row["concept"] for row in new.table}
    assert not {row["file"] for row in train.table} & {row["file"] for row in new.table}
    for part in (train, new):
        numbers = [int(row["file"].removesuffix(".png")) for row in part.table]
        assert torch.equal(part.pictures, mine.pictures[numbers]) and numbers == sorted(numbers)
    assert train.left_out == mine.left_out
    assert mine.table[0]["concept"] == "0.png", "the folder itself has changed"


def test_a_split_depends_on_the_names_alone():
    mine, names = a_folder(), lambda part: {row["file"] for row in part.table}
    assert names(mine.split()[1]) == names(a_folder().split()[1])
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0)).tolist()
    order = sorted(order, key=lambda k: k >= 48)  # the copies stay behind: groups keep their first names
    other = folder.Folder(mine.pictures[order], [mine.table[k] for k in order], {})
    assert names(mine.split()[1]) == names(other.split()[1])
    less = folder.Folder(mine.pictures[1:47], mine.table[1:47], {})
    assert len(names(mine.split()[1]) - names(less.split()[1])) <= 4, "one picture fewer, and all is another"


def test_large_groups_stay_in_training():
    mine = a_folder(40, copies=0)
    mine.pictures[:30] = mine.pictures[0]
    _, new = mine.split(0.2)
    assert len(new) == 8 and min(int(row["file"].removesuffix(".png")) for row in new.table) >= 30


@pytest.mark.parametrize("more", [{"share": 0.0}, {"share": 1.0}, {"limit": 9.0}, {"share": 0.01}])
def test_an_empty_part_is_refused(more):
    with pytest.raises(ValueError, match=r"leaves (0|60) new ones: 0\.15 is usual"):
        a_folder().split(**more)


def test_a_group_counts_less_than_as_many_pictures():
    mine = a_folder(40, copies=0)
    mine.pictures[:9] = mine.pictures[0]
    train, _ = mine.split()
    w = train.weights()
    group = torch.tensor([row["concept"] == train.table[0]["concept"] for row in train.table])
    alone = w[~group][0].item()
    assert group.sum() == 9 and w[group].sum().item() == pytest.approx(3 * alone)
    assert a_folder().weights().unique().numel() == 1, "before the split, each counts alike"


def test_batches_take_it():
    train, _ = a_folder().split()
    torch.manual_seed(0)
    x = next(picture_batches(train, 5, change=data.flip_and_shift))["x_0"]
    assert x.shape == (5, 3, 8, 8) and x.dtype == torch.float32 and -1 <= x.min() < x.max() <= 1


# ---- the fish --------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def fish():
    spec = importlib.util.spec_from_file_location("fish", data.FOLDER / "fish.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_fish_are_what_the_lab_says():
    files = [f for f in (data.FOLDER / "fish").rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 1_000_000
    mine = read(data.FOLDER / "fish", 32, "pad")
    assert len(mine) == len(files) - 2 == 230 and sorted(mine.left_out) == ["LICENSE.txt", "phone/broken.jpg"]
    kinds, sizes = set(), set()
    for row in mine.table:
        with Image.open(data.FOLDER / "fish" / row["file"]) as image:
            turned = image.getexif().get(0x0112, 1) != 1
            kinds |= {image.mode, image.format, "turned" * turned}
            kinds |= {"film"} if getattr(image, "n_frames", 1) > 1 else set()
            sizes.add(image.width)
    assert {"RGBA", "RGB", "P", "L", "LA", "CMYK", "PNG", "JPEG", "GIF", "turned", "film"} <= kinds
    assert min(sizes) < 32 and max(sizes) > 250
    label = groups(mine.pictures)
    assert len(label.unique()) == 199 and label.bincount().max() == 3
    train, new = mine.split()
    assert len(new) == 34 and distances(to_float(new.pictures), to_float(train.pictures)).min() > 0.14


def test_the_fish_can_be_drawn_again(fish, tmp_path):
    """The same files, and nearly the same pixels, whatever the version of Pillow."""
    fish.main(tmp_path / "fish")
    names = lambda place: sorted(f.relative_to(place).as_posix() for f in place.rglob("*") if f.is_file())
    assert names(tmp_path / "fish") == names(data.FOLDER / "fish")
    kept, again = (read(place, 32, "pad") for place in (data.FOLDER / "fish", tmp_path / "fish"))
    gap = (kept.pictures.int() - again.pictures.int()).abs().float()
    assert gap.mean() < 1 and gap.flatten(1).mean(1).max() < 6
    shutil.rmtree(tmp_path / "fish")
