"""Rules across config groups."""
