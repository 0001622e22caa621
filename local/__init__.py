"""The platform on one machine: engines, gateway, workers and triggers, driven by template.yaml alone."""
