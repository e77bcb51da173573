"""The parts of ``raygym.train``: settings, actors, accounts, table and TensorBoard."""
