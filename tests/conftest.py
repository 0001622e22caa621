"""Fixtures that every test can ask for."""

pytest_plugins = ("tests.support.engines", "tests.support.platform")
