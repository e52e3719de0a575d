"""Training by a recipe: `run` writes to runs/NAME, `ship` takes a finished run over into data/checkpoints.

In runs/NAME lie

    state.safetensors     everything that is needed to go on, saved every minute, and the terms of the run
    weights.safetensors   the averaged weights in half precision, when the run has ended
    card.json             the model card: how this network was made, and the hash of its weights

Each file appears whole or not at all, and carries a seal. A run that is stopped at any moment, by whatever,
goes on at the next call; nothing under data/ is touched before `ship`.
"""
import contextlib
import hashlib
import inspect
import json
import platform
import shutil
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from filelock import FileLock, Timeout
from torch import nn
from tqdm.auto import tqdm

from .. import checks, data, files, train
from .registry import RECIPES, RUNS, SHIPPED, Recipe, Store, file_name, get

SAVE_EVERY = 60  # seconds: so much is lost at most


def run(name: str, steps: int | None = None, *, from_shipped: bool = False, stop_after: float | None = None,
        fast: bool = False, precision: str = "fp32", seed: int = 0, store: Store = SHIPPED) -> dict | None:
    """Train recipe `name` to its end, or for stop_after seconds; call again to go on.

    steps: another number of steps than the recipe's. from_shipped: start from the shipped weights, with a
    fresh optimizer, instead of from nothing. fast: see `train.fit`. precision: "fp32" or "bf16". store: where
    the networks that it needs are taken from. Returns the model card of the finished run, else None. Raises
    ValueError where runs/NAME holds a run that was begun otherwise or does not fit, RuntimeError where
    another process is at it, OSError where it cannot be written to.
    """
    plan = get(name)
    steps = checks.whole(plan.steps if steps is None else steps, 1, 2**31 - 1, "steps")
    if stop_after is not None:
        checks.number(stop_after, 0, what="stop_after, in seconds,")
    checks.choice(precision, ("fp32", "bf16"), "precision")
    checks.whole(seed, 0, 2**32 - 1, "seed")
    if fast and not torch.cuda.is_available():
        raise ValueError("fast needs an NVIDIA GPU")
    if from_shipped and name not in store.cards():
        raise ValueError(f"there is no shipped {name} to start from: leave out --from-shipped")
    accelerator = Accelerator()
    folder = RUNS / name
    with locked(folder, accelerator.is_main_process):
        if from_shipped and (folder / "card.json").exists():
            card = files.read_json(folder / "card.json", _anew(folder))
            last, asked = card["phases"][-1], (steps, seed, "bf16" if fast else precision)
            if (card["sha256"] == store.card(name)["sha256"] and last["start"] != "scratch"
                    and (last["steps"], last["seed"], last["precision"]) == asked):
                return card  # it went on from what was shipped then, and is what is shipped now
        start = f"shipped {store.card(name)['sha256']}" if from_shipped else "scratch"
        terms = {"name": name, "steps": steps, "lr": plan.lr, "ema": plan.ema, "seed": seed,
                 "optimizer": "Muon" if plan.muon else "AdamW",
                 "precision": "bf16" if fast else precision, "start": start,
                 "needs": needs_of(name, plan, store), "data": data.fingerprint(),
                 "network": layout(plan.new())}
        try:
            return _train(name, plan, terms, folder, accelerator, stop_after, fast, store)
        except train.StateError as error:
            raise ValueError(f"{folder / 'state.safetensors'} is not a state of this run: {error}. "
                             f"{_anew(folder)}") from None


def needs_of(name: str, plan: Recipe, store: Store) -> dict[str, str]:
    """The networks that a recipe stands on, with their hashes. Raises ValueError where one is not there."""
    cards = store.cards() if plan.needs else {}
    if missing := [need for need in plan.needs if need not in cards]:
        raise ValueError(f"{name} needs {' and '.join(missing)}, not to be found in {store.folder}. Train it "
                         f"first: `python -m course_lib.recipes {' '.join(missing)} --ship`.")
    return {need: cards[need]["sha256"] for need in plan.needs}


def layout(model: nn.Module) -> str:
    """An architecture in a few words: how many parameters, and a hash of all names and shapes in order."""
    shapes = [(k, tuple(v.shape)) for k, v in model.state_dict().items()]
    digest = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
    return f"{sum(p.numel() for p in model.parameters())} parameters in the layout {digest[:8]}"


def _train(name, plan, terms, folder, accelerator, stop_after, fast, store):
    path, advice = folder / "state.safetensors", _anew(folder)
    resume, done, seconds, losses = None, 0, 0.0, []
    if path.exists():
        resume, begun = files.read(path, advice), files.facts(path, advice).get("terms", {})
        if differing := [k for k in terms if begun.get(k) != terms[k]]:
            raise ValueError(f"{folder} holds a run that was begun otherwise: " + ", ".join(
                f"{k} was {begun.get(k)}, is now {terms[k]}" for k in differing)
                + f". Go on with the old terms, or start anew. {advice}")
        done, seconds, losses = _progress(resume)
    model = plan.new(terms["seed"])
    if resume is None:
        _room_for(model, folder)
        if not (fresh := terms["start"] == "scratch"):
            files.fill(model, store.weights(name), f"the shipped {name}")
        plan.prepare(model, store, fresh)
    model.to(accelerator.device)
    ticks = train.fit(model, plan.loss, plan.batches("train", accelerator.device, store), terms["steps"],
                      lr=plan.lr, ema=plan.ema, seed=terms["seed"], resume=resume, accelerator=accelerator,
                      bf16=terms["precision"] == "bf16", fast=fast, muon=plan.muon)
    resume = None  # its tensors are in the model now
    start = saved = time.monotonic()
    bar = tqdm(total=terms["steps"], desc=name, disable=not accelerator.is_main_process, initial=done)
    for tick in ticks:
        losses = [*losses[-99:], tick.loss]
        bar.update()
        bar.set_postfix(loss=sum(losses) / len(losses), refresh=False)
        now, done = time.monotonic(), tick.step
        stop = stop_after is not None and now - start >= stop_after
        if accelerator.is_main_process and (now - saved > SAVE_EVERY or stop or done == terms["steps"]):
            spent = {"seconds": torch.tensor(seconds + now - start), "losses": torch.tensor(losses)}
            files.save(path, tick.state() | spent, terms=terms)
            saved = now
        if stop:
            break
    bar.close()
    if done < terms["steps"] or not accelerator.is_main_process:
        return None
    return _finish(name, plan, terms, folder, accelerator.device, store)


