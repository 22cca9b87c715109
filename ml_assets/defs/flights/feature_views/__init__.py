"""The feature views of the example."""
