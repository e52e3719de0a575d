"""A seal vouches for everything in a file of tensors, and two processes that write one file do not meet."""
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from course_lib import files

A, B = torch.arange(4.0), torch.ones(4)


@pytest.mark.parametrize("other", [
    {"a": A, "b2": B}, {"a": B, "b": A}, {"a": A, "b": 2 * B}, {"a": A.view(torch.int32), "b": B},
    {"a": A.reshape(2, 2), "b": B}, {"a": A}, {"a": A, "b": B, "c": torch.zeros(0)}],
    ids=["renamed", "swapped", "other numbers", "another type", "another shape", "left out", "added"])
def test_other_tensors_under_the_seal_of_these_are_refused(tmp_path, other):
    """The first three are of the same size, type and shape; the next two have the very same bytes."""
    path = tmp_path / "m.safetensors"
    files.save(path, {"a": A, "b": B}, steps=7)
    with safe_open(path, "pt") as file:
        notes = file.metadata()
    save_file({"b": B, "a": A}, path, metadata=notes)
    assert files.read(path).keys() == {"a", "b"}, "the order means nothing"
    save_file(other, path, metadata=notes)
    with pytest.raises(ValueError, match=r"m\.safetensors is damaged: it does not hold what was written"):
        files.read(path)


def test_other_facts_under_the_seal_of_these_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    files.save(path, {"a": A}, steps=7)
    with safe_open(path, "pt") as file:
        notes = file.metadata()
    save_file({"a": A}, path, metadata={"facts": notes["facts"].replace("7", "8")})
    with pytest.raises(ValueError, match="does not hold what was written"):
        files.read(path)
    with pytest.raises(ValueError, match="does not hold what was written"):
        files.facts(path)


def test_two_processes_that_write_one_file_do_not_meet(tmp_path, monkeypatch):
    """The second begins and ends while the first is at work: whoever ends last is there, whole."""
    path, other = tmp_path / "m.json", os.getpid() + 1

    def first(unfinished):
        unfinished.write_text("first", "utf-8")
        with monkeypatch.context() as second:
            second.setattr(files.os, "getpid", lambda: other)
            files.write(path, lambda beside: beside.write_text("second", "utf-8"))
        assert path.read_text("utf-8") == "second" and unfinished.read_text("utf-8") == "first"
    files.write(path, first)
    assert path.read_text("utf-8") == "first" and os.listdir(tmp_path) == ["m.json"]
