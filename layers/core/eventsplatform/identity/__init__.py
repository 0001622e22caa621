"""Users, sessions and access tokens."""
