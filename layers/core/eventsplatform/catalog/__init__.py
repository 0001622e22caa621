"""Events: what they are, who publishes them, and their life from draft to completed."""
