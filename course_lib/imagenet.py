"""Two published networks that learned from the photographs of ImageNet: EfficientNet-lite0 and Inception-v3.

Only their layers are here; `features` reads the weights, which others trained.
"""
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import data


class Same(nn.Conv2d):
    """A convolution that pads as TensorFlow does: more on the right and below, so that a stride halves."""

    def forward(self, x: Tensor) -> Tensor:
        pad = []
        for edge, k, s in ((x.shape[-1], self.kernel_size[1], self.stride[1]),
                           (x.shape[-2], self.kernel_size[0], self.stride[0])):
            total = max((-(-edge // s) - 1) * s + k - edge, 0)
            pad += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pad))


def unit(c_in: int, c_out: int, k: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Module:
    """Convolution, batch norm and, if act, ReLU6."""
    return nn.Sequential(Same(c_in, c_out, k, stride, groups=groups, bias=False),
                         nn.BatchNorm2d(c_out, eps=1e-3), *[nn.ReLU6()] * act)


class EfficientNetLite0(nn.Module):
    """Tan & Le 2019, in the "lite" form without attention: pictures in [-1, 1] -> (B, 1280)."""
    stages = ((1, 16, 3, 1, 1), (6, 24, 3, 2, 2), (6, 40, 5, 2, 2), (6, 80, 3, 2, 3), (6, 112, 5, 1, 3),
              (6, 192, 5, 2, 4), (6, 320, 3, 1, 1))  # expansion, channels, kernel, stride, repeats

    def __init__(self):
        super().__init__()
        self.stem, self.blocks, here = unit(3, 32, 3, 2), nn.ModuleList(), 32
        for expand, c, k, stride, repeats in self.stages:
            for i in range(repeats):
                wide = expand * here
                self.blocks.append(nn.Sequential(
                    *[unit(here, wide)] * (expand > 1),
                    unit(wide, wide, k, stride if i == 0 else 1, groups=wide), unit(wide, c, act=False)))
                here = c
        self.head = unit(320, 1280)

    def forward(self, x: Tensor) -> Tensor:
        mean, std = (x.new_tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        x = self.stem(((x + 1) / 2 - mean) / std)
        for block in self.blocks:
            y = block(x)
            x = x + y if x.shape == y.shape else y  # a block that keeps the shape has a shortcut
        return self.head(x).mean((2, 3))

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take over weights under other names: both lists are in the order of the layers."""
        theirs = [v for k, v in weights.items() if not k.startswith("_fc")]
        mine = self.state_dict()
        if [v.shape for v in mine.values()] != [v.shape for v in theirs]:
            raise ValueError(f"these are not the weights of EfficientNet-lite0: {len(theirs)} tensors, "
                             f"expected {len(mine)}, or their shapes differ")
        self.load_state_dict(dict(zip(mine, theirs, strict=True)))


# A block is chains of layers side by side, one a line. A layer is "name channels kernel", with /stride where
# nothing is padded; a word alone is a pool over 3 x 3; + forks the end of a chain; {} differs among blocks.
BLOCKS = {
    "stem": "Conv2d_1a_3x3 32 3x3/2 > Conv2d_2a_3x3 32 3x3/1 > Conv2d_2b_3x3 64 3x3 > halve > "
            "Conv2d_3b_1x1 80 1x1 > Conv2d_4a_3x3 192 3x3/1 > halve",
    "A": """branch1x1 64 1x1
            branch5x5_1 48 1x1 > branch5x5_2 64 5x5
            branch3x3dbl_1 64 1x1 > branch3x3dbl_2 96 3x3 > branch3x3dbl_3 96 3x3
            mean > branch_pool {0} 1x1""",
    "B": """branch3x3 384 3x3/2
            branch3x3dbl_1 64 1x1 > branch3x3dbl_2 96 3x3 > branch3x3dbl_3 96 3x3/2
            halve""",
    "C": """branch1x1 192 1x1
            branch7x7_1 {0} 1x1 > branch7x7_2 {0} 1x7 > branch7x7_3 192 7x1
            branch7x7dbl_1 {0} 1x1 > branch7x7dbl_2 {0} 7x1 > branch7x7dbl_3 {0} 1x7 \
                                   > branch7x7dbl_4 {0} 7x1 > branch7x7dbl_5 192 1x7
            mean > branch_pool 192 1x1""",
    "D": """branch3x3_1 192 1x1 > branch3x3_2 320 3x3/2
            branch7x7x3_1 192 1x1 > branch7x7x3_2 192 1x7 > branch7x7x3_3 192 7x1 > branch7x7x3_4 192 3x3/2
            halve""",
    "E": """branch1x1 320 1x1
            branch3x3_1 384 1x1 > branch3x3_2a 384 1x3 + branch3x3_2b 384 3x1
            branch3x3dbl_1 448 1x1 > branch3x3dbl_2 384 3x3 \
                                   > branch3x3dbl_3a 384 1x3 + branch3x3dbl_3b 384 3x1
            {0} > branch_pool 192 1x1"""}


class Chains(nn.Module):
    """A block of BLOCKS, (B, c_in, H, W) -> (B, width, H', W'). A layer is convolution, batch norm, ReLU."""

    def __init__(self, c_in: int, block: str):
        super().__init__()
        self.chains, self.width = [], 0
        for line in block.splitlines():
            chain, here = [[layer.split() for layer in step.split("+")] for step in line.split(">")], c_in
            for fork in chain:
                for name, *shape in fork:
                    self.add_module(name, self.layer(here, *shape) if shape else self.pool(name))
                here = sum(int(layer[1]) for layer in fork if layer[1:]) or here
            self.chains.append([[name for name, *_ in fork] for fork in chain])
            self.width += here

    def layer(self, c_in: int, c_out: str, shape: str) -> nn.Module:
        """One convolution and what follows it, under the names that the published weights have."""
        kernel, _, stride = shape.partition("/")
        conv = nn.Conv2d(c_in, int(c_out), [int(k) for k in kernel.split("x")], int(stride or 1),
                         padding="valid" if stride else "same", bias=False)
        return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(int(c_out), eps=1e-3), act=nn.ReLU()))

    def pool(self, name: str) -> nn.Module:
        """TensorFlow's mean does not count the padding."""
        return {"halve": nn.MaxPool2d(3, 2), "max": nn.MaxPool2d(3, 1, padding=1),
                "mean": nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)}[name]

    def forward(self, x: Tensor) -> Tensor:
        ends = []
        for chain in self.chains:
            y = x
            for fork in chain:
                y = torch.cat([self.get_submodule(name)(y) for name in fork], 1)
            ends.append(y)
        return torch.cat(ends, 1)


class Inception(nn.Sequential):
    """Szegedy et al. 2016, as in FID (Heusel et al. 2017): pictures (B, 3, H, W) in [-1, 1] -> (B, 2048).

    It rounds them to 256 levels, as a file does, and resizes as TensorFlow 1 did: both are part of the
    measure (torchmetrics resizes otherwise, unless it is given antialias=False). So is the "max" of the last
    block, where the paper has a "mean".
    """

    def __init__(self):
        super().__init__()
        here = 3
        for plan in ("stem stem", "Mixed_5b A 32", "Mixed_5c A 64", "Mixed_5d A 64", "Mixed_6a B",
                     "Mixed_6b C 128", "Mixed_6c C 160", "Mixed_6d C 160", "Mixed_6e C 192", "Mixed_7a D",
                     "Mixed_7b E mean", "Mixed_7c E max"):
            name, kind, *free = plan.split()
            block = Chains(here, BLOCKS[kind].format(*free))
            self.add_module(name, block)
            here = block.width

    def forward(self, x: Tensor) -> Tensor:
        x = (tensorflow1(data.to_uint8(x).float()) - 128) / 128
        return super().forward(x).mean((2, 3))

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take over the published weights, but for the last layer, which names 1,008 classes."""
        try:
            self.load_state_dict({k if k.startswith("Mixed") else f"stem.{k}": v
                                  for k, v in weights.items() if not k.startswith("fc.")})
        except RuntimeError as error:
            raise ValueError(f"these are not the weights of Inception-v3: {str(error)[:300]}...") from None


def tensorflow1(x: Tensor, size: int = 299) -> Tensor:
    """Resize (B, C, H, W) as TensorFlow 1 did: linear, neither anti-aliased nor centred. Row i of the result
    lies at i H / size."""
    for dim in (3, 2):
        edge = x.shape[dim]
        at = torch.arange(size, device=x.device) * (edge / size)
        low = at.long()
        share = (at - low).reshape(-1, *[1] * (3 - dim))
        x = torch.lerp(x.index_select(dim, low), x.index_select(dim, (low + 1).clamp(max=edge - 1)), share)
    return x
