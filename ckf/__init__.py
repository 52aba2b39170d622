"""ckf: fine-tune large language models into recommenders that also know collaborative filtering."""

__version__ = "0.1.0"
