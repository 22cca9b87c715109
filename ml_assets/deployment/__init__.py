"""Stage 7, deployment: the serving API and its log, batch scoring, and the targets of `ml-assets deploy`."""
