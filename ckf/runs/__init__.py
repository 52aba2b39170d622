"""The run folder: file names, metadata, evaluation log."""
