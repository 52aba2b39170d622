"""Scoring without generation, and metrics from per-example predictions."""
