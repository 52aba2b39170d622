"""Which examples a step takes, and how they become batches."""
