"""The sources of the example and what cleaning means for them."""
