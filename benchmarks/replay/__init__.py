"""Replay against trainings with the same seed and batches."""
