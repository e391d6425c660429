"""Scores that say how probable it is that a text is relevant, and the map that makes them so."""
