"""The library code of every function of the events platform."""
