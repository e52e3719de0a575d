"""Build the course's data set: open-licence emoji, drawn by people and named by people.

    python data/build.py            # download (npm), render, write sheets, captions.csv and manifest.json

Five pinned npm packages go in: three emoji sets (SVG) and the Unicode CLDR names and keywords.
Out come contact sheets of 64x64 pictures on white (`sheets/*.png`, 32 in a row), one table
(`captions.csv`, whose row number is the picture's place) and `manifest.json` with their hashes.
The same packages and the same library versions give the same bytes.
"""
import base64
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import unicodedata
from collections import defaultdict
from pathlib import Path

from course_lib.files import write_json

HERE = Path(__file__).resolve().parent
SIZE, COLUMNS, PER_SHEET = 64, 32, 1024

STYLES = {  # style: (npm package, version)
    "fluent": ("@iconify-json/fluent-emoji-flat", "1.2.6"),
    "twemoji": ("@iconify-json/twemoji", "1.2.5"),
    "noto": ("@iconify-json/noto", "1.2.9"),
}
CLDR = {"annotations": ("cldr-annotations-full", "48.2.0"),
        "annotationsDerived": ("cldr-annotations-derived-full", "48.2.0")}
SHA512 = json.loads((HERE / "packages.json").read_text("utf-8"))  # package@version -> sha512, base64

CATEGORIES = ["Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink",
              "Travel & Places", "Activities", "Objects", "Symbols", "Flags"]
TONES = ["light", "medium-light", "medium", "medium-dark", "dark"]
COLUMNS_CSV = ["id", "style", "name", "caption", "category", "concept", "tone", "codepoints",
               "keywords", "chinese", "face", "split"]

# Whole combinations that no split but `held_out` contains, in any style.
HELD_OUT_COLOURS = {"purple heart", "orange heart", "green circle", "brown circle", "blue square",
                    "yellow square", "orange book"}
HELD_OUT_SHARE = 0.08   # of the pairs (person or hand) x (skin tone)
VAL_SHARE = 0.04        # of the concepts


def download(folder: Path) -> dict[str, Path]:
    """Fetch every package with `npm pack`, verify its sha512 and unpack it; package -> folder."""
    found, npm = {}, shutil.which("npm")  # on Windows npm.cmd, which only its whole path starts
    if npm is None:
        raise FileNotFoundError("npm is not installed or not on the PATH; it comes with Node.js")
    for package, version in [*STYLES.values(), *CLDR.values()]:
        spec = f"{package}@{version}"
        name = subprocess.run([npm, "pack", "--silent", spec], cwd=folder, check=True,
                              capture_output=True, text=True).stdout.split()[-1]
        digest = base64.b64encode(hashlib.sha512((folder / name).read_bytes()).digest()).decode()
        if digest != SHA512[spec]:
            raise ValueError(f"{spec}: sha512 {digest[:16]}… instead of {SHA512[spec][:16]}…; "
                             "the package changed or the download broke: try again")
        target = folder / package.replace("/", "_")
        with tarfile.open(folder / name) as archive:
            archive.extractall(target, filter="data")
        found[package] = target / "package"
    return found


def annotations(folders: dict[str, Path], language: str) -> dict[str, dict]:
    """CLDR name (`tts`) and keywords (`default`) of every emoji string, without U+FE0F."""
    table = {}
    for kind, (package, _) in CLDR.items():
        path = folders[package] / kind / language / "annotations.json"
        for emoji, entry in json.loads(path.read_text("utf-8"))[kind]["annotations"].items():
            table[emoji.replace("\ufe0f", "")] = entry
    return table


def plain(name: str) -> str:
    """Lower-case ASCII, with commas for colons: 'Woman: Red Hair' -> 'woman, red hair'."""
    name = name.replace("’", "'").replace("ß", "ss").replace(": ", ", ")
    name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"\s+", " ", name).strip().lower()


def name_of(icon: str, entry: dict | None) -> str:
    """The CLDR name; where CLDR has none, the icon's own ('skier-dark-skin-tone')."""
    if entry and "tts" in entry:
        return plain(entry["tts"][0])
    for tone in sorted(TONES, key=len, reverse=True):
        if icon.endswith(f"-{tone}-skin-tone"):
            return f"{icon[:-len(tone) - 11].replace('-', ' ')}, {tone} skin tone"
    return icon.replace("-", " ")


def concept_and_tone(name: str) -> tuple[str, str]:
    """'kiss, man, man, dark skin tone' -> ('kiss, man, man', 'dark'); several tones -> 'mixed'."""
    parts = name.split(", ")
    tones = [p.removesuffix(" skin tone") for p in parts if p.endswith(" skin tone")]
    rest = [p for p in parts if not p.endswith(" skin tone")]
    if rest[1:] == ["person", "person"]:  # only the mixed tones of a couple are named so
        rest = rest[:1]
    return ", ".join(rest), (tones[0] if len(tones) == 1 else "mixed" if tones else "")


