"""A mail server for the tests: aiosmtpd with TLS, AUTH, and faults on demand.

Takes one JSON document as its argument, prints the ports as JSON when it is
ready, and ends when its standard input does.
"""

import base64
import errno
import json
import socket
import ssl
import sys
import asyncio

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import AuthResult, LoginPassword

options = json.loads(sys.argv[1])
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(options["certificate"], options["key"])
refused = set()


class Handler(Mailbox):
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if options["fault"] == "greylist" and address not in refused:
            refused.add(address)
            return "451 4.7.1 Greylisted, try again later"
        if options["fault"] == "some" and address.startswith("slow@"):
            # Together with the others, and then alone.
            for time in ("first", "second"):
                if (address, time) not in refused:
                    refused.add((address, time))
                    return "451 4.7.1 Greylisted, try again later"
        if options["fault"] in ("gone", "some") and address.startswith("gone@"):
            return "550 5.1.1 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if options["fault"] == "hang":
            await asyncio.sleep(3600)
        return await super().handle_DATA(server, session, envelope)

    async def auth_XOAUTH2(self, server, args):
        said = base64.b64decode(args[1]).decode()
        wanted = f"user={options['user']}\x01auth=Bearer {options['password']}\x01\x01"
        if said == wanted:
            return AuthResult(success=True, auth_data=options["user"])
        return AuthResult(success=False, handled=False)


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and (
        data.login.decode(),
        data.password.decode(),
    ) == (options["user"], options["password"])
    return AuthResult(success=good, handled=False)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(**settings):
    for _ in range(20):
        port = free_port()
        controller = Controller(
            Handler(options["folder"]),
            hostname="127.0.0.1",
            port=port,
            authenticator=authenticate,
            auth_required=True,
            ready_timeout=180,
            **settings,
        )
        try:
            controller.start()
            return port
        except OSError as error:
            # Somebody else took the port in between.
            if error.errno != errno.EADDRINUSE:
                raise
    sys.exit("no port is free")


ports = {
    "starttls": start(require_starttls=True, tls_context=tls),
    "implicit": start(ssl_context=tls, auth_require_tls=False),
}
print(json.dumps(ports), flush=True)
sys.stdin.read()
