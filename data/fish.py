"""Draw a small folder of pictures for lab 02d: fish, saved as carelessly as people save pictures.

    python data/fish.py             # draws all files of data/fish again

Every fish is drawn here from random numbers; nothing is copied from anywhere. Licence: that of the course.
The files are mixed on purpose: with and without transparency, grey, 16-bit, with few colours, turned by EXIF,
of many sizes; some fish are there twice or three times, and one file is broken. Python's generator gives the
same numbers everywhere: the same drawings, and with the same version of Pillow the same bytes.
"""
import io
import math
import random
import shutil
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageOps

HERE = Path(__file__).resolve().parent / "fish"
FISH, FINE = 196, 4  # how many different ones; how many times finer they are drawn than saved

PALETTES = {  # body, belly, fins, pattern
    "clown": ("#f26b21", "#f98f3c", "#e2541a", "#ffffff"),
    "tang": ("#2158c8", "#3f7be0", "#ffd23f", "#142a6b"),
    "lemon": ("#f9c92b", "#fde38a", "#f3a712", "#2f2a26"),
    "rose": ("#e9547f", "#f8a5b8", "#b8336a", "#fbe3ea"),
    "lagoon": ("#16a6a0", "#7adcc9", "#0e7c86", "#f7f3c6"),
    "parrot": ("#35a853", "#9bdc7c", "#e8467c", "#1c6b4c"),
    "plum": ("#7a4fbf", "#b79be6", "#f08a24", "#3e2372"),
    "ruby": ("#cf2e3a", "#ee7b6e", "#8e1b34", "#f7c9a8"),
    "steel": ("#6f8fae", "#dbe6ee", "#48627e", "#2b4058"),
    "sand": ("#d9a86c", "#f2dcb6", "#a8703a", "#6b4423"),
}
PATTERNS = ("plain", "bands", "stripes", "spots", "saddle", "mask")
TAILS = ("fork", "fan", "moon", "veil")
FINS = ("sail", "long", "spike")


