"""Runs dm_env_rpc's own compliance suite against a server; prints what it found as JSON.

.peers/dm_env_rpc/bin/python tests/peers/compliance.py HOST:PORT
"""

import json
import sys
import unittest

import grpc
from dm_env_rpc.v1 import compliance, connection, dm_env_rpc_pb2, tensor_utils


class Connected:
    """A stream of its own for each test."""

    target = ""
    has_multiple_world_support = True
    makes_world = True
    joins_world = False

    @property
    def connection(self):
        return self._connection

    @property
    def required_world_settings(self):
        return {}

    @property
    def invalid_world_settings(self):
        return {"nonsense": tensor_utils.pack_tensor(1)}

    @property
    def invalid_join_settings(self):
        return {"nonsense": tensor_utils.pack_tensor(1)}

    @property
    def world_name(self):
        return self._world_name

    @property
    def specs(self):
        return self._specs

    def setUp(self):
        self._channel = grpc.insecure_channel(self.target)
        self._connection = connection.Connection(self._channel)
        if self.makes_world:
            created = self._connection.send(dm_env_rpc_pb2.CreateWorldRequest())
            self._world_name = created.world_name
        if self.joins_world:
            self._specs = self.join_the_world()
        super().setUp()

    def tearDown(self):
        try:
            super().tearDown()
        finally:
            self._connection.close()
            self._channel.close()

    def join_the_world(self):
        request = dm_env_rpc_pb2.JoinWorldRequest(world_name=self._world_name)
        return self._connection.send(request).specs


class CreateDestroyWorld(Connected, compliance.CreateDestroyWorld):
    makes_world = False


class JoinLeaveWorld(Connected, compliance.JoinLeaveWorld):
    pass


class Reset(Connected, compliance.Reset):
    def join_world(self):
        return self.join_the_world()


class ResetWorld(Connected, compliance.ResetWorld):
    pass


class Step(Connected, compliance.Step):
    joins_world = True


def main() -> int:
    Connected.target = sys.argv[1]
    loader = unittest.TestLoader()
    suite = unittest.TestSuite(
        loader.loadTestsFromTestCase(case)
        for case in (CreateDestroyWorld, JoinLeaveWorld, Reset, ResetWorld, Step)
    )
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2).run(suite)
    broken = [case.id() for case, _ in result.failures + result.errors]
    print(json.dumps({"run": result.testsRun, "broken": broken, "skipped": len(result.skipped)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
