"""Reads a replayed VNC session with one client and prints the CPU time that it took, as JSON.

python benchmarks/replay_client.py raygym|asyncvnc2|vncdotool PORT UPDATES

Run by benchmarks/decode.py. The clock starts when the first update, the whole screen, is there.
"""

from __future__ import annotations

import json
import sys
import time


def report(begin_s: float, updates: int) -> None:
    cpu_s = time.process_time() - begin_s
    print(json.dumps({"cpu_ms": cpu_s * 1e3 / (updates - 1)}))


def run_raygym(port: int, updates: int) -> None:
    import socket

    from raygym.config import VncOptions
    from raygym.wire.rfb_client import RfbClient, ScreenUpdated

    client = RfbClient(password=None, options=VncOptions())
    seen, begin_s = 0, 0.0
    memory = memoryview(bytearray(1 << 18))
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        while seen < updates:
            count = connection.recv_into(memory)
            for event in client.receive_data(memory[:count]):
                if isinstance(event, ScreenUpdated):
                    seen += 1
                    if seen == 1:
                        begin_s = time.process_time()
            connection.sendall(client.data_to_send())
    report(begin_s, updates)


def run_asyncvnc2(port: int, updates: int) -> None:
    import asyncio

    import asyncvnc2

    async def read() -> float:
        async with asyncvnc2.connect("127.0.0.1", port) as client:
            begin_s = 0.0
            for number in range(updates):
                client.video.refresh()
                await client.read()
                if number == 0:
                    begin_s = time.process_time()
            report(begin_s, updates)
            return begin_s

    asyncio.run(asyncio.wait_for(read(), 120))


def run_vncdotool(port: int, updates: int) -> None:
    from twisted.internet import reactor
    from vncdotool import client as vncdotool_client

    class Client(vncdotool_client.VNCDoToolClient):
        seen = 0
        begin_s = 0.0

        def vncConnectionMade(self) -> None:  # noqa: N802  Twisted's name
            super().vncConnectionMade()
            self.framebufferUpdateRequest()

        def commitUpdate(self, rectangles: object = None) -> None:  # noqa: N802
            self.seen += 1
            if self.seen == 1:
                self.begin_s = time.process_time()
            if self.seen < updates:
                self.framebufferUpdateRequest(incremental=True)
                return
            report(self.begin_s, updates)
            reactor.stop()

    factory = vncdotool_client.VNCDoToolFactory()
    factory.protocol = Client
    factory.deferred.addErrback(lambda failure: sys.exit(str(failure)))
    reactor.connectTCP("127.0.0.1", port, factory)
    reactor.callLater(120, reactor.stop)
    reactor.run()


if __name__ == "__main__":
    {"raygym": run_raygym, "asyncvnc2": run_asyncvnc2, "vncdotool": run_vncdotool}[sys.argv[1]](
        int(sys.argv[2]), int(sys.argv[3])
    )
