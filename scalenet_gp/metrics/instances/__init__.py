"""Metrics of instances: how well predicted objects agree with true ones."""
