"""Batches in order, from worker processes, cheap to ask for."""
