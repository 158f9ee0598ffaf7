"""Mail through an SMTP server. Synchronous: whoever calls it is a job in a thread of its own."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from typing import NamedTuple

from ..errors import Misconfigured, Unavailable
from ..model.mail import Mail

#: Seconds for one step of the conversation.
PATIENCE = 20.0


class Server(NamedTuple):
    """Where mail is handed in. `security`: starttls, tls or none; a password is never sent without one of the first two."""

    host: str
    port: int
    sender: str
    security: str = "starttls"
    user: str = ""
    password: str = ""


class Smtp:
    """A `ports.Mailer` over one SMTP server."""

    def __init__(self, server: Server, context: ssl.SSLContext | None = None) -> None:
        if server.password and server.security == "none":
            why = "mail.security is none, and a password would cross the network in the clear"
            raise Misconfigured("mail-insecure", why, hint='mail.security = "starttls"')
        self._server = server
        self._context = context

    def send(self, mail: Mail, *, at: int) -> None:
        """Hands one message in. `at`: its date, POSIX seconds. Raises Unavailable when the server does not take it."""
        message = EmailMessage(policy=SMTP)
        message["From"] = self._server.sender
        message["To"] = mail.to
        message["Subject"] = mail.subject
        message["Date"] = formatdate(at)
        message["Message-ID"] = make_msgid(domain=self._server.sender.rpartition("@")[2].strip(">") or "localhost")
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        try:
            with self._connect() as smtp:
                if self._server.user:
                    smtp.login(self._server.user, self._server.password)
                smtp.send_message(message)
        except (smtplib.SMTPException, OSError) as error:
            raise Unavailable("mail-failed", f"the mail server {self._server.host} did not take the message: {error}", hint="it is tried again") from error

    def _connect(self) -> smtplib.SMTP:
        context = self._context or ssl.create_default_context()
        if self._server.security == "tls":
            return smtplib.SMTP_SSL(self._server.host, self._server.port, timeout=PATIENCE, context=context)
        smtp = smtplib.SMTP(self._server.host, self._server.port, timeout=PATIENCE)
        if self._server.security == "starttls":
            try:
                smtp.starttls(context=context)
            except BaseException:
                smtp.close()
                raise
        return smtp
