"""The AWS endpoint of the platform on one machine: Lambda over the workers, SES over a mailbox, moto for the rest."""

from local.control_plane.app import ControlPlane
from local.control_plane.provisioning import provision

__all__ = ["ControlPlane", "provision"]
