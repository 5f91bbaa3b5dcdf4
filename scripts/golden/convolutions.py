"""Encoders of images in PyTorch, for `ppo.py` and `off_policy.py`.

`image` is the encoder as `PolicySpec` writes it: planes, and stages from the observation on.
"""

import torch
from torch import nn
from torch.nn import functional


def planes_of(image):
    return [image["planes"][name] for name in ["channels", "rows", "columns"]]


class Convolutions(nn.Module):
    """`draw(*shape)` gives the weights and biases, in order."""

    def __init__(self, image, draw):
        super().__init__()
        self.image = image
        self.layers = nn.ParameterList()
        channels = image["planes"]["channels"]
        for stage in image["stages"]:
            (kind, options), = stage.items()
            outputs = options["channels"]
            kernel = options["kernel"] if kind == "convolution" else 3
            inputs = [channels] + [outputs] * (4 if kind == "residual" else 0)
            for count in inputs:
                self.layers.append(nn.Parameter(draw(outputs, count, kernel, kernel)))
                self.layers.append(nn.Parameter(draw(outputs)))
            channels = outputs
        with torch.no_grad():
            probe = torch.zeros(1, *planes_of(image), dtype=self.layers[0].dtype)
            self.features = self(probe.flatten(1)).shape[1]

    def forward(self, x):
        tensors = iter(self.layers)

        def convolution(x, **options):
            weight = next(tensors)
            return functional.conv2d(x, weight, next(tensors), **options)

        x = x.reshape(-1, *planes_of(self.image))
        for stage in self.image["stages"]:
            (kind, options), = stage.items()
            if kind == "convolution":
                x = torch.relu(convolution(x, stride=options["stride"]))
                continue
            x = functional.max_pool2d(convolution(x, padding=1), 3, stride=2, padding=1)
            for _ in range(2):
                inner = convolution(torch.relu(x), padding=1)
                x = x + convolution(torch.relu(inner), padding=1)
        return torch.relu(x).flatten(1)