def is_face(concept: str, category: str) -> bool:
    """The smileys: one simple family of round faces."""
    extra = {"exploding head", "rolling on the floor laughing", "star-struck",
             "head shaking horizontally", "head shaking vertically"}
    return category == CATEGORIES[0] and (re.search(r"\bface\b", concept) is not None
                                          or concept in extra)


def fraction(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: a reproducible coin."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) / 16**12


def split_of(concept: str, tone: str) -> str:
    """`val`: whole concepts. `held_out`: whole combinations. The rest: `train`."""
    if concept in HELD_OUT_COLOURS:
        return "held_out"
    if fraction(f"course {concept}") < VAL_SHARE:
        return "val"
    if tone in TONES and fraction(f"held out {concept} {tone}") < HELD_OUT_SHARE:
        return "held_out"
    return "train"


def svg_of(icons: dict, icon: str) -> str:
    """A complete SVG document for one icon of an Iconify set."""
    entry = icons["icons"][icon]
    left, top = entry.get("left", 0), entry.get("top", 0)
    width, height = (entry.get(k, icons.get(k, 16)) for k in ("width", "height"))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="{SIZE}" height="{SIZE}" viewBox="{left} {top} {width} {height}">'
            f'{entry["body"]}</svg>')


def render(svg: str):
    """SVG -> RGB picture of SIZE x SIZE on white."""
    import resvg_py
    from PIL import Image

    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def table(folders: dict[str, Path]) -> tuple[list[dict], list[str]]:
    """The rows of captions.csv, and the SVG of each."""
    english, chinese = annotations(folders, "en"), annotations(folders, "zh")
    rows, svgs = [], []
    for style, (package, _) in STYLES.items():
        icons, chars, meta = (json.loads((folders[package] / f"{file}.json").read_text("utf-8"))
                              for file in ("icons", "chars", "metadata"))
        category = {icon: c for c, names in meta["categories"].items() for icon in names}
        todo = sorted(chars.items(), key=lambda item: (
            CATEGORIES.index(category[item[1]]),
            [int(p, 16) for p in item[0].split("-")]))
        for codepoints, icon in todo:
            emoji = "".join(chr(int(p, 16)) for p in codepoints.split("-")).replace("\ufe0f", "")
            entry = english.get(emoji)
            name = name_of(icon, entry)
            concept, tone = concept_and_tone(name)
            rows.append({
                "id": len(rows), "style": style, "name": name, "caption": f"{style} {name}",
                "category": category[icon], "concept": concept, "tone": tone,
                "codepoints": codepoints,
                "keywords": "|".join(plain(k) for k in (entry or {}).get("default", [])),
                "chinese": chinese.get(emoji, {}).get("tts", [""])[0],
                "face": int(is_face(concept, category[icon])), "split": split_of(concept, tone)})
            svgs.append(svg_of(icons, icon))
    return rows, svgs


def check(rows: list[dict]) -> None:
    """What the course promises about the splits; raises AssertionError where one is broken."""
    words = {w for r in rows if r["split"] == "train" for w in re.findall(r"[\w'-]+", r["caption"])}
    held = [r for r in rows if r["split"] == "held_out"]
    unknown = {w for r in held for w in re.findall(r"[\w'-]+", r["caption"])} - words
    assert not unknown, f"words of held-out captions that training never shows: {unknown}"
    assert len(held) >= 300, f"only {len(held)} held-out pictures"
    splits = defaultdict(set)
    for r in rows:
        splits[r["concept"], r["tone"]].add(r["split"])
    assert all(len(s) == 1 for s in splits.values()), "one combination in two splits"


def main() -> None:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        rows, svgs = table(download(Path(folder)))
    check(rows)
    sheets = HERE / "sheets"
    sheets.mkdir(exist_ok=True)
    files, first = {}, 0
    for style in STYLES:
        mine = [s for r, s in zip(rows, svgs, strict=True) if r["style"] == style]
        for k in range(0, len(mine), PER_SHEET):
            part = mine[k:k + PER_SHEET]
            sheet = Image.new("RGB", (COLUMNS * SIZE, -(-len(part) // COLUMNS) * SIZE), "white")
            for i, svg in enumerate(part):
                sheet.paste(render(svg), (i % COLUMNS * SIZE, i // COLUMNS * SIZE))
            path = sheets / f"{style}-{k // PER_SHEET + 1}.png"
            sheet.save(path, optimize=True)
            files[f"sheets/{path.name}"] = {"first": first, "count": len(part)}
            first += len(part)
            print(path.name, len(part), f"{path.stat().st_size / 1e6:.1f} MB")
    with open(HERE / "captions.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS_CSV, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    files["captions.csv"] = {}
    for name, entry in files.items():
        entry["sha256"] = hashlib.sha256((HERE / name).read_bytes()).hexdigest()
    write_json(HERE / "manifest.json", files)


if __name__ == "__main__":
    main()
