"""Collaborative-filtering models: one dataclass for each option of the group ``cf``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import MISSING

from ckf.config.schema.validators import at_least, fraction, one_of
from ckf.core.errors import Problem

COLD = ("zero", "mean", "content")


@dataclass
class CFConfig:
    """A collaborative-filtering model.

    ``out_of_fold`` (0, or 2 and more): training examples are fused with the vectors of CF models that were fitted
    without their fold of the training rows, all others with those of the model that was fitted on all.
    """

    name: str = MISSING
    out_of_fold: int = 0

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        if self.out_of_fold < 0 or self.out_of_fold == 1:
            yield Problem("out_of_fold", f"must be 0 (none) or at least 2, got {self.out_of_fold}")

    @property
    def has_vectors(self) -> bool:
        """Whether the model has user and item vectors that a fusion can read."""
        return False

    @property
    def predicts(self) -> bool:
        """Whether the model scores examples by itself."""
        return True

    @property
    def reads_history(self) -> int:
        """How many of the user's earlier likes the model reads, 0 for none."""
        return 0


@dataclass
class BiasConfig(CFConfig):
    """Item mean + user mean, each shrunk towards the global mean with ``shrinkage`` (the bias baseline)."""

    shrinkage: float = 5.0

    def problems(self) -> Iterator[Problem]:
        """Shrinkage cannot be negative."""
        yield from super().problems()
        yield from at_least("shrinkage", self.shrinkage, 0)


@dataclass
class PopularityConfig(CFConfig):
    """The item's training positives, the same order for everyone; clicks by its shrunk mean."""

    shrinkage: float = 5.0

    def problems(self) -> Iterator[Problem]:
        """Shrinkage cannot be negative."""
        yield from super().problems()
        yield from at_least("shrinkage", self.shrinkage, 0)


@dataclass
class ItemKNNConfig(CFConfig):
    """Item neighbourhoods (Sarwar et al. 2001) on likes: the history's shrunk cosine with the candidate."""

    history_items: int = 10
    neighbours: int = 100
    shrinkage: float = 10.0
    folds: int = 5

    @property
    def reads_history(self) -> int:
        """As configured."""
        return self.history_items

    def problems(self) -> Iterator[Problem]:
        """Ranges of the numbers."""
        yield from super().problems()
        for name in ("history_items", "neighbours"):
            yield from at_least(name, getattr(self, name), 1)
        yield from at_least("shrinkage", self.shrinkage, 0)
        yield from at_least("folds", self.folds, 2)


@dataclass
class FeaturesConfig(CFConfig):
    """The strong baseline: a classifier on out-of-fold counts, co-occurrence with the history, title words, year.

    ``model``: ``logistic`` (inverse strength ``regularisation``), ``trees`` (histogram gradient boosting) or
    ``both`` (the mean of their logits).
    """

    model: str = "logistic"
    history_items: int = 10
    shrinkage: float = 5.0
    folds: int = 10
    regularisation: float = 0.01
    learning_rate: float = 0.05
    leaves: int = 8
    iterations: int = 300
    patience_iterations: int = 30

    @property
    def reads_history(self) -> int:
        """As configured."""
        return self.history_items

    def problems(self) -> Iterator[Problem]:
        """Ranges of the numbers."""
        yield from super().problems()
        yield from one_of("model", self.model, ("logistic", "trees", "both"))
        yield from at_least("shrinkage", self.shrinkage, 0)
        yield from at_least("folds", self.folds, 2)
        yield from at_least("leaves", self.leaves, 2)
        for name in ("history_items", "iterations", "patience_iterations"):
            yield from at_least(name, getattr(self, name), 1)
        yield from positive(self, "regularisation", "learning_rate")


