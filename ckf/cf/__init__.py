"""Collaborative filtering: the models whose vectors are fused, and the baselines they are compared with."""
