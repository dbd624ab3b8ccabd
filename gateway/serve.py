"""Running the application under granian, in one process: the sequencer is its writer."""

import asyncio
import logging
import signal

from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar

from gateway.app import create_app
from gateway.service import open_service, running_jobs
from gateway.settings import Settings


def run(settings: Settings, *, stop_after_s: float | None = None) -> None:
    """Serve until SIGINT or SIGTERM. Jobs in flight resume at the next start."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    with open_service(settings) as service, running_jobs(service):
        listen(create_app(service), settings.host, settings.port, stop_after_s=stop_after_s)


def listen(app: Litestar, host: str, port: int, *, stop_after_s: float | None = None) -> None:
    """Answer requests until SIGINT or SIGTERM."""

    async def serve() -> None:
        server = Server(app, address=host, port=port, interface=Interfaces.ASGI)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.stop)
        if stop_after_s is not None:
            loop.call_later(stop_after_s, server.stop)
        await server.serve()

    asyncio.run(serve())
