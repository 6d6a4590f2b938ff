"""Scores that go by the optimiser's steps: is curvature in Adam's metric nearer to retraining?"""