@dataclass
class EmbeddingConfig(CFConfig):
    """What the models with vectors share.

    ``bias_terms``: scores start at counted levels of user and item (counted on ``folds`` of the training rows, so
    that no row meets its own label) and learn the rest; candidates are ranked by popularity and score together.
    Off, as published: the score is the vectors' alone, without counts or biases, and it ranks by itself.
    ``embedding_l2`` weighs the squares of the vectors that a row touches. ``title_features``: items also have a
    vector made of their title's words and year. ``cold``: the vector of an id that train never met and the model
    says nothing of: ``zero``, ``mean`` (of the trained rows), ``content`` (ridge regression on title words, users
    get the mean) or ``learned`` (the one that predicts the training rows best when their id is hidden), the last two
    with the strength ``cold_l2``.
    ``loss``: ``bce`` or ``bpr`` (Rendle et al. 2009). ``negatives`` of the losses over pairs: ``disliked`` (another
    row of the user, not liked; drawn where there is none) or ``sampled`` (any item the user has not liked).
    """

    dim: int = 16
    learning_rate: float = 0.01
    embedding_l2: float = 0.1
    epochs: int = 60
    patience_epochs: int = 6
    batch_size: int = 1024
    shrinkage: float = 5.0
    folds: int = 10
    title_features: bool = True
    cold: str = "zero"
    cold_l2: float = 10.0
    loss: str = "bce"
    bias_terms: bool = True
    negatives: str = "disliked"

    @property
    def has_vectors(self) -> bool:
        """They all do."""
        return True

    def problems(self) -> Iterator[Problem]:
        """Ranges of the numbers."""
        yield from super().problems()
        for name in ("dim", "epochs", "patience_epochs", "batch_size"):
            yield from at_least(name, getattr(self, name), 1)
        yield from positive(self, "learning_rate")
        yield from at_least("embedding_l2", self.embedding_l2, 0)
        yield from at_least("shrinkage", self.shrinkage, 0)
        yield from at_least("folds", self.folds, 2)
        yield from one_of("cold", self.cold, (*COLD, "learned"))
        yield from at_least("cold_l2", self.cold_l2, 0)
        yield from one_of("loss", self.loss, self.losses)
        yield from one_of("negatives", self.negatives, ("disliked", "sampled"))

    @property
    def losses(self) -> tuple[str, ...]:
        """What can be minimised."""
        return ("bce", "bpr")


@dataclass
class MFConfig(EmbeddingConfig):
    """Matrix factorisation (Koren, Bell and Volinsky 2009); ``loss`` may also be ``mse``."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Squared error too, of ratings, or of clicks where there are none."""
        return (*super().losses, "mse")


@dataclass
class LightGCNConfig(EmbeddingConfig):
    """LightGCN (He et al. 2020): ``layers`` of propagation over the likes of train, averaged.

    ``hold_out_edges``: a training batch is scored on the graph without its own fold of likes; off, as published: on
    the whole graph.
    """

    layers: int = 2
    hold_out_edges: bool = True

    def problems(self) -> Iterator[Problem]:
        """Ranges."""
        yield from super().problems()
        yield from at_least("layers", self.layers, 0)


@dataclass
class SequenceConfig(EmbeddingConfig):
    """What the models of the user's history share."""

    history_items: int = 10
    dropout: float = 0.2
    weight_decay: float = 0.0

    @property
    def reads_history(self) -> int:
        """As configured."""
        return self.history_items

    def problems(self) -> Iterator[Problem]:
        """Ranges."""
        yield from super().problems()
        yield from at_least("history_items", self.history_items, 1)
        yield from fraction("dropout", self.dropout, open_top=True)
        yield from at_least("weight_decay", self.weight_decay, 0)


@dataclass
class SASRecConfig(SequenceConfig):
    """SASRec (Kang and McAuley 2018): causal self-attention over the history.

    ``item_init``: item vectors begin at small ``random`` numbers, or at what ``likes`` say of who is near whom.
    ``loss`` may also be ``sampled_bce``, the published one: cross-entropy of a liked item against one negative.
    """

    blocks: int = 1
    heads: int = 1
    item_init: str = "random"

    @property
    def losses(self) -> tuple[str, ...]:
        """The published one too."""
        return (*super().losses, "sampled_bce")

    def problems(self) -> Iterator[Problem]:
        """Ranges, and heads that divide the width."""
        yield from super().problems()
        yield from at_least("blocks", self.blocks, 1)
        yield from at_least("heads", self.heads, 1)
        yield from one_of("item_init", self.item_init, ("random", "likes"))
        if self.heads >= 1 and self.dim % self.heads:
            yield Problem("heads", f"must divide dim ({self.dim}), got {self.heads}")


@dataclass
class DINConfig(SequenceConfig):
    """DIN (Zhou et al. 2018): the history weighed by an attention that sees the candidate.

    ``attention_hidden`` and ``hidden`` are widths; ``second_hidden``: that of the network's second layer, 0 for none.
    ``normalize_attention``: the weights of a history are a softmax; off, as published: they are not normalised.
    ``dot_product``: the product of user side and candidate is added to the network's score; off, as published: not.
    """

    attention_hidden: int = 16
    hidden: int = 16
    second_hidden: int = 0
    normalize_attention: bool = True
    dot_product: bool = True

    def problems(self) -> Iterator[Problem]:
        """Ranges."""
        yield from super().problems()
        yield from at_least("attention_hidden", self.attention_hidden, 1)
        yield from at_least("hidden", self.hidden, 1)
        yield from at_least("second_hidden", self.second_hidden, 0)


def positive(node: object, *names: str) -> Iterator[Problem]:
    """Yield a problem line for each field that is not above 0."""
    for name in names:
        if getattr(node, name) <= 0:
            yield Problem(name, f"must be above 0, got {getattr(node, name):g}")
