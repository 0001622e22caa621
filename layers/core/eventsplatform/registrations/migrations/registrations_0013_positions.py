"""Positions in a line without counting everyone ahead: how many people each block of its tickets has."""

from alembic import op

revision = "registrations_0013"
down_revision = "registrations_0012"


def upgrade() -> None:
    # Whoever joins or leaves a line has it locked, so nobody waits for a block's row. It is changed again and again,
    # and a page keeps room for its next version.
    op.execute(
        """
        CREATE TABLE registrations.line_blocks (
            event_id bigint  NOT NULL,
            block    bigint  NOT NULL,
            people   integer NOT NULL CHECK (people >= 0),
            PRIMARY KEY (event_id, block)
        ) WITH (fillfactor = 50)
        """
    )
    op.execute(
        """
        INSERT INTO registrations.line_blocks (event_id, block, people)
        SELECT event_id, ticket / 512, count(*) FROM registrations.waitlist GROUP BY event_id, ticket / 512
        """
    )
    # Counted where rows come and go, so that no statement can forget it.
    op.execute(
        """
        CREATE FUNCTION registrations.count_line() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' THEN
                INSERT INTO registrations.line_blocks AS block (event_id, block, people)
                SELECT event_id, ticket / 512, count(*) FROM moved GROUP BY event_id, ticket / 512
                ON CONFLICT (event_id, block) DO UPDATE SET people = block.people + excluded.people;
            ELSE
                UPDATE registrations.line_blocks AS block
                   SET people = block.people - gone.people
                  FROM (SELECT event_id, ticket / 512 AS block, count(*) AS people
                          FROM moved
                         GROUP BY event_id, ticket / 512) AS gone
                 WHERE block.event_id = gone.event_id AND block.block = gone.block;
                DELETE FROM registrations.line_blocks AS block
                 USING moved
                 WHERE block.event_id = moved.event_id AND block.block = moved.ticket / 512 AND block.people = 0;
            END IF;
            RETURN NULL;
        END
        $$
        """
    )
    for name, change, rows in (("joined_line", "INSERT", "NEW"), ("left_line", "DELETE", "OLD")):
        op.execute(
            f"""
            CREATE TRIGGER {name} AFTER {change} ON registrations.waitlist
                REFERENCING {rows} TABLE AS moved
                FOR EACH STATEMENT EXECUTE FUNCTION registrations.count_line()
            """
        )
    op.execute(
        """
        CREATE FUNCTION registrations.position_in_line(of_event bigint, of_ticket bigint) RETURNS bigint
            LANGUAGE sql STABLE
            BEGIN ATOMIC
                SELECT coalesce((SELECT sum(people)
                                   FROM registrations.line_blocks
                                  WHERE event_id = of_event AND block < of_ticket / 512), 0)::bigint
                       + (SELECT count(*)
                            FROM registrations.waitlist
                           WHERE event_id = of_event AND ticket BETWEEN of_ticket / 512 * 512 AND of_ticket);
            END
        """
    )
