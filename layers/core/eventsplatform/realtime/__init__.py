"""Rooms over WebSockets: joined, pushed to, and caught up with after a gap."""
