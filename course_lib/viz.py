"""Figures: one style for the whole course, legible in the last row of a lecture hall.

Colours are Okabe & Ito's (2008), which colour-blind readers can tell apart. `grid`, `strip`, `film`, `curves`
and `cloud` return the matplotlib figure; notebooks end the cell with `plt.show()`.
"""
import io
import textwrap
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from . import checks, data

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
STYLE = {
    "figure.dpi": 100, "figure.constrained_layout.use": True, "figure.facecolor": "white",
    "font.size": 13, "axes.titlesize": 13, "axes.labelsize": 13, "legend.fontsize": 12,
    "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 2.2,
    "axes.prop_cycle": plt.cycler(color=COLOURS), "image.interpolation": "nearest",
    "axes.grid": True, "grid.alpha": 0.25, "legend.frameon": False,
}


def style() -> None:
    """Switch matplotlib to the course's style; every notebook calls it once."""
    plt.rcParams.update(STYLE)


@checks.typed
def picture(x: Tensor) -> np.ndarray:
    """One picture (3, H, W), float in [-1, 1] (clipped) or uint8 -> (H, W, 3) for imshow."""
    if x.ndim != 3 or x.shape[0] != 3:
        raise ValueError(f"a picture is (3, H, W), given {checks.kind(x)}")
    if x.dtype != torch.uint8:
        x = data.to_uint8(x.detach() if x.dtype != torch.float16 else x.detach().float())
    return x.permute(1, 2, 0).cpu().numpy()


@checks.typed
def tile(x: Tensor, columns: int, gap: int = 1) -> np.ndarray:
    """Pictures (N, 3, H, W) -> one (rows * (H + gap), columns * (W + gap), 3) sheet on white."""
    checks.counts(columns=columns)
    checks.whole(gap, 0, what="gap")
    n, _, h, w = _pictures(x).shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i in range(n):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        sheet[top:top + h, left:left + w] = picture(x[i])
    return sheet


@checks.typed
def grid(x: Tensor, columns: int = 12, title: str = "", width: float = 12.0):
    """A sheet of pictures (N, 3, H, W) in rows of `columns`; width in inches."""
    checks.counts(columns=columns)
    sheet = tile(x, min(columns, len(_pictures(x))))
    _inches(width)
    used = width * min(columns, len(x)) / columns
    fig, ax = plt.subplots(figsize=(used, used * sheet.shape[0] / sheet.shape[1] + 0.35 * bool(title)))
    _bare(ax, sheet)
    ax.set_title(title, loc="left")
    return fig


@checks.typed
def strip(rows: dict[str, Tensor], columns: Sequence[str] = (), title: str = "", width: float = 12.0):
    """Labelled rows of pictures: {label: (N, 3, H, W)}, with a label over each column, such as a caption:
    where it has no line breaks, it gets as many as it needs."""
    _inches(width)
    n = max((len(_pictures(x)) for x in rows.values()), default=0)
    if not n or len(columns) > n:
        raise ValueError(f"there are {len(columns)} labels of columns for {n} columns, in {len(rows)} rows")
    first = next(iter(rows.values()))
    ratio = first.shape[-2] / first.shape[-1]
    longest = max(len(line) for label in rows for line in label.split("\n"))
    margin = 0.105 * longest + 0.1  # inches for the labels on the left
    cell = (width - margin) / n
    columns = [text if "\n" in text else textwrap.fill(text, max(8, int(cell / 0.105))) for text in columns]
    lines = max((text.count("\n") + 1 for text in columns), default=0)
    height = cell * ratio * len(rows) + 0.23 * lines + 0.09 * bool(columns) + 0.32 * bool(title)
    fig, axes = plt.subplots(len(rows), n, figsize=(width, height), squeeze=False)
    for line, (label, x) in zip(axes, rows.items(), strict=True):
        for ax in line:
            ax.axis("off")
            ax.set_anchor("S")  # what room is left belongs to the labels above
        for ax, image in zip(line, x, strict=False):
            _bare(ax, picture(image))
        line[0].axis("on")
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6)
    for ax, text in zip(axes[0], columns, strict=False):
        ax.set_title(text, fontsize=12)
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=13)
    return fig


