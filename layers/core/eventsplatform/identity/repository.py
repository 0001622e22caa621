"""The SQL of the identity schema."""

from __future__ import annotations

import uuid
from datetime import datetime

from psycopg.errors import UniqueViolation

from eventsplatform.adapters.postgres import Connection, Row
from eventsplatform.identity.model import ROLE_PERMISSIONS, SignUp, User, UserSummary
from eventsplatform.identity.service import EmailTakenError


class PostgresIdentity:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add_user(self, sign_up: SignUp, password_hash: str) -> tuple[User, int]:
        try:
            row = self._connection.execute(
                """
                INSERT INTO identity.users (email, password_hash, name, role, permissions)
                VALUES (%s, %s, %s, 'user', %s)
                RETURNING id, email, name, role, permissions, status, verified_at, created_at, version
                """,
                (sign_up.email, password_hash, sign_up.name, list(ROLE_PERMISSIONS["user"])),
            ).fetchone()
        except UniqueViolation as error:
            raise EmailTakenError from error
        assert row is not None
        return _user(row), row["version"]

    def find_credentials(self, email: str) -> tuple[User, str, int] | None:
        row = self._connection.execute(
            """
            SELECT id, email, name, role, permissions, status, verified_at, created_at, password_hash, generation
              FROM identity.users
             WHERE email = %s
            """,
            (email,),
        ).fetchone()
        return (_user(row), row["password_hash"], row["generation"]) if row else None

    def find_summary(self, user_id: int) -> UserSummary | None:
        row = self._connection.execute(
            "SELECT id, name, version FROM identity.users WHERE id = %s", (user_id,)
        ).fetchone()
        return UserSummary(**row) if row else None

    def add_session(self, session_id: uuid.UUID, user_id: int, expires_at: datetime) -> None:
        self._connection.execute(
            "INSERT INTO identity.sessions (id, user_id, expires_at) VALUES (%s, %s, %s)",
            (session_id, user_id, expires_at),
        )

    def add_refresh_token(self, session_id: uuid.UUID, user_id: int, token_hash: bytes, expires_at: datetime) -> None:
        self._connection.execute(
            """
            INSERT INTO identity.refresh_tokens (session_id, user_id, token_hash, expires_at)
            VALUES (%s, %s, %s, %s)
            """,
            (session_id, user_id, token_hash, expires_at),
        )


def _user(row: Row) -> User:
    return User(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        role=row["role"],
        permissions=row["permissions"],
        status=row["status"],
        email_verified=row["verified_at"] is not None,
        created_at=row["created_at"],
    )
