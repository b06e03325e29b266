"""Measures against peers: the answer is checked first, then the time."""