@checks.typed
def film(states: Sequence[Tensor], frames: int = 10, title: str = "", width: float = 12.0,
         labels: Sequence[str] = ()):
    """The same pictures at evenly spaced moments: states is a list of (N, 3, H, W); time runs right."""
    states = [_pictures(x) for x in states]
    if len({x.shape for x in states}) != 1:
        raise ValueError("states must be at least one, all of one shape; given the shapes "
                         f"{', '.join(str(tuple(x.shape)) for x in states) or 'of none'}")
    if labels and len(labels) != len(states):
        raise ValueError(f"there are {len(labels)} labels for {len(states)} states: give each one")
    checks.counts(frames=frames)
    _inches(width)
    pick = np.linspace(0, len(states) - 1, min(frames, len(states))).round().astype(int)
    n = len(states[0])
    x = torch.stack([states[i] for i in pick], 1).flatten(0, 1)
    sheet = tile(x, len(pick))
    fig, ax = plt.subplots(figsize=(width, width * n / len(pick) + 0.35 * bool(title) + 0.3 * bool(labels)))
    _bare(ax, sheet)
    if labels:
        step = sheet.shape[1] / len(pick)
        ax.set_xticks([(k + 0.5) * step for k in range(len(pick))], [labels[i] for i in pick])
        ax.tick_params(length=0)
    ax.set_title(title, loc="left")
    return fig


