"""User and item vectors: tables on disk, out-of-fold vectors, cold start, vectors made elsewhere."""
