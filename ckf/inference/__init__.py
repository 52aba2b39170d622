"""Use a trained run: recommend, predict rows that a user supplies, and probe what the model reads."""
