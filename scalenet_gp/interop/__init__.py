"""Weights and networks of other packages."""

from scalenet_gp.interop.funlib import load_funlib_unet
from scalenet_gp.interop.leibnetz import leibnetz_arguments, load_leibnetz_weights

__all__ = ["leibnetz_arguments", "load_funlib_unet", "load_leibnetz_weights"]
