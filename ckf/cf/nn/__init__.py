"""Building blocks of the neural CF models."""
