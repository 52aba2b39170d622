"""Built-in data with a known answer: planted users and items that titles reveal only partly.

The utility of a user-item pair, in logits, is the sum of three parts of known strength: what the
title says about the item against the user's taste for such words (text), an interaction of latent
vectors that no title shows (hidden), and the user's and item's own levels (counting). Ratings,
clicks and reviews are drawn from it, so the AUC of the planted truth, of the best reader of text
and of the best counting are known.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl

from ckf.config.schema import SyntheticConfig
from ckf.core.rng import generator_for
from ckf.data.readers.base import Source

_THEMES = (
    ("Frozen Icy Polar Snowy Arctic Wintry", "Glacier Tundra Sled Iceberg Fjord Summit"),
    ("Desert Sandy Dry Dusty Arid Sunny", "Dune Oasis Caravan Mirage Canyon Mesa"),
    ("Stormy Naval Salty Coastal Tidal Drifting", "Harbor Sailor Anchor Reef Lighthouse Voyage"),
    ("Royal Noble Crowned Velvet Regal Gilded", "Throne Palace Queen Duke Castle Jewel"),
    ("Cosmic Lunar Stellar Orbital Solar Astral", "Rocket Galaxy Comet Station Nebula Probe"),
    ("Haunted Ghostly Cursed Shadowy Grim Eerie", "Crypt Mansion Raven Coffin Specter Grave"),
    ("Merry Comic Jolly Silly Cheerful Funny", "Clown Circus Picnic Parade Prank Carnival"),
    ("Secret Hidden Coded Silent Covert Masked", "Agent Cipher Spy Dossier Heist Vault"),
)
_SYLLABLES = ["bra", "vel", "mo", "tar", "nok", "lis", "ven", "dor", "pa", "ri", "zu", "ke"]
_OPINIONS = {
    1: ("awful", "a waste of time", "unbearable"),
    2: ("dull", "weak", "disappointing"),
    3: ("fair", "decent", "so so"),
    4: ("good", "lovely", "well made"),
    5: ("superb", "a masterpiece", "unforgettable"),
}
_SLIP = 0.1  # chance that a title word comes from a theme that is not the item's
_DAYS = 365


def make_synthetic(cfg: SyntheticConfig) -> Source:
    """Draw users, items and interactions of the given sizes; a pure function of the config."""
    draw = generator_for(cfg.data_seed, "synthetic")
    titles, themes = _titles(cfg, draw)
    text, hidden, levels = _utilities(cfg, themes, draw)
    utility = text + hidden + levels
    interactions = _interactions(cfg, utility, titles, draw)
    pairs = (interactions["user"].to_numpy() - 1, interactions["item"].to_numpy() - 1)
    names = {kind: pl.Series([f"{kind[0]}{i}" for i in interactions[kind]]) for kind in ("user", "item")}
    known = {"truth": utility[pairs], "text": text[pairs], "counting": _additive(utility)[pairs]}
    return Source(
        interactions=pl.DataFrame(
            {
                **names,
                "rating": interactions["rating"].to_numpy().astype(np.float64),
                "timestamp": interactions["timestamp"].to_numpy(),
                "review": interactions["review"].tolist(),
            }
        ).lazy(),
        items=pl.LazyFrame({"item": [f"i{i}" for i in range(1, cfg.items + 1)], "title": titles}),
        known=pl.DataFrame({**names, **known}),
        card={"source": "synthetic", "licence": "none: made by ckf"},
    )


def _titles(cfg: SyntheticConfig, draw: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Unique titles (adjective, noun, coined name) and what they say: theme weights [items, topics]."""
    words = [tuple(part.split() for part in theme) for theme in _THEMES[: cfg.topics]]
    words += [_coined_theme(number) for number in range(len(words), cfg.topics)]
    titles: list[str] = []
    themes = np.zeros((cfg.items, cfg.topics))
    taken: set[str] = set()
    for item in range(cfg.items):
        own = int(draw.integers(cfg.topics))
        said = [int(draw.integers(cfg.topics)) if draw.random() < _SLIP else own for _ in range(2)]
        title = ""
        while not title or title in taken:
            name = "".join(draw.choice(_SYLLABLES, 2 + len(taken) // 5000)).title()
            title = f"{draw.choice(words[said[0]][0])} {draw.choice(words[said[1]][1])} {name}"
        taken.add(title)
        titles.append(title)
        themes[item, said[0]] += 0.5
        themes[item, said[1]] += 0.5
    return titles, themes


def _coined_theme(number: int) -> tuple[list[str], list[str]]:
    """Adjectives and nouns for topics beyond the written ones."""
    stem = "".join(_SYLLABLES[(number // 12**place) % 12] for place in range(2))
    return [f"{stem}{end}y".title() for end in _SYLLABLES[:6]], [f"{stem}{end}or".title() for end in _SYLLABLES[:6]]


def _utilities(
    cfg: SyntheticConfig, themes: np.ndarray, draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three parts of the utility, each [users, items] in logits."""
    taste = draw.normal(size=(cfg.users, cfg.topics))
    users = draw.normal(size=(cfg.users, cfg.hidden_dims))
    items = draw.normal(size=(cfg.items, cfg.hidden_dims))
    levels = draw.normal(size=cfg.users)[:, None] + draw.normal(size=cfg.items)[None, :]
    return (
        cfg.text_strength * _unit(taste @ themes.T),
        cfg.hidden_strength * _unit(users @ items.T),
        cfg.bias_strength * levels,
    )


def _additive(utility: np.ndarray) -> np.ndarray:
    """The part of the utility that a user's level plus an item's level can carry: all that counting may know."""
    return utility.mean(axis=1, keepdims=True) + utility.mean(axis=0, keepdims=True)


def _unit(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _interactions(
    cfg: SyntheticConfig, utility: np.ndarray, titles: list[str], draw: np.random.Generator
) -> pd.DataFrame:
    late_users = set(draw.permutation(cfg.users)[: round(cfg.late_fraction * cfg.users)].tolist())
    late_items = np.zeros(cfg.items, dtype=bool)
    late_items[draw.permutation(cfg.items)[: round(cfg.late_fraction * cfg.items)]] = True
    popularity = draw.normal(scale=0.5, size=cfg.items)
    end, day = 1_700_000_000, 86_400
    start = end - _DAYS * day
    parts = []
    for user in range(cfg.users):
        # who sees what: mildly the popular, mildly what fits (Gumbel noise makes it a draw without replacement)
        appeal = popularity + 0.3 * utility[user] + draw.gumbel(size=cfg.items)
        chosen = np.argsort(-appeal)[: cfg.interactions_per_user]
        first = np.full(len(chosen), end - 0.1 * _DAYS * day if user in late_users else start)
        first = np.where(late_items[chosen], np.maximum(first, end - 0.15 * _DAYS * day), first)
        when = (first + draw.random(len(chosen)) * (end - first)).astype(np.int64)
        felt = utility[user, chosen] + draw.logistic(size=len(chosen))
        parts.append(pd.DataFrame({"user": user + 1, "item": chosen + 1, "timestamp": when, "felt": felt}))
    table = pd.concat(parts, ignore_index=True)
    cuts = np.quantile(table["felt"], [0.12, 0.3, 0.5, 0.78])
    table["rating"] = (1 + np.searchsorted(cuts, table.pop("felt").to_numpy())).astype(np.float32)
    table["review"] = _reviews(table, titles, draw)
    return table


def _reviews(table: pd.DataFrame, titles: list[str], draw: np.random.Generator) -> list[str]:
    """One sentence or two: an opinion that is the rating give or take one, and a word of the title."""
    slips = draw.choice([-1, 0, 1], p=[0.2, 0.6, 0.2], size=len(table))
    tone = np.clip(table["rating"].to_numpy().astype(int) + slips, 1, 5)
    picks = draw.integers(0, 3, size=(len(table), 2))
    reviews = []
    for item, level, (first, second) in zip(table["item"], tone, picks, strict=True):
        noun = titles[item - 1].split()[1].lower()
        reviews.append(f"The {noun} was {_OPINIONS[level][first]}. {_OPINIONS[level][second].capitalize()}.")
    return reviews
