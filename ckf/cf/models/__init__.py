"""CF models, one readable file each."""
