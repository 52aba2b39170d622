"""Attention masks, key-value caches, prefix sharing and the last layer; README.md explains how they work together."""
