"""Figures show the pictures that they are given; the playground's controls reach the function, and what that
says reaches the reader.
"""
import warnings

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
