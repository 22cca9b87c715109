"""The example: flights from New York in 2013."""
