"""Files arrive whole or not at all, and a damaged one is named, with what to do about it."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from course_lib import files

ROOT = Path(__file__).resolve().parent.parent
TENSORS = {"w": torch.arange(12.0).reshape(3, 4), "b": torch.tensor([True, False]), "n": torch.tensor(7),
           "h": torch.ones(5).half(), "none": torch.zeros(0, 2)}


def test_tensors_come_back_as_they_were(tmp_path):
    path = tmp_path / "deep" / "m.safetensors"
    digest = files.save(path, TENSORS, steps=7, note="é")
    found = files.read(path)
    assert found.keys() == TENSORS.keys() and files.sha256(path) == digest
    for k, v in TENSORS.items():
        assert found[k].dtype == v.dtype and torch.equal(found[k], v)
    assert os.listdir(path.parent) == ["m.safetensors"]
    assert {files.save(path, TENSORS, steps=7, note="é") for _ in range(8)} == {digest}, "the same bytes"
    assert path.stat().st_mode & 0o044 == 0o044, "the others in a shared folder may read it"
    from safetensors import safe_open
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["facts"])
    assert facts.pop("seal") and facts == {"steps": 7, "note": "é"}


def test_a_file_can_be_replaced_while_its_tensors_live(tmp_path):
    """Windows refuses to replace a file that is still mapped."""
    path = tmp_path / "m.safetensors"
    files.save(path, TENSORS)
    found = files.read(path)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(path) not in maps.read_text("utf-8")
    path.write_bytes(b"0" * path.stat().st_size)
    assert torch.equal(found["w"], TENSORS["w"])


def test_what_is_synced_was_opened_for_writing(tmp_path, monkeypatch):
    """Windows syncs no file that was opened to be read."""
    fcntl = pytest.importorskip("fcntl")
    synced = []
    mode = lambda n: fcntl.fcntl(n, fcntl.F_GETFL) & os.O_ACCMODE
    monkeypatch.setattr(files.os, "fsync", lambda n: synced.append(mode(n)))
    files.save(tmp_path / "m.safetensors", TENSORS)
    files.write_json(tmp_path / "m.json", {"a": 1})
    assert synced and os.O_RDONLY not in synced


@pytest.mark.parametrize("moment", ["while writing", "before the rename"])
@pytest.mark.parametrize("kind", ["tensors", "facts"])
def test_a_kill_while_saving_keeps_the_old_file(tmp_path, monkeypatch, moment, kind):
    path = tmp_path / "m"
    write = lambda n: (files.save(path, {"w": torch.full((3,), float(n))}) if kind == "tensors"
                       else files.write_json(path, {"w": n}))
    look = lambda: files.read(path)["w"][0].item() if kind == "tensors" else files.read_json(path)["w"]
    write(1)

    def killed(*args, **more):
        if moment == "while writing":
            Path(args[1]).write_bytes(b"half a fi")
        raise KeyboardInterrupt
    if moment == "before the rename":
        monkeypatch.setattr(files.os, "replace", killed)
    elif kind == "tensors":
        monkeypatch.setattr(files, "save_file", killed)
    else:
        monkeypatch.setattr(files.os, "fsync", lambda n: killed(0, path.with_name("half")))
    with pytest.raises(KeyboardInterrupt):
        write(2)
    assert look() == 1 and not [*tmp_path.glob("*.unfinished")], "Ctrl-C leaves nothing behind"
    monkeypatch.undo()
    write(3)
    assert look() == 3


def test_what_a_killed_process_left_is_swept_away_by_the_next_write_of_that_file(tmp_path):
    """An hour later, since a younger one may be at work; what belongs to other files stays."""
    code = """
