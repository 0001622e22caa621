"""The embedded engines of the platform on one machine: started, checked, supervised and stopped together.

engines = Engines(Path(".local"))
endpoints = await engines.start()
...
await engines.stop()
"""

from local.engines.engine import EngineError, EngineEvent, EngineStatus
from local.engines.engines import NAMES, Endpoints, Engines

__all__ = ["NAMES", "Endpoints", "EngineError", "EngineEvent", "EngineStatus", "Engines"]
