"""Fidelity beside peers: how well each system's scores foretell retraining, on the same models and data."""
