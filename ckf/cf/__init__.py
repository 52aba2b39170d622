"""Collaborative filtering: the models whose knowledge is fused, and the bias baseline they are compared with."""
