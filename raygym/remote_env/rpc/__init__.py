"""Environments in lock-step: clients of raygym.v1 and of dm_env_rpc."""
