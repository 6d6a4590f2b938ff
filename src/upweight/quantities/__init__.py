"""The quantities: what would change if training examples were upweighted, removed, relabelled or perturbed.

Each is a function of an objective, a fitted inverse and queries; `upweight.Influence` holds the three together.
"""
