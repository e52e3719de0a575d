"""Figures show the pictures that they are given; the playground's controls reach the function, and what that
says reaches the reader.
"""
import itertools
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from course_lib import viz


@pytest.fixture
def playground():
    """(box, calls): a playground that notes its calls; it warns of "odd" and cannot draw "bad"."""
    calls = []

    def draw(prompt, negative, w, steps, seed):
        calls.append((prompt, negative, w, steps, seed))
        if prompt == "bad":
            raise ValueError("no such thing")
        if prompt == "odd":
            warnings.warn("odd is unknown", stacklevel=1)
        return torch.full((3, 8, 8), float(len(calls) % 2))

    return viz.playground(draw, "a cat", [0.0, 1.0, 2.0], [4, 8, 20]), calls


def parts(box):
    """The controls by their names, the button, the note and the picture."""
    *controls, line, image = box.children
    return {c.description: c for c in controls}, *line.children, image


def test_every_control_reaches_the_function(playground):
    box, calls = playground
    controls, button, note, image = parts(box)
    assert calls == [("a cat", "", 1.0, 8, 0)] and note.value == ""
    before = image.value
    for name, value in {"prompt": "a dog", "negative": "tears", "w": 2.0, "steps": 20, "seed": 5}.items():
        controls[name].value = value
    assert len(calls) == 1, "it draws at a click, not while one types"
    button.click()
    assert calls[1] == ("a dog", "tears", 2.0, 20, 5) and image.value != before


def test_a_system_can_be_chosen():
    calls = []
    box = viz.playground(lambda *how: calls.append(how) or torch.zeros(3, 8, 8), "a cat", [1.0], [4],
                         systems=["one", "two"])
    controls, button, *_ = parts(box)
    controls["system"].value = "two"
    button.click()
    assert [how[5] for how in calls] == ["one", "two"]


@pytest.mark.parametrize(("prompt", "said"), [
    ("odd", "odd is unknown"), ("bad", "ValueError: no such thing")])
def test_warnings_and_errors_are_shown(playground, prompt, said):
    box, _ = playground
    controls, button, note, _ = parts(box)
    controls["prompt"].value = prompt
    button.click()
    assert note.value == said and not button.disabled


# ---- Sheets of pictures -----------------------------------------------------------------------------

SHADES = torch.tensor([[-1.0, -1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [0.0, 0.0, 1.0]])
BYTES = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (128, 128, 255)]


def one_coloured(h=2, w=3):
    return SHADES[:, :, None, None].expand(4, 3, h, w)


@pytest.mark.parametrize("gap", [0, 1, 2])
def test_a_sheet_of_four_pictures_pixel_by_pixel(gap):
    """Row by row from the left, white between them and nothing around them."""
    sheet = viz.tile(one_coloured(), columns=2, gap=gap)
    assert sheet.shape == (4 + gap, 6 + gap, 3) and sheet.dtype == np.uint8
    for y in range(4 + gap):
        for x in range(6 + gap):
            row = 0 if y < 2 else 1 if y >= 2 + gap else None
            column = 0 if x < 3 else 1 if x >= 3 + gap else None
            expected = (255, 255, 255) if row is None or column is None else BYTES[2 * row + column]
            assert tuple(sheet[y, x]) == expected, (y, x)


def test_an_unfinished_row_is_white():
    sheet = viz.tile(one_coloured()[:3], columns=2)
    assert sheet.shape == (5, 7, 3) and (sheet[3:, 3:] == 255).all() and tuple(sheet[4, 2]) == BYTES[2]
    assert viz.tile(one_coloured(), columns=4).shape == (2, 15, 3)


def test_a_picture_is_clipped_and_bytes_stay_bytes():
    x = torch.tensor([-7.0, -1.0, 0.0, 1.0, 7.0]).reshape(1, 1, 5).expand(3, 1, 5)
    assert viz.picture(x)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    b = torch.tensor([0, 7, 255], dtype=torch.uint8).reshape(1, 1, 3).expand(3, 1, 3)
    assert viz.picture(b)[0, :, 1].tolist() == [0, 7, 255]


