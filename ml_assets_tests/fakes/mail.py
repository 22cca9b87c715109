"""A mail server on loopback that keeps what it is sent: as much of SMTP (RFC 5321) as smtplib says."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class Mailbox:
    """What arrived: mails, and whom the envelopes named. `refuses` is a command that is answered by 554."""

    port: int
    mails: list[EmailMessage] = field(default_factory=list)
    receivers: list[list[str]] = field(default_factory=list)
    refuses: str = ""


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        box: Mailbox = self.server.box
        named: list[str] = []
        self._say("220 ready")
        while line := self.rfile.readline().decode().rstrip("\r\n"):
            verb = line.split(" ")[0].upper()
            if verb == box.refuses:
                self._say("554 no")
            elif verb == "DATA":
                self._say("354 go on")
                box.mails.append(message_from_bytes(self._data(), policy=policy.default))
                box.receivers.append(named[:])
                named.clear()
                self._say("250 kept")
            elif verb == "QUIT":
                self._say("221 bye")
                break
            else:
                named += [line.partition(":")[2].strip("<>")] if verb == "RCPT" else []
                self._say("250 fine")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())

    def _data(self) -> bytes:
        lines = iter(self.rfile.readline, b".\r\n")
        return b"".join(line.removeprefix(b".") for line in lines)


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    """Serve on a free port of 127.0.0.1."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Session) as server:
        server.daemon_threads = True
        server.box = Mailbox(server.server_address[1])
        threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
        try:
            yield server.box
        finally:
            server.shutdown()
