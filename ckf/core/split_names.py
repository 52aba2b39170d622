"""Names of the dataset splits."""

SPLITS = ("train", "val", "test")
"""The order is the code of a split in memory: 0, 1, 2."""
HISTORY_ONLY = "history"
"""The split of rows that appear in histories alone. They are never targets and never trained on."""
