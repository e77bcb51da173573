"""Runs dm_env's own environment tests on a world, through dm_env_rpc's adaptor.

.peers/dm_env_rpc/bin/python tests/peers/adaptor.py HOST:PORT
"""

import json
import sys
import unittest

import grpc
from absl.testing import absltest
from dm_env import test_utils
from dm_env_rpc.v1 import connection, dm_env_adaptor


class World(test_utils.EnvironmentTestMixin, absltest.TestCase):
    """One stream and world for each test."""

    target = ""

    def make_object_under_test(self):
        channel = grpc.insecure_channel(self.target)
        self.addCleanup(channel.close)
        env, _ = dm_env_adaptor.create_and_join_world(
            connection.Connection(channel), create_world_settings={}, join_world_settings={}
        )
        return env


def main() -> None:
    World.target = sys.argv[1]
    suite = unittest.TestLoader().loadTestsFromTestCase(World)
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2).run(suite)
    broken = [case.id() for case, _ in result.failures + result.errors]
    print(json.dumps({"run": result.testsRun, "broken": broken, "skipped": len(result.skipped)}))


if __name__ == "__main__":
    main()
