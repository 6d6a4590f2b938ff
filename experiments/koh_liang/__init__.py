"""Koh & Liang (2017), Understanding Black-box Predictions via Influence Functions: one file per figure."""
