"""Mail through an SMTP server. Synchronous: whoever calls it is a job in a thread of its own."""

from __future__ import annotations

import smtplib
import socket
import ssl
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from typing import NamedTuple

from ..errors import Misconfigured, Refused, Unavailable
from ..model.mail import Mail
from .deadline import Deadline

#: Seconds for one step of the conversation, and for all of it.
PATIENCE, WHOLE = 20.0, 60.0


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
        """Hands one message in. `at`: its date, POSIX seconds.

        Raises Unavailable when the server cannot be reached or takes nothing now, Refused when it is this message or its recipient that it does not take:
        `mail-refused` for good, `mail-deferred` for now (RFC 5321 4.2.1).
        """
        message = EmailMessage(policy=SMTP)
        message["From"] = self._server.sender
        message["To"] = mail.to
        message["Subject"] = mail.subject
        message["Date"] = formatdate(at)
        message["Message-ID"] = make_msgid(domain=self._server.sender.rpartition("@")[2].strip(">") or "localhost")
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        host = self._server.host
        with Deadline(WHOLE) as deadline:
            try:
                with self._connect(deadline) as smtp:
                    if self._server.user:
                        smtp.login(self._server.user, self._server.password)
                    _hand_in(smtp, message, host)
            except (smtplib.SMTPException, OSError, ValueError) as error:
                why = f"it took longer than {WHOLE:g} seconds" if deadline.over else str(error)
                raise Unavailable("mail-failed", f"the mail server {host} did not take the message: {why}", hint="it is tried again") from error

    def _connect(self, deadline: Deadline) -> smtplib.SMTP:
        context = self._context or ssl.create_default_context()
        smtp = _Watched(self._server, context if self._server.security == "tls" else None, deadline)
        try:
            code, said = smtp.connect(self._server.host, self._server.port)
            if code != 220:
                raise smtplib.SMTPConnectError(code, said)
            if self._server.security == "starttls":
                smtp.starttls(context=context)
        except BaseException:
            smtp.close()
            raise
        return smtp


def _hand_in(smtp: smtplib.SMTP, message: EmailMessage, host: str) -> None:
    """Raises Refused when only this message is not taken, whatever `smtplib` raises when the next one would not be taken either."""
    try:
        smtp.send_message(message)
    except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError, smtplib.SMTPNotSupportedError, ValueError) as error:
        answers = _answers(error)
        if any(code == 421 for code, _ in answers):  # RFC 5321 3.8: the server closes the connection, to everybody
            raise
        how = "mail-deferred" if any(400 <= code < 500 for code, _ in answers) else "mail-refused"
        why = "; ".join(f"{code} {text.decode(errors='replace')}" for code, text in answers) or str(error)
        raise Refused(how, f"the mail server {host} refuses the message to {message['To']}: {why}", hint="it is tried again") from error


def _answers(error: Exception) -> list[tuple[int, bytes]]:
    """What the server said, code and text; nothing when smtplib did not ask it."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return list(error.recipients.values())
    return [(error.smtp_code, error.smtp_error)] if isinstance(error, smtplib.SMTPDataError) and isinstance(error.smtp_error, bytes) else []


class _Watched(smtplib.SMTP):
    """A conversation with a limit of time, over TLS from its first byte if there is a context."""

    def __init__(self, server: Server, context: ssl.SSLContext | None, deadline: Deadline) -> None:
        super().__init__(timeout=PATIENCE)
        self._host = server.host  # smtplib's own, which STARTTLS verifies: it is told in the constructor only, where it would also connect
        self._tls = context
        self._deadline = deadline

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        sock = self._deadline.connect(host, port, timeout)
        return self._tls.wrap_socket(sock, server_hostname=host) if self._tls else sock
