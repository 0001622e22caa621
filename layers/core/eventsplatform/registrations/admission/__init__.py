"""Tickets and check-ins, with a wiring of their own: who registers loads none of it."""
