"""The gate: whether a caller's session is still live and its limits leave room, in one round trip to Redis."""
