"""RLlib on rollouts of the service."""

from raygym.rllib.config import rollout_config
from raygym.rllib.env_runner import NoRollouts, ServiceEnvRunner
from raygym.rllib.policy import RLModulePolicy, RLModulePolicyFactory
from raygym.rllib.registering import register
from raygym.rllib.run import RLlibRun, TrainingFailed, newest_checkpoint

__all__ = [
    "NoRollouts",
    "RLModulePolicy",
    "RLModulePolicyFactory",
    "RLlibRun",
    "ServiceEnvRunner",
    "TrainingFailed",
    "newest_checkpoint",
    "register",
    "rollout_config",
]
