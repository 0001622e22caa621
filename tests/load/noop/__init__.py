"""Functions that do nothing behind the real gateway and workers, and nothing else: no engines, no platform."""
