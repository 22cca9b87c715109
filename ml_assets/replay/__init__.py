"""The outside world of the example, replayed from the recorded flights of 2013: for the demo and the tests."""
