"""The outbox, its relay to Kafka, and the bridge to NATS."""
