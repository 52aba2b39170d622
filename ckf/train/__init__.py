"""Fine-tuning: batch plan, curriculum, Lightning module and data module, fit."""
