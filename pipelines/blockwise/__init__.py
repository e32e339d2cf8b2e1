"""Prediction block by block, by one process or by many on many machines."""