def test_figures_hold_the_sheets():
    """What imshow was given, in grid, strip and film."""
    x = one_coloured(4, 4)
    shown = viz.grid(x, columns=2).axes[0].images[0].get_array()
    assert np.array_equal(shown, viz.tile(x, 2))
    fig = viz.strip({"a": x, "b": x.flip(0)}, columns=["1", "2", "3", "4"])
    first = [ax.images[0].get_array()[0, 0].tolist() for ax in fig.axes]
    assert [tuple(c) for c in first] == BYTES + BYTES[::-1]
    states = [x * k / 4 for k in range(5)]
    sheet = viz.film(states, frames=3).axes[0].images[0].get_array()
    assert np.array_equal(sheet, viz.tile(torch.stack([states[0], states[2], states[4]], 1).flatten(0, 1), 3))
    viz.plt.close("all")


# ---- What the figures show, read back from their axes ------------------------------------------------

@pytest.fixture(autouse=True)
def closed():
    yield
    viz.plt.close("all")


def test_the_style_is_the_courses():
    with viz.plt.rc_context():
        viz.style()
        assert viz.plt.rcParams["axes.prop_cycle"].by_key()["color"] == viz.COLOURS
        assert viz.plt.rcParams["image.interpolation"] == "nearest" and viz.plt.rcParams["font.size"] == 13


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_picture_keeps_its_channels_rows_and_columns(kind):
    """Red, green, blue from -1 .. 1 to 0 .. 255; the row below lies below."""
    x = torch.tensor([[[-1.0, 1.0], [0.0, -1.0]], [[-1.0, -1.0], [1.0, -1.0]], [[1.0, -1.0], [-1.0, 0.0]]])
    shown = viz.picture(x.to(kind).requires_grad_())
    assert shown.tolist() == [[[0, 0, 255], [255, 0, 0]], [[128, 255, 0], [0, 0, 128]]]


def test_a_grid_has_its_title_and_width_and_nothing_else():
    fig = viz.grid(one_coloured(4, 4), columns=2, title="four", width=6)
    ax, = fig.axes
    assert ax.get_title(loc="left") == "four" and fig.get_size_inches()[0] == 6
    assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0
    assert not any(side.get_visible() for side in ax.spines.values())
    sheet = ax.images[0].get_array()
    assert [tuple(sheet[y, x]) for y in (0, -1) for x in (0, -1)] == BYTES  # left to right, top to bottom
    assert viz.grid(one_coloured(4, 4)[:2], columns=4, width=6).get_size_inches()[0] == 3  # half a row


def test_a_strip_has_its_labels_where_they_belong():
    x = one_coloured(4, 4)
    fig = viz.strip({"upper": x[:2], "lower": x[2:3]}, columns=["left", "right"], title="strip")
    (a, b), (c, d) = fig.axes[:2], fig.axes[2:]
    assert [ax.get_ylabel() for ax in (a, b, c, d)] == ["upper", "", "lower", ""]
    assert [ax.get_title() for ax in (a, b, c, d)] == ["left", "right", "", ""]
    assert [text.get_text() for text in fig.texts] == ["strip"] and not viz.strip({"one": x}).texts
    assert [len(ax.images) for ax in (a, b, c, d)] == [1, 1, 1, 0], "a short row ends in empty places"
    assert tuple(c.images[0].get_array()[0, 0]) == BYTES[2]
    assert a.axison and c.axison and not b.axison, "only the first of a row shows its label"


def test_long_labels_of_columns_are_broken_into_lines_that_fit():
    """As drawn: each within the figure, and none over its neighbour."""
    x = one_coloured(4, 4).repeat(3, 1, 1, 1)
    long = [f"fluent woman bouncing ball number {k}, medium-dark skin tone" for k in range(12)]
    with plt.rc_context(viz.STYLE):
        fig = viz.strip({"one": x}, columns=long)
        fig.canvas.draw()
    boxes = [ax.title.get_window_extent() for ax in fig.axes]
    assert all(box.y1 <= fig.bbox.y1 and box.x1 <= fig.bbox.x1 for box in boxes)
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))
    assert [ax.get_title().replace("-\n", "-").split() for ax in fig.axes] == [text.split() for text in long]
    given = viz.strip({"one": x}, columns=["as\ngiven, whatever the length of it"])
    assert given.axes[0].get_title() == "as\ngiven, whatever the length of it"


