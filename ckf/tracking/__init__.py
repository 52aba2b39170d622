"""Loggers: metrics.jsonl, Weights & Biases, CF training."""
