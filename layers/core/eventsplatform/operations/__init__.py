"""Keeping the platform running: health, migrations, partitions, backup."""