def test_a_film_runs_right_and_labels_the_moments_it_shows():
    x = one_coloured(4, 4)[:2]
    states = [torch.full_like(x, -1 + k / 5) for k in range(11)]
    fig = viz.film(states, frames=3, title="film", labels=[f"t = {k}" for k in range(11)])
    ax, = fig.axes
    sheet = ax.images[0].get_array()
    assert sheet.shape[:2] == (9, 14) and sheet[0, [0, 5, 10], 0].tolist() == [0, 128, 255]
    assert sheet[5, [0, 5, 10], 0].tolist() == [0, 128, 255], "each row is one picture"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["t = 0", "t = 5", "t = 10"]
    assert np.allclose(ax.get_xticks(), [14 / 6, 14 / 2, 14 * 5 / 6]) and ax.get_title(loc="left") == "film"
    assert not viz.film(states, frames=3).axes[0].get_xticklabels()


def test_curves_hold_their_points_labels_and_colours():
    lines = {"a": torch.tensor([3.0, 2.0, 1.0]), "b": [4, 5, 6]}
    ax, = viz.curves([1, 10, 100], lines, "steps", "loss", "two", logx=True).axes
    a, b = ax.lines
    assert a.get_xydata().tolist() == [[1, 3], [10, 2], [100, 1]]
    assert b.get_xydata().tolist() == [[1, 4], [10, 5], [100, 6]]
    assert (a.get_label(), b.get_label()) == ("a", "b") and [a.get_color(), b.get_color()] == viz.COLOURS[:2]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title(loc="left")) == ("steps", "loss", "two")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")


def test_one_curve_has_no_legend_and_its_own_axes():
    _, ax = viz.plt.subplots()
    assert viz.curves(range(1, 4), {"a": [1, 2, 3]}, "x", "y", ax=ax, logy=True) is ax.figure
    assert ax.get_legend() is None and (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")


def test_the_eighth_curve_is_dashed():
    ax, = viz.curves([0, 1], {str(k): [k, k] for k in range(9)}, "x", "y").axes
    looks = [(line.get_color(), line.get_linestyle()) for line in ax.lines]
    assert looks[7] == (viz.COLOURS[0], "--") and len(set(looks)) == 9


def test_bands_are_error_bars_of_their_half_width():
    ax, = viz.curves([1, 2], {"a": [10.0, 20.0], "b": [0.0, 1.0]}, "x", "y", bands={"a": [1.0, 3.0]}).axes
    bars, = ax.containers
    segments = bars.lines[2][0].get_segments()
    assert [s.tolist() for s in segments] == [[[1, 9], [1, 11]], [[2, 17], [2, 23]]]
    assert bars.get_label() == "a" and bars.lines[0].get_xydata().tolist() == [[1, 10], [2, 20]]
    with pytest.raises(ValueError, match="bands of lines that are not there: c; there are: a, b"):
        viz.curves([1], {"a": [1], "b": [1]}, "x", "y", bands={"c": [1]})


@pytest.mark.parametrize("y", [
    torch.tensor([1.0, 2.0], requires_grad=True), [torch.tensor(1.0), torch.tensor(2.0, requires_grad=True)],
    torch.tensor([1, 2], dtype=torch.bfloat16), np.array([1, 2]), (1, 2.0), range(1, 3)])
def test_numbers_of_all_kinds_are_drawn(y):
    ax, = viz.curves(y, {"a": y}, "x", "y").axes
    assert ax.lines[0].get_xydata().tolist() == [[1, 1], [2, 2]]


def test_a_cloud_holds_its_points_between_equal_limits():
    x = torch.tensor([[0.5, -1.0], [2.0, 1.0]], requires_grad=True)
    ax, = viz.cloud(x, title="cloud", limit=2.5, colour="red", size=9).axes
    dots, = ax.collections
    assert dots.get_offsets().tolist() == x.tolist() and dots.get_sizes().tolist() == [9]
    assert dots.get_facecolor()[0].tolist() == [1, 0, 0, 1] and ax.get_title() == "cloud"
    assert ax.get_xlim() == ax.get_ylim() == (-2.5, 2.5) and ax.get_aspect() == 1
    first = viz.cloud(x).axes[0].collections[0].get_facecolor()[0]
    assert np.allclose(first, viz.plt.matplotlib.colors.to_rgba(viz.COLOURS[0]))


def test_explore_shows_values_from_first_to_last(monkeypatch):
    monkeypatch.setattr(viz.plt, "show", lambda: None)
    viz.explore(lambda k: torch.full((3, 4, 4), -1 + k / 5), range(11), name="k", show=3)
    axes = viz.plt.gcf().axes
    assert [ax.get_title() for ax in axes] == ["k = 0", "k = 5", "k = 10"]
    assert [ax.images[0].get_array()[0, 0, 0] for ax in axes] == [0, 128, 255]
