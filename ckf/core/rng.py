"""Named randomness: every draw depends on the seed, its purpose and an id, never on the order of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

_GOLDEN, _MIX1, _MIX2 = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def generator_for(seed: int, purpose: str) -> np.random.Generator:
    """Make a separate generator for one purpose."""
    return np.random.default_rng(_word(f"{seed}/{purpose}"))


def hash_ids(names: Sequence[str]) -> np.ndarray:
    """A 64-bit key for each name, the same on every machine. uint64 [n]"""
    return np.fromiter((_word(name) for name in names), dtype=np.uint64, count=len(names))


def hashed_uniform(seed: int, purpose: str, keys: np.ndarray, draws: int) -> np.ndarray:
    """Uniform numbers in [0, 1), ``draws`` for each key, by a counter-based hash. float64 [n, draws]"""
    counter = np.arange(1, draws + 1, dtype=np.uint64) * _GOLDEN
    state = _mix(keys.astype(np.uint64) ^ np.uint64(_word(f"{seed}/{purpose}")))[:, None] + counter
    return (_mix(state) >> np.uint64(11)) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014); overflow is intended."""
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
