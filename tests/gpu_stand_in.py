"""A GPU that is none: inside `stand_in_gpu()`, tensors on the device "gpu" are CPU tensors in a wrapper that
keeps the rules of CUDA.

On a machine without a GPU there is no second device on which one could see code fail that mixes devices.
Here every operation on tensors of both kinds raises what CUDA raises, and so does a generator of the CPU that
is asked for numbers on the GPU. The numbers themselves are computed on the CPU. Not imitated: speed, memory,
CUDA graphs.
"""
import contextlib
import functools

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

AVAILABLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
MOVES = {"_to_copy", "copy_", "to", "lift_fresh", "set_"}


@functools.cache
def device() -> torch.device:
    """The stand-in device; PyTorch is told of it once."""
    backend_registration._setup_privateuseone_for_python_backend("gpu")
    return torch.device("gpu", 0)


class OnGPU(torch.Tensor):
    """A tensor that says it is on the GPU; its numbers lie in `inside`, on the CPU."""

    @staticmethod
    def __new__(cls, inside):
        return torch.Tensor._make_wrapper_subclass(
            cls, inside.shape, strides=inside.stride(), storage_offset=inside.storage_offset(),
            dtype=inside.dtype, layout=inside.layout, device=device(), requires_grad=inside.requires_grad)

    def __init__(self, inside):
        self.inside = inside

    def __repr__(self):
        return f"OnGPU({self.inside!r})"

    def __deepcopy__(self, memo):
        copied = OnGPU(self.inside.detach().clone())
        if isinstance(self, torch.nn.Parameter):
            return torch.nn.Parameter(copied, self.requires_grad)
        return copied

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})


def compute(operation, args, kwargs):
    """Run one ATen operation as CUDA would: refuse mixed devices, then compute inside."""
    kwargs, name = dict(kwargs), operation.overloadpacket.__name__
    given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    mine = [x for x in given if isinstance(x, OnGPU)]
    strangers = [x for x in given if x.ndim and not isinstance(x, OnGPU)]
    if "index" in name:  # CUDA takes indices from the CPU
        strangers = [x for x in strangers if x.dtype not in (torch.long, torch.bool)]
    if mine and strangers and name not in MOVES:
        raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, "
                           f"gpu:0 and cpu! ({name})")
    wanted = kwargs.get("device")
    there = wanted is not None and torch.device(wanted).type == "gpu"
    generator = kwargs.get("generator")
    if generator is not None and (mine or there):
        raise RuntimeError(f"Expected a 'gpu' device type for generator but found '{generator.device.type}'")
    if wanted is not None:
        kwargs["device"] = torch.device("cpu")
    kwargs.pop("pin_memory", None)
    wrapped = there if wanted is not None else bool(mine)
    bare = lambda x: x.inside if isinstance(x, OnGPU) else x
    out = operation(*tree_map(bare, args), **tree_map(bare, kwargs))
    if name.endswith("_") and args and isinstance(args[0], torch.Tensor):
        return args[0]
    known = {id(x.inside): x for x in mine}
    wrap = lambda x: known.get(id(x), OnGPU(x)) if isinstance(x, torch.Tensor) else x
    return tree_map(wrap, out) if wrapped else out


class Factories(TorchDispatchMode):
    """Catches what makes tensors on the GPU out of nothing, or out of tensors of the CPU."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})


class Literals(TorchFunctionMode):
    """Catches torch.tensor(..., device=gpu), which no dispatcher sees."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and "device" in kwargs:
            where = kwargs.pop("device")
            return function(*args, **kwargs).to(where)
        return function(*args, **kwargs)


@contextlib.contextmanager
def stand_in_gpu():
    """Inside, the device that this gives can be used like a GPU, on any machine."""
    gpu = device()
    with Literals(), Factories():
        yield gpu
