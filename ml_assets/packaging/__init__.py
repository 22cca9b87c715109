"""From the chosen model to what can be deployed: a bundle that is verified before it is read."""
