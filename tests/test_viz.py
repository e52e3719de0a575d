"""The playground: what its controls say reaches the function, and what that says reaches the reader."""
import warnings

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