class Draws(random.Random):
    """Random numbers that every version of Python gives alike: all of them come from `random`."""

    def even(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()

    def one(self, things):
        return things[int(self.random() * len(things))]


def plan(number: int) -> dict:
    """What fish `number` looks like: everything that is drawn at random."""
    r = Draws(1000 + number)
    deep = r.even(0.24, 0.5)
    return {
        "palette": r.one(list(PALETTES)), "pattern": r.one(PATTERNS), "tail": r.one(TAILS),
        "fin": r.one(FINS),
        "deep": deep, "front": r.even(0.68, 0.9), "round": r.even(0.75, 0.95), "root": r.even(0.05, 0.08),
        "tail size": r.even(0.3, 0.46), "fin size": r.even(0.14, 0.28), "count": 2 + int(r.random() * 3),
        "eye": r.even(0.055, 0.08), "belly": r.even(0.1, 0.5), "lean": r.even(-0.04, 0.04),
        "margin": r.even(0.03, 0.09), "width": int(r.even(64, 150)), "right": r.random() < 0.12,
        "places": [(r.random(), r.random(), r.random()) for _ in range(14)]}


def smooth(points, closed: bool = True, n: int = 12):
    """A curve through the points, n pieces between two of them (Catmull & Rom 1974)."""
    m, out = len(points), []
    for i in range(m if closed else m - 1):
        a, b, c, d = (points[(i + k) % m] if closed else points[min(max(i + k, 0), m - 1)]
                      for k in (-1, 0, 1, 2))
        for j in range(n):
            t = j / n
            out.append(tuple(0.5 * (2 * q + (r - p) * t + (2 * p - 5 * q + 4 * r - s) * t**2
                                    + (3 * q - p - 3 * r + s) * t**3)
                             for p, q, r, s in zip(a, b, c, d, strict=True)))
    return out


def circle(x: float, y: float, r: float) -> list:
    """Points on a circle."""
    return [(x + r * math.cos(k * math.pi / 24), y + r * math.sin(k * math.pi / 24)) for k in range(48)]


def half(fish: dict, x: float) -> float:
    """Half the thickness of the body at x, from the nose (0) to the root of the tail (1)."""
    x = min(max(x, 0.0), 1.0)
    return fish["root"] * x**2 + fish["deep"] * math.sin(math.pi * x ** fish["front"]) ** fish["round"]


def shapes(fish: dict) -> dict[str, list]:
    """Outlines of the parts by name: lists of points, nose at (0, 0), tail to the right, y downwards."""
    xs = [k / 60 for k in range(61)]
    body = [(x, -half(fish, x)) for x in xs] + [(x, 0.94 * half(fish, x)) for x in reversed(xs)]
    s, p = fish["tail size"], fish["root"]
    tail = {
        "fork": [(0.93, -p), (1 + 0.6 * s, -0.72 * s), (1 + 1.05 * s, -0.95 * s), (1 + 0.62 * s, 0),
                 (1 + 1.05 * s, 0.95 * s), (1 + 0.6 * s, 0.72 * s), (0.93, p)],
        "fan": [(0.93, -p), (1 + 0.5 * s, -0.66 * s), (1 + 0.95 * s, -0.62 * s), (1 + 1.08 * s, 0),
                (1 + 0.95 * s, 0.62 * s), (1 + 0.5 * s, 0.66 * s), (0.93, p)],
        "moon": [(0.93, -p), (1 + 0.35 * s, -0.7 * s), (1 + 0.95 * s, -1.25 * s), (1 + 0.5 * s, -0.4 * s),
                 (1 + 0.42 * s, 0), (1 + 0.5 * s, 0.4 * s), (1 + 0.95 * s, 1.25 * s), (1 + 0.35 * s, 0.7 * s),
                 (0.93, p)],
        "veil": [(0.93, -p), (1 + 0.5 * s, -0.8 * s), (1 + 1.25 * s, -0.72 * s), (1 + 1.1 * s, 0.05 * s),
                 (1 + 1.4 * s, 0.9 * s), (1 + 0.5 * s, 0.85 * s), (0.93, p)],
    }[fish["tail"]]
    h, back = fish["fin size"], lambda x: -half(fish, x) + 0.03
    top = {
        "sail": [(0.22, back(0.22)), (0.36, back(0.36) - h), (0.55, back(0.55) - 0.9 * h),
                 (0.78, back(0.78) - 0.25 * h), (0.8, back(0.8))],
        "long": [(0.2, back(0.2)), (0.3, back(0.3) - 0.6 * h), (0.6, back(0.6) - 0.7 * h),
                 (0.86, back(0.86) - 0.6 * h), (0.84, back(0.84))],
        "spike": [(0.26, back(0.26)), (0.5, back(0.5) - 0.75 * h), (0.8, back(0.8) - 1.35 * h),
                  (0.74, back(0.74) - 0.4 * h), (0.76, back(0.76))],
    }[fish["fin"]]
    low = lambda x: 0.94 * half(fish, x) - 0.03
    under = [(0.52, low(0.52)), (0.66, low(0.66) + 0.75 * h), (0.84, low(0.84) + 0.6 * h), (0.8, low(0.8))]
    side = [(0.36, 0.07), (0.46, 0.03), (0.6, 0.12), (0.55, 0.22), (0.44, 0.19)]
    return {"body": body, "tail": smooth(tail), "top": smooth(top), "under": smooth(under),
            "side": smooth(side)}


def draw(fish: dict) -> Image.Image:
    """The picture, RGBA on nothing, as wide as planned and as high as it must be."""
    parts = shapes(fish)
    every = [point for part in parts.values() for point in part]
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    above, below = min(y for _, y in every), max(y for _, y in every)
    edge = fish["margin"] * (right - left)
    scale = FINE * fish["width"] / (right - left + 2 * edge)
    size = (FINE * fish["width"], FINE * math.ceil(scale * (below - above + 2 * edge) / FINE))
    place = lambda x, y: ((x - left + edge) * scale, (y - above + edge + fish["lean"] * (x - 0.5)) * scale)

    def area(points):
        mask = Image.new("L", size)
        ImageDraw.Draw(mask).polygon([place(*point) for point in points], fill=255)
        return mask

    picture = Image.new("RGBA", size, (255, 255, 255, 0))
    body_colour, belly, fins, pattern = PALETTES[fish["palette"]]
    paint = lambda colour, mask: picture.paste(colour, mask=mask)
    for name in ("tail", "top", "under"):
        paint(fins, area(parts[name]))
    body = area(parts["body"])
    inside = lambda mask: ImageChops.darker(mask, body)
    paint(body_colour, body)
    y = fish["belly"] * fish["deep"]
    paint(belly, inside(area([*smooth([(-0.1, y), (0.3, y + 0.05), (0.7, y + 0.02), (1.1, y - 0.1)], False),
                              (1.1, 1), (-0.1, 1)])))
    for points in marks(fish):
        paint(pattern, inside(area(points)))
    paint(fins, inside(area(parts["side"])))
    x, y, r = 0.17, -0.28 * half(fish, 0.17), fish["eye"]
    paint("#ffffff", area(circle(x, y, r)))
    paint("#1d1b22", area(circle(x - 0.1 * r, y, 0.62 * r)))
    paint("#ffffff", area(circle(x - 0.28 * r, y - 0.22 * r, 0.2 * r)))
    return picture.resize((size[0] // FINE, size[1] // FINE), Image.Resampling.BOX)


def marks(fish: dict) -> list[list]:
    """The pattern of a fish: outlines of what is painted on the body."""
    n, kind = fish["count"], fish["pattern"]
    bow = lambda x, w: smooth([(x - w, -1), (x - w + 0.05, 0), (x - w, 1)], False) + smooth(
        [(x + w, 1), (x + w + 0.05, 0), (x + w, -1)], False)
    if kind == "bands":
        return [bow(0.34 + 0.5 * k / (n - 1), 0.045) for k in range(n)]
    if kind == "stripes":
        line = lambda y: smooth([(0.24, y), (0.6, 0.8 * y), (1.02, 0.25 * y)], False) + smooth(
            [(1.02, 0.25 * y + 0.03), (0.6, 0.8 * y + 0.07), (0.24, y + 0.05)], False)
        return [line((-0.62 + k / (n - 1)) * fish["deep"]) for k in range(n)]
    if kind == "spots":
        out = []
        for u, v, w in fish["places"]:
            x = 0.3 + 0.55 * u
            y, r = (1.3 * v - 0.75) * half(fish, x), 0.03 + 0.03 * w
            out.append(circle(x, y, r))
        return out
    if kind == "saddle":
        return [smooth([(0.3, -1), (0.36, 0.1 - 0.5 * fish["deep"]), (0.55, 0.35 * fish["deep"]),
                        (0.74, 0.1 - 0.5 * fish["deep"]), (0.8, -1)], False)]
    if kind == "mask":
        return [bow(0.15, 0.06)]
    return []


def on(picture: Image.Image, colour: str) -> Image.Image:
    """The picture on a ground of one colour, RGB."""
    return Image.alpha_composite(Image.new("RGBA", picture.size, colour), picture).convert("RGB")


def wide(picture: Image.Image, width: int) -> Image.Image:
    """The picture at another width, its shape kept."""
    height = max(1, round(width * picture.height / picture.width))
    return picture.resize((width, height), Image.Resampling.BOX)


# ---- Ways to save a picture: each takes it (RGBA) and a path without its ending ---------------------

def png(picture, path):
    picture.save(path.with_suffix(".png"), optimize=True)


def few_colours(picture, path):
    picture.quantize(24, Image.Quantize.FASTOCTREE).save(path.with_suffix(".png"), optimize=True)


def gif(picture, path):
    on(picture, "white").quantize(32).save(path.with_suffix(".gif"))


def film(picture, path):
    frames = [on(picture, "white").quantize(24), on(ImageOps.mirror(picture), "#cde7f2").quantize(24)]
    frames[0].save(path.with_suffix(".gif"), save_all=True, append_images=frames[1:], duration=400, loop=0)


def jpeg(picture, path, ground="white", **more):
    on(picture, ground).save(path.with_suffix(".jpg"), quality=80, optimize=True, **more)


def water(picture, path):
    jpeg(picture, path, "#d5ecf4")


def turned(picture, path, way=6):
    """As a phone saves it: turned, with a note (EXIF) how to turn it back when it is shown."""
    undo = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[way]
    note = Image.Exif()
    note[0x0112] = way
    jpeg(picture.transpose(undo), path, exif=note)


def grey(picture, path):
    on(picture, "white").convert("L").save(path.with_suffix(".png"), optimize=True)


def grey_alpha(picture, path):
    picture.convert("LA").save(path.with_suffix(".png"), optimize=True)


def deep_grey(picture, path):
    wide(on(picture, "white").convert("L"), 60).convert("I").point(lambda v: v * 257).convert("I;16").save(
        path.with_suffix(".png"))


def icon(picture, path):
    png(wide(picture, 24), path)


def ink(picture, path):
    on(picture, "white").convert("CMYK").save(path.with_suffix(".jpg"), quality=80)


def way_of(number: int):
    """How fish `number` is saved, and in which folder. Most are tidy, some of every kind are not."""
    odd = {7: film, 22: icon, 40: deep_grey, 133: deep_grey, 61: ink, 90: grey_alpha, 171: grey_alpha}
    if number in odd:
        return odd[number], "scans" if odd[number] is deep_grey else ""
    k = number * 37 % 100
    if k < 46:
        return png, ""
    if k < 58:
        return few_colours, ""
    if k < 76:
        return jpeg, ""
    if k < 88:
        return (lambda picture, path: turned(picture, path, (3, 6, 8, 6)[number % 4])), "phone"
    if k < 92:
        return gif, ""
    if k < 96:
        return water, "phone"
    return grey, "scans"


def again(picture: Image.Image, number: int, path: Path) -> None:
    """The same fish once more, as it happens: smaller, brighter, or mirrored, under another name."""
    kind = number // 8 % 3
    if kind == 0:
        jpeg(wide(picture, int(0.7 * picture.width)), path.with_name(path.name + "-small"))
    elif kind == 1:
        png(ImageOps.mirror(picture), path.with_name(path.name + "-copy"))
    else:
        r, g, b, a = picture.split()
        lighter = Image.merge("RGBA", [*(c.point(lambda v: min(255, v + 10)) for c in (r, g, b)), a])
        jpeg(lighter, path.with_name(path.name + "-edited"))


def main(folder: Path = HERE) -> None:
    """Write all files into a folder, which is emptied first."""
    if folder.exists():
        shutil.rmtree(folder)
    for name in ("", "phone", "scans"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(FISH):
        fish, (save, place) = plan(number), way_of(number)
        fish["width"] *= 2 if place == "phone" else 1
        picture = draw(fish)
        picture = ImageOps.mirror(picture) if fish["right"] else picture
        path = folder / place / f"{fish['palette']}_{fish['pattern']}_{number:03}"
        save(picture, path)
        if number % 8 == 3:
            again(picture, number, folder / path.name)
        if number % 24 == 3:  # some are there three times
            again(picture, number + 8, folder / path.name)
    whole = io.BytesIO()
    on(draw(plan(FISH)), "white").save(whole, "jpeg", quality=80)
    (folder / "phone" / "broken.jpg").write_bytes(whole.getvalue()[:len(whole.getvalue()) // 2])
    (folder / "LICENSE.txt").write_text(
        "All pictures in this folder are drawn by data/fish.py, a part of the course, and have its licence: "
        "Apache 2.0.\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
