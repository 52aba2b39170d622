"""Prompts: templates, the encoder that turns an example into token ids, and the collators that make batches.

The order of work: `template` parses the wording, `encode` fills in an example (its titles, ratings, slots) and
tokenises it, `collate` pads prompts to a `batch` and gathers the CF vectors of their slots.
"""
