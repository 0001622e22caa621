from typing import Any

from eventsplatform.entrypoints.schedule import Run, scheduled
from eventsplatform.operations.administration import migrate_deployed_database


@scheduled
def handler(_run: Run) -> dict[str, Any]:
    """Bring the database to the schema that this release needs; run before the release takes traffic."""
    return {schema.schema: [schema.before, schema.after] for schema in migrate_deployed_database()}
