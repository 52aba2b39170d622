"""Readers of source files, one a source."""
