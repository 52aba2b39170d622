"""A trained run put to use: recommendations, predictions for rows of one's own, and a look at what it reads."""
