"""Universe's allocator API over HTTP, as its clients speak it, one request at a time.

::

    POST   /v1/allocations             {client, runtime, params, handles, initial, placement}
    POST   /v1/allocations/<client>    {names}: still wanted
    DELETE /v1/allocations/<client>    no longer wanted
      -> {"env_n": [{name, handle, status, vnc_address, ...}], "info": {"n": [{"new": true}]}}

An answer other than 200 with a ``detail`` is final; anything else is worth another try.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from raygym.config import TlsFiles
from raygym.errors import ConfigError, RemoteError, RemoteProtocolError, RemoteUnreachable
from raygym.remote_env.allocator_address import AllocatorAddress

_REQUEST_TIMEOUT_S = 80.0
_LEAST_ANSWER_S = 5.0
_LONGEST_PAUSE_S = 60.0
_MAX_ANSWER_BYTES = 16 << 20


class AllocationRefused(RemoteError):
    """An allocator said no, and why; or it is not the one that it should be."""


class AllocatorClient:
    """Asks an allocator; safe to use from several threads. It holds no connection.

    Args:
        address: Where it listens.
        request_timeout_s: Longest wait for one answer.
        stopped: Ends all tries once it is set.
        clock: Returns seconds that only grow.

    Raises:
        ConfigError: A file of TLS makes no sense.
    """

    def __init__(
        self,
        address: AllocatorAddress,
        *,
        request_timeout_s: float = _REQUEST_TIMEOUT_S,
        stopped: threading.Event | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._request_timeout_s = request_timeout_s
        self._stopped = stopped or threading.Event()
        self._clock = clock
        self._tls = _tls_context(address) if address.is_tls else None

    def create(self, wanted: Mapping[str, Any], *, timeout_s: float) -> Mapping[str, Any]:
        """Asks for allocations, or for those that the same client has already.

        Args:
            wanted: ``client``, ``runtime``, ``params``, ``handles``, ``initial``, ``placement``.
            timeout_s: Longest time for all tries; the last may take 5 s more.

        Raises:
            AllocationRefused: It said no.
            RemoteUnreachable: It gave no answer in time.
        """
        return self._ask_until("POST", "/v1/allocations", wanted, timeout_s)

    def refresh(self, client: str, names: Sequence[str], *, timeout_s: float) -> Mapping[str, Any]:
        """Says that allocations are still wanted, and returns those that are there."""
        return self._ask_until("POST", _route(client), {"names": list(names)}, timeout_s)

    def delete(
        self, client: str, names: Sequence[str], *, is_whole: bool, timeout_s: float
    ) -> Mapping[str, Any]:
        """Gives allocations back; asks once.

        Args:
            client: Whose they are.
            names: Which; an allocator other than raygym's takes all of the client's.
            is_whole: Whether the Remotes are worth keeping for the client.
            timeout_s: Longest wait.
        """
        query = urlencode([("name", name) for name in names] + [("whole", str(int(is_whole)))])
        return self._ask("DELETE", f"{_route(client)}?{query}", None, timeout_s)

    def _ask_until(
        self, method: str, route: str, body: Mapping[str, Any], timeout_s: float
    ) -> Mapping[str, Any]:
        """Asks again and again, 2, 4, 8 and up to 60 s apart, as Universe's clients do."""
        deadline_s = self._clock() + timeout_s
        pause_s = 1.0
        while True:
            # An answer waits a while for remotes; who hangs up before it never learns of them.
            answer_s = max(_LEAST_ANSWER_S, deadline_s - self._clock())
            try:
                return self._ask(method, route, body, min(answer_s, self._request_timeout_s))
            except (RemoteUnreachable, RemoteProtocolError) as error:
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                left_s = deadline_s - self._clock()
                if left_s <= 0 or self._stopped.wait(min(pause_s, left_s)):
                    raise RemoteUnreachable(
                        f"{self._address.id}: no answer to {method} {route} within "
                        f"{timeout_s:g} s; last: {error}"
                    ) from error

    def _ask(
        self, method: str, route: str, body: Mapping[str, Any] | None, timeout_s: float
    ) -> Mapping[str, Any]:
        connection = self._connection(timeout_s)
        try:
            connection.request(
                method,
                route,
                body=None if body is None else json.dumps(body),
                headers=self._headers(),
            )
            answer = connection.getresponse()
            return self._read(answer.status, answer.read(_MAX_ANSWER_BYTES))
        except ssl.SSLCertVerificationError as error:
            raise AllocationRefused(
                f"{self._address.id}: its certificate is not trusted ({error.verify_message}); "
                "give its authority as tls=TlsFiles(ca=...), or as SSL_CERT_FILE"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise RemoteUnreachable(
                f"{self._address.id}: {type(error).__name__}: {error}"
            ) from error
        finally:
            connection.close()

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._tls is None:
            return http.client.HTTPConnection(host, port, timeout=timeout_s)
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=self._tls)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self._address.token is not None:
            token = f"{self._address.token.reveal()}:".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(token).decode('ascii')}"
        return headers

    def _read(self, status: int, body: bytes) -> Mapping[str, Any]:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise RemoteProtocolError(
                f"{self._address.id}: expected JSON of an allocator, got status {status} and "
                f"{body[:80]!r}"
            )
        if status == 200:
            return answer
        if "detail" not in answer:
            raise RemoteProtocolError(f"{self._address.id}: status {status} without a detail")
        raise AllocationRefused(f"{self._address.id}: {answer['detail']}")


def _tls_context(address: AllocatorAddress) -> ssl.SSLContext:
    files = address.tls or TlsFiles()
    try:
        context = ssl.create_default_context(cafile=files.ca)
        if files.cert is not None:
            context.load_cert_chain(files.cert, files.key)
    except OSError as error:
        raise ConfigError(f"{address.id}: tls: {error}") from error
    return context


def _route(client: str) -> str:
    return f"/v1/allocations/{quote(client, safe='')}"
