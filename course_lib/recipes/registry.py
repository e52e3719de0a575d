"""What a recipe is, and the shipped checkpoints with their cards.

A recipe keeps four things apart: what the network is (`build`), what it learns from (`batches`), what it
stands on (`needs`: other checkpoints), and the numbers of its training. `load` needs the first only.
"""
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import data, files

CHECKPOINTS, RUNS = data.FOLDER / "checkpoints", data.FOLDER.parent / "runs"
RESTORE = "Restore it with `git checkout -- data/checkpoints`"
RECIPES: dict[str, Callable[[], "Recipe"]] = {}


@dataclass(frozen=True)
class Recipe:
    """How one network is made.

    build: () -> the network, untrained; its weights come from torch's random state.
    batches: (split="train", device=None, store=SHIPPED) -> endless dicts, the arguments of `loss`.
    steps, lr, ema, muon: as in `train.fit`.
    needs: the checkpoints that it reads, learns on or starts from.
    prepare: (model, store, fresh) -> None, called once before the first step: what does not come by training.
        fresh: False where the run goes on from the shipped weights.
    assemble: (model, store, **options) -> what `load` gives; the model itself, or a system around it.
    measure: (model, store) -> figures for the model card, beside the loss on new pictures.
    """
    build: Callable[[], nn.Module]
    batches: Callable[..., Iterator[dict]]
    steps: int
    lr: float = 1e-3
    ema: float = 0.999
    muon: bool = False
    needs: tuple[str, ...] = ()
    prepare: Callable[[nn.Module, "Store", bool], None] = lambda model, store, fresh: None
    assemble: Callable[..., object] = lambda model, store: model
    measure: Callable[[nn.Module, "Store"], dict[str, float]] = lambda model, store: {}

    def loss(self, model: nn.Module, batch: dict) -> Tensor:
        """The loss of one batch, (): the model's own."""
        return model.loss(**batch)

    def new(self, seed: int = 0) -> nn.Module:
        """An untrained network that depends on the seed alone; torch's random state stays as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.build()


def recipe(function: Callable[[], Recipe]) -> Callable[[], Recipe]:
    """Decorator: register a function that returns a Recipe under its name."""
    RECIPES[function.__name__] = function
    return function


def start_from(name: str, model: nn.Module, store: "Store", fresh: bool) -> None:
    """Begin with the weights of another network, all but those that have other shapes or are not there: with
    `partial`, what `Recipe.prepare` wants."""
    if fresh:
        own, old = model.state_dict(), store.weights(name)
        fitting = {k: v.float() for k, v in old.items() if k in own and v.shape == own[k].shape}
        model.load_state_dict(fitting, strict=False)


def get(name: str) -> Recipe:
    """The recipe of that name."""
    if name not in RECIPES:
        raise ValueError(f"no recipe {name!r}; there are: {', '.join(RECIPES)}")
    return RECIPES[name]()


def file_name(name: str, digest: str) -> str:
    """What the file of a network is called, by the sha256 of its content."""
    return f"{name}-{digest[:8]}.safetensors"


class Store:
    """Trained networks in a folder: one file of weights each, and manifest.json with a model card for each.

    A card says how the network was made and vouches for its file by name and hash. The manifest is replaced
    in one step, and files are named after their content: so at every moment each card has its own file.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def cards(self) -> dict[str, dict]:
        """All model cards by name. Raises ValueError where the manifest is missing or damaged."""
        return files.read_json(self.folder / "manifest.json", f"{RESTORE}.")

    def known(self) -> dict[str, dict]:
        """The same; none where nothing has been shipped yet, not even a manifest."""
        if not any(self.folder.glob("*.safetensors")) and not (self.folder / "manifest.json").exists():
            return {}
        return self.cards()  # where networks lie, a missing manifest is an accident

    def card(self, name: str) -> dict:
        """The model card of one network."""
        cards = self.cards()
        if name not in cards:
            raise ValueError(f"no checkpoint {name!r}; there are: {', '.join(cards)}")
        return cards[name]

    def path(self, name: str) -> Path:
        """Its file of weights, verified by its hash."""
        card = self.card(name)
        return files.verified(self.folder / _file_of(name, card, f"{RESTORE}."), card["sha256"],
                              f"{RESTORE}.")

    def load(self, name: str, device=None, **options):
        """The trained network of that name, averaged weights, eval mode, or the system that is built around
        it, on a device. options: what the system may be asked for. Torch's random state stays as it was.

        Raises ValueError where its file is damaged, or where what it was built on is no longer there."""
        card, cards = self.card(name), self.cards()
        plan = get(name)
        for need, digest in card["needs"].items():
            if cards.get(need, {}).get("sha256") != digest:
                raise ValueError(
                    f"{name} was trained with another {need} than the one in {self.folder}: together they "
                    f"would draw nonsense. {RESTORE}, or train {name} again: "
                    f"`python -m course_lib.recipes {name} --ship`.")
        model = plan.new()
        files.fill(model, self.weights(name), str(self.folder / card["file"]))
        whole = plan.assemble(model.eval(), self, **options)
        return whole if device is None else whole.to(device)

    def weights(self, name: str) -> dict[str, Tensor]:
        """Its tensors by name; a card may say which of them were called otherwise when the file was written.
        """
        tensors = files.read(self.path(name), f"{RESTORE}.", sealed=False)  # its hash is that of the card
        for old, new in self.card(name).get("renamed", {}).items():
            tensors = {k.replace(old, new): v for k, v in tensors.items()}
        return tensors

    def ship(self, entries: dict[str, tuple[dict, Path]]) -> None:
        """Take over networks: name -> (card, file of weights). All of them at once or none: the one moment is
        the replacement of the manifest. Refuses where a network that stays would lose what it was built on.
        """
        later = self.known() | {name: card for name, (card, _) in entries.items()}
        orphans = {name: need for name, card in later.items() for need, digest in card["needs"].items()
                   if later.get(need, {}).get("sha256") != digest}
        if orphans:
            raise ValueError(
                "nothing was shipped: " + "; ".join(f"{name} was trained with another {need}" for name, need
                                                    in orphans.items())
                + f". Train {', '.join(orphans)} on the new ones, with --from-runs, and ship them together.")
        for name, (card, source) in entries.items():
            path = self.folder / _file_of(name, card, "Train it again.")
            files.verified(source, card["sha256"], "Train it again.")
            files.write(path, partial(_copy, source, card["sha256"]))
        files.write_json(self.folder / "manifest.json", later)
        for name, (card, _) in entries.items():  # no card knows these any more
            for old in self.folder.glob(f"{name}-????????.safetensors"):
                if old.name != card["file"]:
                    old.unlink()


def _file_of(name: str, card: dict, advice: str) -> str:
    """The file that a card vouches for: its own, and never one of another network or outside the folder."""
    if card["file"] != (own := file_name(name, card["sha256"])):
        raise ValueError(f"the card of {name} names the file {card['file']}, and by its sha256 that should "
                         f"be {own}. {advice}")
    return own


def _copy(source: Path, digest: str, path: Path) -> None:
    """Copy a file to `path`, and see whether it arrived as it was."""
    shutil.copyfile(source, path)
    files.verified(path, digest, f"It is a copy of {source} that went wrong, and nothing was shipped: ship "
                                 "it again.")


SHIPPED = Store(CHECKPOINTS)


def load(name: str, device=None, **options):
    """The shipped network or system of that name: `Store.load` of data/checkpoints."""
    return SHIPPED.load(name, device, **options)


