"""From examples to token ids: templates, the encoder, and batches of prompts."""
