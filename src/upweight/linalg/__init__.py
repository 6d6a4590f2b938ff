"""Iterations on matrices that are known by their products, and decompositions of small ones.

Nothing here knows what the matrix is: an algorithm takes ``apply``, which multiplies k vectors given as rows ``[k, p]``
with the matrix, tensors, tolerances and limits, and gives back tensors with the figures that say how far it came. What
a figure means to a user, and what helps, is said by those who call. Nothing of the rest of the package is imported.

Long loops take ``watch``, through which the caller sees each step (`upweight.linalg.rows.Watch`).
"""
