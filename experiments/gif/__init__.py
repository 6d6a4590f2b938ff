"""Experiments of Lyu et al. 2023, generalised influence functions."""
