"""Collaborative filtering: the models whose knowledge is fused, and the floor they are held against."""
