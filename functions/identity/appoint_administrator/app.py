from pydantic import BaseModel, EmailStr

from eventsplatform.entrypoints.providers import provide
from eventsplatform.entrypoints.step import direct
from eventsplatform.identity.administration import UserAdministration
from eventsplatform.identity.people import AdministeredUser


class Appointment(BaseModel):
    email: EmailStr


@direct(Appointment)
def handler(appointment: Appointment) -> AdministeredUser:
    """Make an account an administrator: for who operates the platform, whom no other administrator could help."""
    return provide(UserAdministration).appoint(appointment.email)
