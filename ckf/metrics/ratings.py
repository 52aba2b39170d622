"""Errors of predicted ratings."""

from __future__ import annotations

import numpy as np


def rmse(labels: np.ndarray, scores: np.ndarray) -> float:
    """Root mean squared error, in stars."""
    return float(np.sqrt(np.mean((np.asarray(labels) - np.asarray(scores)) ** 2)))


def mae(labels: np.ndarray, scores: np.ndarray) -> float:
    """Mean absolute error, in stars."""
    return float(np.mean(np.abs(np.asarray(labels) - np.asarray(scores))))


def right_answers(labels: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Whether each answer is its label as text (``4``, ``3.5``). labels [n], answers [n] -> bool [n]"""
    return np.asarray(answers, dtype=str) == np.asarray([f"{label:g}" for label in np.asarray(labels, dtype=float)])
