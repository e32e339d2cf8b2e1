"""Weights and networks of other packages."""

from scalenet_gp.interop.leibnetz import load_leibnetz_weights

__all__ = ["load_leibnetz_weights"]
