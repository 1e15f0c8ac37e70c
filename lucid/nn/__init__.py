"""Neural-network layers: the modules and, in `functional`, what they call."""

from lucid.nn import functional
from lucid.nn.modules import AdaptiveAvgPool2d, AdaptiveMaxPool2d, Module, Sequential

__all__ = ["AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "Module", "Sequential", "functional"]