def _progress(state) -> tuple[int, float, list[float]]:
    """How far a run is in this state: its steps, its seconds, and the losses of the last steps."""
    parts = [state.get(k) for k in ("step", "seconds", "losses")]
    if [None if x is None else x.ndim for x in parts] != [0, 0, 1]:
        raise train.StateError("it lacks the step, the seconds or the losses")
    return tuple(x.tolist() for x in parts)


def _anew(folder: Path) -> str:
    return f"To start anew, delete the folder {folder}."


def _finish(name, plan, terms, folder, device, store) -> dict:
    """Weights and model card of a run whose last state is on the disk; the same however often it is called.
    """
    state = files.read(folder / "state.safetensors")
    weights = {k.removeprefix("ema."): v for k, v in state.items() if k.startswith("ema.")}
    model = files.fill(plan.new(), weights, f"the averaged weights in {folder}").eval()
    halves = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    digest = files.save(folder / "weights.safetensors", halves, recipe=name)
    machine = f"CPU, {torch.get_num_threads()} thread(s), {platform.machine()}"
    phases = store.card(name)["phases"] if terms["start"] != "scratch" else []
    phases.append({k: terms[k] for k in ("start", "steps", "lr", "ema", "optimizer", "seed", "precision")} | {
        "minutes": round(state["seconds"].item() / 60, 1), "torch": torch.__version__,
        "machine": machine if device.type == "cpu" else torch.cuda.get_device_name(device)})
    card = {"what": inspect.getdoc(RECIPES[name]),
            "file": file_name(name, digest), "sha256": digest,
            "parameters": sum(p.numel() for p in model.parameters()),
            "steps": sum(p["steps"] for p in phases), "minutes": round(sum(p["minutes"] for p in phases), 1),
            "phases": phases,
            "needs": terms["needs"], "data": terms["data"],
            "metrics": {"training_loss": round(state["losses"].mean().item(), 4),
                        **measured(plan, model.to(device), store)}}
    files.write_json(folder / "card.json", card)
    return card


def measured(plan: Recipe, model: nn.Module, store: Store, batches: int = 8) -> dict[str, float]:
    """The figures of a model card: the loss on new pictures, the validation split, and what the recipe
    measures."""
    device = next(model.parameters()).device
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))), torch.inference_mode():
        torch.manual_seed(0)
        new = plan.batches("val", device, store)
        loss = sum(plan.loss(model, next(new)).item() for _ in range(batches)) / batches
        return {"validation_loss": round(loss, 4), **plan.measure(model, store)}


def bereft(*names: str, store: Store = SHIPPED) -> dict[str, list[str]]:
    """The networks that were built on some of these, and on which: they would lose them if these were trained
    anew and shipped, and `ship` will refuse that."""
    needs = {name: tuple(card["needs"]) for name, card in store.known().items()}
    needs |= {name: get(name).needs for name in names}
    lost = {name: [need for need in its if need in names] for name, its in needs.items()}
    return {name: its for name, its in lost.items() if its}


def ship(*names: str, store: Store = SHIPPED) -> None:
    """Put finished runs into data/checkpoints, all of them at once or none."""
    entries = {}
    for name in names:
        folder = RUNS / name
        advice = f"Train it to its end first: `python -m course_lib.recipes {name}`."
        entries[name] = files.read_json(folder / "card.json", advice), folder / "weights.safetensors"
    with locked(RUNS):
        store.ship(entries)


@contextlib.contextmanager
def locked(folder: Path, needed: bool = True):
    """A lock on a folder, held by one process at a time and gone when that ends, however it ends."""
    if not needed:  # the main process of several holds it for all
        yield
        return
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise RuntimeError(f"another process is at work in {folder}. Wait for it, or stop it.") from None
    except OSError as error:
        raise OSError(f"{folder} cannot be written to ({error}). Nothing was trained or changed. Is it "
                      "read-only, or is something else in its place?") from None
    try:
        yield
    finally:
        lock.release()


def _room_for(model, folder):
    """Refuse before the first step, not after the first minute, where the state will not fit on the disk."""
    size = sum(v.numel() * v.element_size() for v in model.state_dict().values())
    needed = 10 * size  # a state holds four copies of the weights, and the next one is written beside it
    if (free := shutil.disk_usage(folder).free) < needed:
        raise OSError(f"{folder} needs {needed / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free. Nothing was "
                      "trained.")
