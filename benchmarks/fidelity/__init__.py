"""Beside peers, on the same models and data: how well scores foretell retraining, and how fast equal answers are found.

`run` measures: each system's script (`ours`, ``peers/``) in its own environment (`environments`) and process (`bench`),
for tasks that are held against retraining (`retraining`) and convex ones, which are solved (`speed`). What was found is
one file (`record`), of which `report` makes one page.
"""
