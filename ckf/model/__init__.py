"""The recommender: frozen backbone, Multi-LoRA, fusion of CF vectors into prompt slots."""
