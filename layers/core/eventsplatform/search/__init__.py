"""Finding events by text, place, time and facet: a projection of the catalog in OpenSearch."""
