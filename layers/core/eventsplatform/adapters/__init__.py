"""Thin clients of the engines: opened on first use, one per execution environment, every call bounded in time."""
