"""Features of users and items that CF models read."""
