"""Attention masks, key-value caches and shared prompt prefixes."""
