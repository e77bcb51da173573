from __future__ import annotations

import pickle

import pytest

from raygym import errors
from raygym.errors import RaygymError


def _tree(cls: type[RaygymError]) -> list[type[RaygymError]]:
    return [cls, *(below for sub in cls.__subclasses__() for below in _tree(sub))]


@pytest.mark.parametrize("cls", _tree(RaygymError), ids=lambda cls: cls.__name__)
def test_every_error_survives_pickling_with_its_message_and_fields(cls):
    error = cls("remote r-1 is gone: the socket closed; start another", remote_id="r-1", tries=3)

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is cls
    assert str(copy) == "remote r-1 is gone: the socket closed; start another"
    assert (copy.remote_id, copy.tries) == ("r-1", 3)


OWN = [cls for cls in _tree(RaygymError) if cls.__module__ == errors.__name__]


@pytest.mark.parametrize("cls", OWN, ids=lambda cls: cls.__name__)
def test_the_tree_in_the_docstring_names_every_error(cls):
    assert cls is RaygymError or cls.__name__ in errors.__doc__


def test_an_unknown_field_is_an_attribute_error():
    with pytest.raises(AttributeError, match="RaygymError has no attribute 'colour'"):
        _ = RaygymError("no").colour


def test_a_config_error_is_a_value_error_too():
    assert issubclass(errors.ConfigError, ValueError)
