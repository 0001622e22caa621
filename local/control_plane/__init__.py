"""The AWS endpoint of the platform on one machine: Lambda's Invoke API over the workers, moto for the rest."""

from local.control_plane.app import ControlPlane
from local.control_plane.provisioning import provision

__all__ = ["ControlPlane", "provision"]
