"""From source files to a dataset and its examples: readers, splits, examples, audit."""
