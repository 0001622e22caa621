"""The commands of `python -m local`, a module each: `add_arguments(parser)` and `run(options) -> exit code`."""
