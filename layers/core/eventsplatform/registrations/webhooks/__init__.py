"""Telling organisers what happens to their events, where they want to be told: signed, and until it arrives."""
