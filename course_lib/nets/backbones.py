"""A published network that learned from the photographs of ImageNet: EfficientNet-lite0.

Only its layers are here; `features` reads the weights, which others trained.
"""
from torch import Tensor, nn
from torch.nn import functional as F


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
    layers = [Same(c_in, c_out, k, stride, groups=groups, bias=False), nn.BatchNorm2d(c_out, eps=1e-3)]
    return nn.Sequential(*layers, nn.ReLU6()) if act else nn.Sequential(*layers)


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
                first = [unit(here, wide)] if expand > 1 else []
                middle = unit(wide, wide, k, stride if i == 0 else 1, groups=wide)
                self.blocks.append(nn.Sequential(*first, middle, unit(wide, c, act=False)))
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
