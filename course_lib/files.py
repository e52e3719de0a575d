"""Files that appear whole or not at all, and that are what they say they are.

Tensors are stored as safetensors (no pickle: a file of weights cannot run code), facts as JSON. Both are
written beside their place and then moved there in one step, and both carry a *seal*, the sha256 of their
content, so that a damaged file is named at once and never half believed.
"""
import contextlib
import glob
import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

RESTORE = "Restore it with `git checkout -- data`."
LEFT_OVER = 3600  # seconds: no file takes so long to write


def sha256(path: str | Path) -> str:
    """The sha256 of a file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verified(path: str | Path, expected: str, advice: str = RESTORE) -> Path:
    """The path itself, if the file has this sha256. Else FileNotFoundError or ValueError with the advice."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {advice}")
    if (found := sha256(path)) != expected:
        raise ValueError(f"{path} is damaged or another file (sha256 {found[:12]}…, expected "
                         f"{str(expected)[:12]}…). {advice}")
    return path


def write(path: str | Path, fill) -> None:
    """Let fill(unfinished path) write a file, bring it to the disk, and put it at `path` in one step.

    Raises OSError, naming the file, where the folder is read-only or the disk is full; what was at `path`
    before is then still there. The unfinished file lies in a folder of its own, which goes however `write`
    ends; only a killed process leaves one, and the next write to `path` sweeps it away.
    """
    path = Path(path)
    workplace = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        workplace.mkdir(parents=True, exist_ok=True)
        unfinished = workplace / path.name
        fill(unfinished)
        with open(unfinished, "rb+") as file:  # Windows syncs only what may be written
            os.fsync(file.fileno())
        os.chmod(unfinished, 0o644)  # safetensors would keep it from the others in a shared folder
        os.replace(unfinished, path)
    except Exception as error:
        if isinstance(error, OSError) or "os error" in str(error):  # safetensors has an error of its own
            raise OSError(f"{path} could not be written ({error}). Nothing was changed. Is the disk full, or "
                          "the folder read-only?") from None
        raise
    finally:
        shutil.rmtree(workplace, ignore_errors=True)  # with what safetensors may have left in it
    _sweep(path)


def _sweep(path: Path) -> None:
    """Remove what killed processes left beside `path`. A young folder may be that of another one at work."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.unfinished"):
        with contextlib.suppress(OSError):  # another process may have been quicker
            if time.time() - left.stat().st_mtime > LEFT_OVER:
                shutil.rmtree(left)


# ---- Tensors -------------------------------------------------------------------------------------

def save(path: str | Path, tensors: dict[str, Tensor], **facts) -> str:
    """Write named tensors, and facts that JSON can hold, to a safetensors file; returns its sha256."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    # one entry, since several would come in any order
    notes = {"facts": json.dumps({**facts, "seal": _seal(tensors, facts)})}
    write(path, lambda unfinished: save_file(tensors, unfinished, metadata=notes))
    return sha256(path)


def read(path: str | Path, advice: str = RESTORE, sealed: bool = True) -> dict[str, Tensor]:
    """The tensors of a file that `save` wrote. Raises FileNotFoundError, or ValueError where it is damaged.

    sealed: False where something else vouches for a file, such as its hash in a manifest; it may then be
    without a seal. The file is closed again: it can be replaced while the tensors live, on Windows too.
    """
    return _read(path, advice, sealed)[0]


def facts(path: str | Path, advice: str = RESTORE) -> dict:
    """The facts that `save` wrote beside the tensors. Raises as `read` does."""
    return _read(path, advice, sealed=True)[1]


def _read(path, advice, sealed):
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {advice}")
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads((file.metadata() or {}).get("facts", "{}"))
            tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # noqa: SIM118 (no dict)
            seal = facts.pop("seal", None)
    except (SafetensorError, OSError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}). {advice}") from None
    if seal is None and sealed:
        raise ValueError(f"{path} is not what it should be: it carries no seal. {advice}")
    if seal is not None and seal != _seal(tensors, facts):
        raise ValueError(f"{path} is damaged: it does not hold what was written. {advice}")
    return tensors, facts


def _seal(tensors: dict[str, Tensor], facts: dict) -> str:
    """The sha256 of facts, names, types, shapes and numbers."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        x = tensors[name]
        digest.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.reshape(-1).view(torch.uint8).numpy().data if x.numel() else b"")
    return digest.hexdigest()


def fill(model: nn.Module, tensors: dict[str, Tensor], source: str) -> nn.Module:
    """Give `model` these weights. Raises ValueError where names or shapes are not the model's, or where a
    number is not finite; source: what the error calls them."""
    expected = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    given = {k: tuple(v.shape) for k, v in tensors.items()}
    if expected != given:
        wrong = [f"{k}: {given.get(k, 'missing')} instead of {expected.get(k, 'nothing')}"
                 for k in sorted(expected.keys() | given.keys()) if expected.get(k) != given.get(k)]
        raise ValueError(f"{source} does not fit this model in {len(wrong)} tensors, such as "
                         f"{'; '.join(wrong[:3])}. Build the model that it was made for.")
    if broken := [k for k, v in tensors.items() if not v.isfinite().all()]:
        raise ValueError(f"{source} holds NaN or infinite numbers in {', '.join(broken[:3])}.")
    model.load_state_dict(tensors)
    return model


# ---- Facts ---------------------------------------------------------------------------------------

def json_text(facts: dict) -> str:
    """A dict as JSON, with a seal under the key "seal"."""
    return json.dumps({**facts, "seal": _seal_of(facts)}, indent=1, ensure_ascii=False) + "\n"


def write_json(path: str | Path, facts: dict) -> None:
    """Write a dict to a JSON file, as `json_text`; lines end in LF on every system."""
    write(path, lambda unfinished: unfinished.write_text(json_text(facts), encoding="utf-8", newline="\n"))


def read_json(path: str | Path, advice: str = RESTORE) -> dict:
    """The dict of a file that `write_json` wrote, without the seal. Raises FileNotFoundError, or ValueError
    where the file is empty, cut, or changed by hand."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {advice}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        seal = facts.pop("seal")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}). {advice}") from None
    if seal != _seal_of(facts):
        raise ValueError(f"{path} is damaged: it does not say what was written. {advice}")
    return facts


def _seal_of(facts: dict) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
