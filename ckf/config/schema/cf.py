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
    """A collaborative-filtering model."""

    name: str = MISSING
    """The option's name. It is part of a run's name."""
    out_of_fold: int = 0
    """Number of folds of the training rows, or 0. Training examples are then fused with vectors of CF models that did
    not see their fold, as unseen examples are."""

    def problems(self) -> Iterator[Problem]:
        """Check ranges."""
        if self.out_of_fold < 0 or self.out_of_fold == 1:
            yield Problem("out_of_fold", f"must be 0 (none) or at least 2, got {self.out_of_fold}")

    @property
    def has_vectors(self) -> bool:
        """Whether the model has user and item vectors that a fusion can read."""
        return False

    @property
    def outputs(self) -> frozenset[str]:
        """What the model predicts by itself: ``click``, ``rank``, ``rating`` (`ckf.tasks.base.Task.cf_output`)."""
        return frozenset({"click", "rank", "rating"})

    @property
    def reads_history(self) -> int:
        """How many of the user's earlier likes the model reads, 0 for none."""
        return 0


@dataclass
class BiasConfig(CFConfig):
    """The bias baseline: item mean plus user mean."""

    shrinkage: float = 5.0
    """Pseudo-counts that pull each mean towards the global mean."""

    def problems(self) -> Iterator[Problem]:
        """Shrinkage cannot be negative."""
        yield from super().problems()
        yield from at_least("shrinkage", self.shrinkage, 0)


@dataclass
class PopularityConfig(CFConfig):
    """The item's training positives, the same order for everyone; clicks by its shrunk mean."""

    shrinkage: float = 5.0
    """Pseudo-counts that pull an item's mean towards the global mean, for click probabilities."""

    def problems(self) -> Iterator[Problem]:
        """Shrinkage cannot be negative."""
        yield from super().problems()
        yield from at_least("shrinkage", self.shrinkage, 0)


@dataclass
class ItemKNNConfig(CFConfig):
    """Item neighbourhoods (Sarwar et al. 2001) on likes: the history's shrunk cosine with the candidate."""

    history_items: int = 10
    """The latest items of the user's history that are compared with the candidate."""
    neighbours: int = 100
    """Nearest items kept for each item."""
    shrinkage: float = 10.0
    """Cosines are scaled by n / (n + shrinkage), with n the likers in common, so that rare items do not look near by
    chance."""
    folds: int = 5
    """Folds of the training rows. Features of a row are counted without its own fold."""

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
    """The strong baseline: a classifier on out-of-fold counts, co-occurrence with the history, title words and year."""

    model: str = "logistic"
    """``logistic``, ``trees`` (histogram gradient boosting) or ``both`` (the mean of their logits)."""
    history_items: int = 10
    """The latest items of the user's history that co-occurrence features read."""
    shrinkage: float = 5.0
    """Pseudo-counts that pull counted means towards the global mean."""
    folds: int = 10
    """Folds of the training rows. Features of a row are counted without its own fold."""
    regularisation: float = 0.01
    """Inverse strength of the logistic regression's penalty. Smaller is stronger."""
    learning_rate: float = 0.05
    """Learning rate of the trees."""
    leaves: int = 8
    """Most leaves of a tree."""
    iterations: int = 300
    """Most trees."""
    patience_iterations: int = 30
    """Trees without a better val AUC before training stops."""

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
    """What the models with vectors share."""

    dim: int = 16
    """Width of the user and item vectors."""
    learning_rate: float = 0.01
    """Adam's learning rate."""
    embedding_l2: float = 0.1
    """Weight of the squared length of the vectors that a row touches, in the loss."""
    epochs: int = 60
    """Most passes over the training rows."""
    patience_epochs: int = 6
    """Epochs without a better val AUC before training stops. The best epoch is kept."""
    batch_size: int = 1024
    """Training rows of a batch."""
    shrinkage: float = 5.0
    """Pseudo-counts of the counted user and item levels."""
    folds: int = 10
    """Folds of the training rows for counting. No row meets its own label."""
    title_features: bool = True
    """Whether items also have a vector made of their title's words and year."""
    cold: str = "zero"
    """Vector of an id that training never met: ``zero``, ``mean`` (of the trained rows), ``content`` (ridge regression
    on title words; users get the mean) or ``learned`` (the vector that predicts training rows best when their id is
    hidden)."""
    cold_l2: float = 10.0
    """Strength of the regularisation for ``cold=content`` and ``cold=learned``."""
    loss: str = "bce"
    """``bce`` or ``bpr`` (Rendle et al. 2009). MF may have ``mse`` too, SASRec the published ``sampled_bce``."""
    bias_terms: bool = True
    """Whether scores start at counted levels of user and item, and candidates are ranked by popularity and score
    together. Off as published: the vectors' score alone."""
    negatives: str = "disliked"
    """Negatives of losses over pairs: ``disliked`` (another row of the user that was not liked, drawn where there is
    none), ``sampled`` (any item the user has not liked) or ``popularity`` (the same, by number of training rows).
    For implicit feedback also how the negatives of all losses are drawn: uniformly, or by ``popularity``."""

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
        yield from one_of("negatives", self.negatives, ("disliked", "sampled", "popularity"))

    @property
    def losses(self) -> tuple[str, ...]:
        """What can be minimised."""
        return ("bce", "bpr")


@dataclass
class MFConfig(EmbeddingConfig):
    """Matrix factorisation (Koren, Bell and Volinsky 2009)."""

    @property
    def losses(self) -> tuple[str, ...]:
        """Squared error too, of ratings, or of clicks where there are none."""
        return (*super().losses, "mse")


@dataclass
class LightGCNConfig(EmbeddingConfig):
    """LightGCN (He et al. 2020): propagation over the likes of train, averaged over layers."""

    layers: int = 2
    """Rounds of propagation. 0 is matrix factorisation."""
    hold_out_edges: bool = True
    """Whether a training batch is scored on the graph without its own fold of likes. Off as published."""

    def problems(self) -> Iterator[Problem]:
        """Ranges."""
        yield from super().problems()
        yield from at_least("layers", self.layers, 0)


@dataclass
class SequenceConfig(EmbeddingConfig):
    """What the models of the user's history share."""

    history_items: int = 10
    """The latest liked items that the model reads."""
    dropout: float = 0.2
    """Share of activations that are dropped in training."""
    weight_decay: float = 0.0
    """AdamW's weight decay of all weights but embeddings."""

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
    """SASRec (Kang and McAuley 2018): causal self-attention over the history."""

    blocks: int = 1
    """Attention blocks."""
    heads: int = 1
    """Attention heads of a block. They must divide ``dim``."""
    item_init: str = "random"
    """Item vectors start at small ``random`` numbers, or from co-occurring ``likes``."""

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
    """DIN (Zhou et al. 2018): the history weighed by an attention that sees the candidate."""

    attention_hidden: int = 16
    """Width of the attention's network."""
    hidden: int = 16
    """Width of the first layer of the network on top."""
    second_hidden: int = 0
    """Width of its second layer. 0 leaves it out."""
    normalize_attention: bool = True
    """Whether the weights of a history are a softmax. Off as published."""
    dot_product: bool = True
    """Whether the dot product of user side and candidate is added to the network's score. Off as published."""

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
