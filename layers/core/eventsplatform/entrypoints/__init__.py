"""What stands between a Lambda event and a use case: one module per kind of event source.

A function's `app.py` names what it serves; parsing, authentication, error mapping, logging, metrics,
tracing and partial batch failures are owned here.
"""
