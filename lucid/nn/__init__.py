"""Neural-network layers: the modules and, in `functional`, what they call."""

from lucid.nn import functional
from lucid.nn.modules import AdaptiveAvgPool2d, Module

__all__ = ["AdaptiveAvgPool2d", "Module", "functional"]