import os, sys
from pathlib import Path
from course_lib import files
files.write(sys.argv[1], lambda path: (path.with_name(".tmp123").write_bytes(b"half"), os._exit(1)))
"""
    for name in ("m", "m", "n"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], cwd=ROOT)
    assert len(list(tmp_path.glob("m.*.unfinished"))) == 2
    files.write_json(tmp_path / "m", {"a": 1})
    assert len(list(tmp_path.glob("*.unfinished"))) == 3 and files.read_json(tmp_path / "m") == {"a": 1}
    for left in tmp_path.glob("*.unfinished"):
        os.utime(left, (0, 0))
    files.write_json(tmp_path / "m", {"a": 2})
    [other] = tmp_path.glob("*.unfinished")
    assert other.name.startswith("n.") and files.read_json(tmp_path / "m") == {"a": 2}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "no")])
def test_a_full_disk_or_a_locked_folder_is_named_and_nothing_is_lost(tmp_path, monkeypatch, error):
    path = tmp_path / "m.safetensors"
    files.save(path, {"w": torch.ones(2)})

    def fails(*args, **more):
        raise error
    monkeypatch.setattr(files.os, "replace", fails)
    with pytest.raises(OSError, match=r"m\.safetensors could not be written .*Nothing was changed"):
        files.save(path, {"w": torch.zeros(2)})
    monkeypatch.undo()
    assert torch.equal(files.read(path)["w"], torch.ones(2)) and os.listdir(tmp_path) == ["m.safetensors"]


def test_a_missing_file_is_named_with_the_advice(tmp_path):
    for read in (files.read, files.read_json, lambda p, a: files.verified(p, "0" * 64, a)):
        with pytest.raises(FileNotFoundError, match=r"x\.safetensors is missing\. Do this\."):
            read(tmp_path / "x.safetensors", "Do this.")


def mutated(path: Path, how: str) -> None:
    whole = bytearray(path.read_bytes())
    if how == "empty":
        whole = b""
    elif how == "cut":
        whole = whole[:len(whole) // 2]
    elif how == "cut at the end":
        whole = whole[:-1]
    elif how == "longer":
        whole += b"\0"
    elif how == "text":
        whole = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
    elif how == "bom":
        whole = b"\xef\xbb\xbf" + whole
    else:
        whole[int(how)] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("how", ["empty", "cut", "cut at the end", "longer", "text", "bom", "-1", "-30", "0",
                                 "9", "200"])
def test_a_damaged_file_of_tensors_is_named(tmp_path, how):
    path = tmp_path / "m.safetensors"
    files.save(path, {k: v for k, v in TENSORS.items() if k != "b"})
    mutated(path, how)
    with pytest.raises(ValueError, match=r"m\.safetensors is damaged.*Do this\."):
        files.read(path, "Do this.")


@pytest.mark.parametrize("how", ["empty", "cut", "cut at the end", "text", "bom", "-5", "20"])
def test_a_damaged_file_of_facts_is_named(tmp_path, how):
    path = tmp_path / "m.json"
    facts = {"name": {"sha256": "ab", "note": "é"}, "n": [1, 2.5, None]}
    files.write_json(path, facts)
    assert files.read_json(path) == facts
    mutated(path, how)
    try:
        assert files.read_json(path, "Do this.") == facts, "only white space may be lost unsaid"
    except ValueError as error:
        assert re.search(r"m\.json is damaged.*Do this\.", str(error))


@pytest.mark.parametrize("change", [lambda f: f.pop("a"), lambda f: f.update(a=2), lambda f: f.pop("seal"),
                                    lambda f: f.update(more=1), lambda f: f.update(seal=None)])
def test_facts_that_were_changed_by_hand_are_named(tmp_path, change):
    path = tmp_path / "m.json"
    files.write_json(path, {"a": 1, "b": {"c": None}})
    facts = json.loads(path.read_text("utf-8"))
    change(facts)
    path.write_text(json.dumps(facts), "utf-8")
    with pytest.raises(ValueError, match=r"m\.json is damaged"):
        files.read_json(path)


def test_a_file_without_a_seal_is_taken_only_where_a_hash_vouches_for_it(tmp_path):
    path = tmp_path / "m.safetensors"
    files.save_file({"w": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"m\.safetensors .*carries no seal\. Do this\."):
        files.read(path, "Do this.")
    assert torch.equal(files.read(path, sealed=False)["w"], torch.ones(2))
    files.save(path, TENSORS, steps=7)
    assert files.facts(path) == {"steps": 7}


def test_another_file_of_that_name_is_named(tmp_path):
    path = tmp_path / "m.safetensors"
    digest = files.save(path, TENSORS)
    assert files.verified(path, digest) == path
    files.save(path, TENSORS | {"n": torch.tensor(8)})
    with pytest.raises(ValueError, match=rf"another file .*expected {digest[:12]}.*git checkout"):
        files.verified(path, digest)


def linear():
    torch.manual_seed(0)
    return nn.Linear(4, 2)


@pytest.mark.parametrize(("change", "named"), [
    (lambda s: s | {"more": torch.ones(2)}, r"more: \(2,\) instead of nothing"),
    (lambda s: {"weight": s["weight"]}, r"bias: missing instead of \(2,\)"),
    (lambda s: s | {"bias": torch.ones(3)}, r"in 1 tensors, .*\(3,\) instead of \(2,\)"),
    (lambda s: s | {"bias": torch.tensor([1.0, float("nan")])}, r"NaN or infinite numbers in bias")])
def test_weights_that_do_not_fit_are_named_and_nothing_is_half_loaded(change, named):
    model, before = linear(), linear().state_dict()
    with pytest.raises(ValueError, match=f"the file.*{named}"):
        files.fill(model, change(linear().state_dict()), "the file")
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_no_pickle():
    """Weights and data travel as safetensors, PNG, CSV and JSON: opening one never runs code. A file
    of others, whose hash was checked, may be opened as weights only."""
    pattern = re.compile(r"\bpickle\b|torch\.save\(|torch\.load\((?!path, weights_only=True\))|allow_pickle"
                         r"|joblib|\bdill\b")
    for path in (ROOT / "course_lib").rglob("*.py"):
        code = path.read_text("utf-8").replace("(no pickle: a file of weights cannot run code)", "")
        assert not pattern.search(code), path
