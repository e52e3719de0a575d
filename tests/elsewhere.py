"""A stand-in for a GPU: inside `with Elsewhere():` there is a second device, "cuda", with CUDA's rules.

Its tensors compute on the CPU, but may not meet the CPU's own, apart from single numbers and indices; a
generator draws only on its own device. What breaks these rules raises RuntimeError, as it does with CUDA.
gpu_stand_in.py imitates more, gradients too, but needs a process of its own; this leaves nothing behind.
"""
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten


class There(Tensor):
    """A tensor on the other device."""


def here(x: Tensor) -> Tensor:
    """The same numbers as an ordinary tensor."""
    with torch._C.DisableTorchFunctionSubclass():
        return x.as_subclass(Tensor)


def there(x: Tensor) -> There:
    """The same numbers on the other device."""
    with torch._C.DisableTorchFunctionSubclass():
        return x.as_subclass(There)


class Elsewhere(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func == Tensor.is_cuda.__get__:
            return isinstance(args[0], There)
        if func == Tensor.device.__get__ and isinstance(args[0], There):
            return torch.device("cuda", 0)
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return _moved(func, *args, **kwargs)
        if func is Tensor.numpy and isinstance(args[0], There):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        values, _ = tree_flatten((args, kwargs))
        tensors = [v for v in values if isinstance(v, Tensor)]
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], There):
            tensors = tensors[:1]  # an index may lie on the CPU
        away = any(isinstance(v, There) for v in tensors)
        if away and any(v.ndim for v in tensors if not isinstance(v, There)):
            raise RuntimeError("Expected all tensors to be on the same device, but found at least two "
                               f"devices, cuda:0 and cpu! ({func})")
        device = kwargs.pop("device", None)
        away = torch.device(device).type == "cuda" if device is not None else away
        for g in values:
            if isinstance(g, torch.Generator) and away:  # all generators live on the CPU here
                raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        out = func(*args, **kwargs)
        return there(out) if away and isinstance(out, Tensor) else out


def _moved(func, x, *args, **kwargs):
    away = {Tensor.cpu: False, Tensor.cuda: True}.get(func, isinstance(x, There))
    dtype = x.dtype
    for v in (*args, *kwargs.values()):
        if isinstance(v, Tensor):
            away, dtype = isinstance(v, There), v.dtype
        elif isinstance(v, torch.dtype):
            dtype = v
        elif isinstance(v, str | torch.device):
            away = torch.device(v).type == "cuda"
    moved = here(x).to(dtype)
    return there(moved) if away else moved
