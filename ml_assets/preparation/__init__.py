"""Stage 3, preparation: cleaning, observations, splits."""
