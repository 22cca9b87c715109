"""Stage 7, deployment: batch scoring; serving and targets come here too."""
