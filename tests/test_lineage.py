"""All networks from nothing: their order, what they learn from, and what happens where one fails."""
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from test_recipes import tiny, workshop  # noqa: F401

from course_lib import recipes
from course_lib.recipes import lineage as module
from course_lib.recipes import training
from course_lib.recipes.lineage import Runs, lineage, train_all, urgency


@pytest.fixture
def family(monkeypatch):
    """Five recipes: b and c stand on a, d on both, e on nothing. As many minutes each as its place."""
    needs = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ()}
    for name in list(recipes.RECIPES):
        monkeypatch.delitem(recipes.RECIPES, name)
    for name, its in needs.items():
        monkeypatch.setitem(recipes.RECIPES, name, lambda its=its: replace(tiny(), needs=its))
    minutes = {name: k + 1.0 for k, name in enumerate(needs)}
    monkeypatch.setattr(module, "expected", lambda: minutes)
    return needs, minutes


def test_everything_comes_after_what_it_needs():
    names = lineage()
    assert set(names) == set(recipes.RECIPES) - {"faces"}
    for name in names:
        assert all(names.index(need) < names.index(name) for need in recipes.get(name).needs)
    assert lineage(["unclip"]) == ["ae64", "clip", "sd64", "unclip"]


def test_who_is_waited_for_longest_goes_first(family):
    needs, minutes = family
    assert urgency(list(needs), minutes) == {"a": 1 + 3 + 4, "b": 2 + 4, "c": 3 + 4, "d": 4, "e": 5}


def stub(code, record, monkeypatch):
    """In place of a training: a process that runs `code`; record notes who was started when."""
    def start(name, precision):
        record.append((name, precision, {n for n, p in record_processes.items() if p.poll() is None}))
        record_processes[name] = subprocess.Popen([sys.executable, "-c", code.get(name, "")])
        return record_processes[name]
    record_processes = {}
    monkeypatch.setattr(module, "start", start)
    monkeypatch.setattr(module, "share", lambda name: 0.5)
    return record_processes


def test_two_at_a_time_and_each_when_its_needs_are_done(family, monkeypatch, capsys):
    record = []
    stub({name: "import time; time.sleep(0.3)" for name in "abcde"}, record, monkeypatch)
    assert train_all(jobs=2, precision="bf16") == ["a", "b", "c", "d", "e"]
    names = [name for name, *_ in record]
    assert names[:2] == ["a", "e"] and names[-1] == "d" and set(names) == set("abcde")
    assert all(len(beside) <= 1 and precision == "bf16" for _, precision, beside in record)
    said = capsys.readouterr().out
    assert "5 of 5 networks done" in said and "running: a 50 %" in said


def test_a_failure_is_named_and_stops_the_others(family, monkeypatch):
    record, code = [], {"a": "import sys; sys.exit(3)", "e": "import time; time.sleep(60)"}
    processes = stub(code, record, monkeypatch)
    with pytest.raises(RuntimeError, match=r"a failed: see .*a\.log"):
        train_all(jobs=2)
    assert processes["e"].wait(10) != 0 and [name for name, *_ in record] == ["a", "e"]


def test_a_network_learns_from_what_was_trained_here(workshop):  # noqa: F811
    """The child stands on the run of tiny, not on the shipped one, and both are shipped together."""
    workshop.train()
    workshop.ship_runs("tiny")
    shipped = workshop.card("tiny")["sha256"]
    for path in (workshop.runs / "tiny").iterdir():
        path.unlink()
    runs = Runs(workshop.runs)
    assert runs.cards() == {}
    workshop.train(seed=1)
    mine = runs.card("tiny")["sha256"]
    assert mine != shipped
    assert training.run("child", store=runs)["needs"] == {"tiny": mine}
    with pytest.raises(ValueError, match="child was trained with another tiny"):
        workshop.ship_runs("child")
    workshop.ship_runs("tiny", "child")
    assert workshop.card("child")["needs"]["tiny"] == workshop.card("tiny")["sha256"] == mine


def test_damaged_weights_of_a_run_are_named(workshop):  # noqa: F811
    workshop.train()
    (workshop.runs / "tiny" / "weights.safetensors").write_bytes(b"0")
    with pytest.raises(ValueError, match="train it again"):
        Runs(workshop.runs).load("tiny")


def test_how_far_a_training_is_stands_in_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RUNS", tmp_path)
    (tmp_path / "a.log").write_text("a:  10%|█  | 100/1000 [00:10<01:30]\ra:  25%| | 250/1000 [00:25<01:15]",
                                    "utf-8")
    (tmp_path / "b.log").write_text("reading texts", "utf-8")
    assert module.share("a") == 0.25 and module.share("b") == 0.0


def test_the_real_command_is_started(tmp_path, monkeypatch):
    """`start` runs this course's own command, with one thread; here it only says what is wrong."""
    monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    process = module.start("nobody", "fp32")
    assert process.wait(60) == 2 and "no recipe nobody" in module.log("nobody").read_text("utf-8")
    assert os.path.exists(tmp_path / "runs")
