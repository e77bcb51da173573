"""Speaks as much of Chromium's pipe as the tests of Browser need; FAKE says how it behaves."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

MODE = sys.argv[0].rsplit("-", 1)[1]
URL = next(a.split("=", 1)[1] for a in sys.argv if a.startswith("--app="))
ORIGIN = URL.rsplit("/", 2)[0]


def send(**message: object) -> None:
    os.write(4, json.dumps(message).encode() + b"\0")


def messages():
    unread = b""
    while chunk := os.read(3, 65536):
        *whole, unread = (unread + chunk).split(b"\0")
        yield from (json.loads(text) for text in whole)


def answer(message: dict) -> None:
    method, result = message["method"], {}
    if method == "Target.setDiscoverTargets":
        send(method="Target.targetCreated", params={"targetInfo": {"targetId": "w", "type": "tab"}})
        send(
            method="Target.targetCreated", params={"targetInfo": {"targetId": "t", "type": "page"}}
        )
    elif method == "Target.attachToTarget":
        result = {"sessionId": "s"}
    elif method == "Runtime.enable":
        for origin in ("://", ORIGIN):
            send(
                method="Runtime.executionContextCreated",
                params={"context": {"origin": origin}},
                sessionId="s",
            )
    elif method == "Runtime.evaluate":
        result = evaluate(message["params"]["expression"])
    send(id=message["id"], result=result)
    if method == "Emulation.setFocusEmulationEnabled":
        send(method="Runtime.bindingCalled", params={"payload": "hello"}, sessionId="s")


def evaluate(expression: str) -> dict:
    if expression == "crash":
        send(method="Inspector.targetCrashed", params={}, sessionId="s")
    elif expression == "close":
        send(method="Target.detachedFromTarget", params={"sessionId": "s"})
    elif expression == "nonsense":
        os.write(4, b"{\0")
    elif expression == "environment":
        return {"result": {"value": dict(os.environ)}}
    elif expression == "arguments":
        return {"result": {"value": sys.argv}}
    elif expression == "throw":
        return {"result": {}, "exceptionDetails": {"exception": {"description": "Error: no"}}}
    elif expression == "never":
        time.sleep(60)
    elif expression == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return {"result": {"value": expression}}


if MODE == "ends":
    sys.exit(9)
if MODE == "mute":
    time.sleep(60)
for message in messages():
    if message["method"] == "Browser.refuse":
        send(id=message["id"], error={"message": "not today"})
    else:
        answer(message)
