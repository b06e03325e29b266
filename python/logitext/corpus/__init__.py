"""Corpora: more text than one would read twice."""