@checks.typed
def curves(x, lines: dict, xlabel: str, ylabel: str, title: str = "", ax=None,
           logx: bool = False, logy: bool = False, bands: dict[str, object] | None = None):
    """Labelled lines over a common x; bands: {label: half-width} is drawn as error bars."""
    if unknown := set(bands or {}) - set(lines):
        raise ValueError(f"bands of lines that are not there: {', '.join(map(str, unknown))}; there are: "
                         f"{', '.join(map(str, lines))}")
    if ax is None:
        _, ax = plt.subplots(figsize=(8, 4))
    x = _numbers(x, None, "x")
    styles = ["-", "--", "-.", ":"]
    for k, (label, y) in enumerate(lines.items()):
        y, half = _numbers(y, len(x), f"the line {label!r}"), None if bands is None else bands.get(label)
        look = {"label": label, "color": COLOURS[k % 7], "linestyle": styles[k // 7 % 4]}
        if half is None:
            ax.plot(x, y, **look)
        else:
            half = _numbers(half, len(x), f"the band of {label!r}")
            if (half < 0).any():
                raise ValueError(f"the band of {label!r} has negative half-widths, down to {half.min():g}")
            ax.errorbar(x, y, yerr=half, capsize=4, marker="o", **look)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title, loc="left")
    if logx:
        ax.set_xscale("log")
    if logy:
        ax.set_yscale("log")
    if len(lines) > 1:
        ax.legend()
    return ax.figure


@checks.typed
def cloud(x: Tensor, ax=None, colour=None, title: str = "", limit: float = 3.0, size: float = 4.0, **look):
    """A scatter plot of 2-D points (N, 2) with equal axes from -limit to limit."""
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(f"expected points (N, 2), given {checks.kind(x)}")
    checks.number(limit, 0, what="limit")
    checks.number(size, 0, what="size")
    x = x.detach().cpu()
    if ax is None:
        _, ax = plt.subplots(figsize=(4, 4))
    ax.scatter(x[:, 0], x[:, 1], s=size, c=COLOURS[0] if colour is None else colour, linewidths=0, **look)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    ax.set_title(title)
    return ax.figure


@checks.typed
def explore(draw: Callable[..., object], values: Sequence, name: str = "t", show: int = 5):
    """A slider over `values`: draw(value) returns a picture (3, H, W) or an (H, W, 3) array.

    First a static strip of the same function at `show` of the values, which a printed page and a
    web view keep, then a live widget (core ipywidgets, version 7.7 or newer).
    """
    from IPython.display import display

    checks.counts(values=len(values), show=show)
    pick = np.linspace(0, len(values) - 1, min(show, len(values))).round().astype(int)
    _, axes = plt.subplots(1, len(pick), figsize=(12, 12 / len(pick) + 0.4), squeeze=False)
    for ax, i in zip(axes[0], pick, strict=True):
        _bare(ax, _array(draw(values[i])))
        ax.set_title(f"{name} = {values[i]}")
    plt.show()
    display(slider(draw, values, name))


@checks.typed
def slider(draw: Callable[..., object], values: Sequence, name: str = "t"):
    """The live half of `explore`: an ipywidgets box with a slider above a PNG picture."""
    import ipywidgets as widgets

    checks.counts(values=len(values))
    image = widgets.Image(format="png", width=320, value=_png(_array(draw(values[0]))))
    handle = widgets.SelectionSlider(options=list(values), description=name, continuous_update=True,
                                     layout=widgets.Layout(width="420px"))

    def update(change):
        image.value = _png(_array(draw(change["new"])))

    handle.observe(update, names="value")
    return widgets.VBox([handle, image])


@checks.typed
def playground(draw: Callable[..., object], prompt: str, w: Sequence[float], steps: Sequence[int],
               systems: Sequence[str] = ()):
    """A text box, a negative text, sliders for w and steps, a seed and a button, above the picture.

    draw(prompt, negative, w, steps, seed) returns a picture (3, H, W) or an (H, W, 3) array. It is
    called at every click; what it warns of, or the error that stops it, is shown beside the button.
    systems: names to choose from; the chosen one is draw's sixth argument.
    """
    import warnings

    import ipywidgets as widgets

    checks.counts(w=len(w), steps=len(steps))
    wide = widgets.Layout(width="520px")
    controls = [widgets.Text(prompt, description="prompt", layout=wide),
                widgets.Text("", description="negative", placeholder="what to stay away from", layout=wide),
                *(widgets.SelectionSlider(options=v, value=v[len(v) // 2], description=name, layout=wide)
                  for name, v in (("w", w), ("steps", steps))),
                widgets.BoundedIntText(0, min=0, max=10**6, description="seed")]
    if len(systems):
        controls.append(widgets.Dropdown(options=list(systems), description="system"))
    button, note = widgets.Button(description="Draw"), widgets.Label()
    image = widgets.Image(format="png", width=520)

    def update(_=None):
        button.disabled, note.value = True, "drawing ..."
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                image.value = _png(_array(draw(*(control.value for control in controls))), 520)
            note.value = "; ".join(str(warning.message) for warning in caught)
        except Exception as error:  # a widget would swallow it
            note.value = f"{type(error).__name__}: {error}"
        button.disabled = False

    button.on_click(update)
    update()
    return widgets.VBox([*controls, widgets.HBox([button, note]), image])


def _pictures(x: Tensor) -> Tensor:
    if not torch.is_tensor(x) or x.ndim != 4 or x.shape[1] != 3 or not len(x):
        raise ValueError(f"expected pictures (N, 3, H, W), N at least 1; given {checks.kind(x)}")
    return x


def _inches(width: float) -> None:
    if checks.number(width, 0, what="width") < 1:
        raise ValueError(f"width is in inches, at least 1; given {width}")


def _numbers(values, n: int | None, what: str) -> np.ndarray:
    """The values as floats (n,): of a list, array or tensor of real numbers, or of a list of tensors ()."""
    try:
        if torch.is_tensor(values):
            values = values.detach().cpu().numpy() if values.dtype != torch.bfloat16 else values.tolist()
        elif not isinstance(values, np.ndarray):
            values = [v.item() if torch.is_tensor(v) else v for v in values]
        found = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):  # no list, or a ragged one, or a tensor of several numbers
        found = np.empty(0, object)
    if found.dtype.kind not in "biuf" or found.ndim != 1 or (n is not None and len(found) != n):
        wanted = "numbers" if n is None else f"{n} numbers, one for each x"
        raise ValueError(f"{what} must be {wanted}; given {checks.kind(values)}")
    return found.astype(float)


def _array(x) -> np.ndarray:
    x = picture(x) if isinstance(x, Tensor) and x.ndim == 3 and x.shape[0] == 3 else np.asarray(x)
    if x.ndim != 3 or x.shape[2] != 3 or x.dtype != np.uint8:
        raise ValueError("draw must return a picture (3, H, W), or an array (H, W, 3) of uint8; given "
                         f"{x.dtype} {x.shape}")
    return x


def _png(array: np.ndarray, edge: int = 320) -> bytes:
    k = max(1, edge // max(array.shape[:2]))
    buffer = io.BytesIO()
    Image.fromarray(array).resize((array.shape[1] * k, array.shape[0] * k), 0).save(buffer, "png")
    return buffer.getvalue()


def _bare(ax, image) -> None:
    ax.imshow(image)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for side in ax.spines.values():
        side.set_visible(False)
