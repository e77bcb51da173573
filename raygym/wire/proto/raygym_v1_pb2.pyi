from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Autoreset(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NEXT_STEP: _ClassVar[Autoreset]
    SAME_STEP: _ClassVar[Autoreset]
    DISABLED: _ClassVar[Autoreset]
NEXT_STEP: Autoreset
SAME_STEP: Autoreset
DISABLED: Autoreset

class Request(_message.Message):
    __slots__ = ("id", "hello", "make", "reset", "step", "render")
    ID_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    MAKE_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    RENDER_FIELD_NUMBER: _ClassVar[int]
    id: int
    hello: Hello
    make: Make
    reset: Reset
    step: Step
    render: Render
    def __init__(self, id: _Optional[int] = ..., hello: _Optional[_Union[Hello, _Mapping]] = ..., make: _Optional[_Union[Make, _Mapping]] = ..., reset: _Optional[_Union[Reset, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., render: _Optional[_Union[Render, _Mapping]] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("id", "welcome", "made", "batch", "pictures", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    welcome: Welcome
    made: Made
    batch: Batch
    pictures: Pictures
    error: Error
    def __init__(self, id: _Optional[int] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., made: _Optional[_Union[Made, _Mapping]] = ..., batch: _Optional[_Union[Batch, _Mapping]] = ..., pictures: _Optional[_Union[Pictures, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("version", "client_id", "machine")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    version: int
    client_id: str
    machine: str
    def __init__(self, version: _Optional[int] = ..., client_id: _Optional[str] = ..., machine: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("version", "runtime", "env_ids", "modes", "machine", "local_socket", "max_message_bytes", "max_envs")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    ENV_IDS_FIELD_NUMBER: _ClassVar[int]
    MODES_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_SOCKET_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_ENVS_FIELD_NUMBER: _ClassVar[int]
    version: int
    runtime: str
    env_ids: _containers.RepeatedScalarFieldContainer[str]
    modes: _containers.RepeatedScalarFieldContainer[str]
    machine: str
    local_socket: str
    max_message_bytes: int
    max_envs: int
    def __init__(self, version: _Optional[int] = ..., runtime: _Optional[str] = ..., env_ids: _Optional[_Iterable[str]] = ..., modes: _Optional[_Iterable[str]] = ..., machine: _Optional[str] = ..., local_socket: _Optional[str] = ..., max_message_bytes: _Optional[int] = ..., max_envs: _Optional[int] = ...) -> None: ...

class Make(_message.Message):
    __slots__ = ("env_id", "count", "autoreset", "render_mode", "kwargs", "picture", "frame_skip", "wants_shared_memory")
    ENV_ID_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    AUTORESET_FIELD_NUMBER: _ClassVar[int]
    RENDER_MODE_FIELD_NUMBER: _ClassVar[int]
    KWARGS_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    FRAME_SKIP_FIELD_NUMBER: _ClassVar[int]
    WANTS_SHARED_MEMORY_FIELD_NUMBER: _ClassVar[int]
    env_id: str
    count: int
    autoreset: Autoreset
    render_mode: str
    kwargs: Map
    picture: Picture
    frame_skip: int
    wants_shared_memory: bool
    def __init__(self, env_id: _Optional[str] = ..., count: _Optional[int] = ..., autoreset: _Optional[_Union[Autoreset, str]] = ..., render_mode: _Optional[str] = ..., kwargs: _Optional[_Union[Map, _Mapping]] = ..., picture: _Optional[_Union[Picture, _Mapping]] = ..., frame_skip: _Optional[int] = ..., wants_shared_memory: _Optional[bool] = ...) -> None: ...

class Picture(_message.Message):
    __slots__ = ("crop_x", "crop_y", "crop_width", "crop_height", "is_grey", "width", "height")
    CROP_X_FIELD_NUMBER: _ClassVar[int]
    CROP_Y_FIELD_NUMBER: _ClassVar[int]
    CROP_WIDTH_FIELD_NUMBER: _ClassVar[int]
    CROP_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    IS_GREY_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    crop_x: int
    crop_y: int
    crop_width: int
    crop_height: int
    is_grey: bool
    width: int
    height: int
    def __init__(self, crop_x: _Optional[int] = ..., crop_y: _Optional[int] = ..., crop_width: _Optional[int] = ..., crop_height: _Optional[int] = ..., is_grey: _Optional[bool] = ..., width: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class Made(_message.Message):
    __slots__ = ("observation_space", "action_space", "metadata", "shared_memory", "shared_memory_bytes")
    OBSERVATION_SPACE_FIELD_NUMBER: _ClassVar[int]
    ACTION_SPACE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_FIELD_NUMBER: _ClassVar[int]
    SHARED_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    observation_space: Space
    action_space: Space
    metadata: Map
    shared_memory: str
    shared_memory_bytes: int
    def __init__(self, observation_space: _Optional[_Union[Space, _Mapping]] = ..., action_space: _Optional[_Union[Space, _Mapping]] = ..., metadata: _Optional[_Union[Map, _Mapping]] = ..., shared_memory: _Optional[str] = ..., shared_memory_bytes: _Optional[int] = ...) -> None: ...

class Reset(_message.Message):
    __slots__ = ("envs", "seeds", "options")
    ENVS_FIELD_NUMBER: _ClassVar[int]
    SEEDS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    envs: _containers.RepeatedScalarFieldContainer[int]
    seeds: _containers.RepeatedScalarFieldContainer[int]
    options: Value
    def __init__(self, envs: _Optional[_Iterable[int]] = ..., seeds: _Optional[_Iterable[int]] = ..., options: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("envs", "actions")
    ENVS_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    envs: _containers.RepeatedScalarFieldContainer[int]
    actions: _containers.RepeatedCompositeFieldContainer[Leaf]
    def __init__(self, envs: _Optional[_Iterable[int]] = ..., actions: _Optional[_Iterable[_Union[Leaf, _Mapping]]] = ...) -> None: ...

class Render(_message.Message):
    __slots__ = ("envs",)
    ENVS_FIELD_NUMBER: _ClassVar[int]
    envs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, envs: _Optional[_Iterable[int]] = ...) -> None: ...

class Batch(_message.Message):
    __slots__ = ("envs", "observations", "rewards", "terminated", "truncated", "infos", "finals", "failures")
    ENVS_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    REWARDS_FIELD_NUMBER: _ClassVar[int]
    TERMINATED_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    INFOS_FIELD_NUMBER: _ClassVar[int]
    FINALS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    envs: _containers.RepeatedScalarFieldContainer[int]
    observations: _containers.RepeatedCompositeFieldContainer[Leaf]
    rewards: bytes
    terminated: bytes
    truncated: bytes
    infos: _containers.RepeatedCompositeFieldContainer[Value]
    finals: _containers.RepeatedCompositeFieldContainer[Final]
    failures: _containers.RepeatedCompositeFieldContainer[Failure]
    def __init__(self, envs: _Optional[_Iterable[int]] = ..., observations: _Optional[_Iterable[_Union[Leaf, _Mapping]]] = ..., rewards: _Optional[bytes] = ..., terminated: _Optional[bytes] = ..., truncated: _Optional[bytes] = ..., infos: _Optional[_Iterable[_Union[Value, _Mapping]]] = ..., finals: _Optional[_Iterable[_Union[Final, _Mapping]]] = ..., failures: _Optional[_Iterable[_Union[Failure, _Mapping]]] = ...) -> None: ...

class Final(_message.Message):
    __slots__ = ("env", "observation", "info")
    ENV_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    env: int
    observation: _containers.RepeatedCompositeFieldContainer[Leaf]
    info: Value
    def __init__(self, env: _Optional[int] = ..., observation: _Optional[_Iterable[_Union[Leaf, _Mapping]]] = ..., info: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("env", "outcome", "error")
    ENV_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    env: int
    outcome: str
    error: Error
    def __init__(self, env: _Optional[int] = ..., outcome: _Optional[str] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Pictures(_message.Message):
    __slots__ = ("pictures",)
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    pictures: _containers.RepeatedCompositeFieldContainer[Array]
    def __init__(self, pictures: _Optional[_Iterable[_Union[Array, _Mapping]]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "type", "traceback", "is_passing")
    class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[Error.Code]
        INVALID_ARGUMENT: _ClassVar[Error.Code]
        DEADLINE_EXCEEDED: _ClassVar[Error.Code]
        NOT_FOUND: _ClassVar[Error.Code]
        RESOURCE_EXHAUSTED: _ClassVar[Error.Code]
        FAILED_PRECONDITION: _ClassVar[Error.Code]
        UNIMPLEMENTED: _ClassVar[Error.Code]
        INTERNAL: _ClassVar[Error.Code]
        UNAVAILABLE: _ClassVar[Error.Code]
        UNAUTHENTICATED: _ClassVar[Error.Code]
    UNKNOWN: Error.Code
    INVALID_ARGUMENT: Error.Code
    DEADLINE_EXCEEDED: Error.Code
    NOT_FOUND: Error.Code
    RESOURCE_EXHAUSTED: Error.Code
    FAILED_PRECONDITION: Error.Code
    UNIMPLEMENTED: Error.Code
    INTERNAL: Error.Code
    UNAVAILABLE: Error.Code
    UNAUTHENTICATED: Error.Code
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    IS_PASSING_FIELD_NUMBER: _ClassVar[int]
    code: Error.Code
    message: str
    type: str
    traceback: str
    is_passing: bool
    def __init__(self, code: _Optional[_Union[Error.Code, str]] = ..., message: _Optional[str] = ..., type: _Optional[str] = ..., traceback: _Optional[str] = ..., is_passing: _Optional[bool] = ...) -> None: ...

class Leaf(_message.Message):
    __slots__ = ("array", "texts")
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    array: Array
    texts: Texts
    def __init__(self, array: _Optional[_Union[Array, _Mapping]] = ..., texts: _Optional[_Union[Texts, _Mapping]] = ...) -> None: ...

class Texts(_message.Message):
    __slots__ = ("texts",)
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...

class Array(_message.Message):
    __slots__ = ("dtype", "shape", "data", "offset")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    offset: int
    def __init__(self, dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("null", "boolean", "integer", "number", "text", "binary", "array", "list", "map", "big_integer", "tuple")
    NULL_FIELD_NUMBER: _ClassVar[int]
    BOOLEAN_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    BINARY_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    BIG_INTEGER_FIELD_NUMBER: _ClassVar[int]
    TUPLE_FIELD_NUMBER: _ClassVar[int]
    null: bool
    boolean: bool
    integer: int
    number: float
    text: str
    binary: bytes
    array: Array
    list: List
    map: Map
    big_integer: str
    tuple: List
    def __init__(self, null: _Optional[bool] = ..., boolean: _Optional[bool] = ..., integer: _Optional[int] = ..., number: _Optional[float] = ..., text: _Optional[str] = ..., binary: _Optional[bytes] = ..., array: _Optional[_Union[Array, _Mapping]] = ..., list: _Optional[_Union[List, _Mapping]] = ..., map: _Optional[_Union[Map, _Mapping]] = ..., big_integer: _Optional[str] = ..., tuple: _Optional[_Union[List, _Mapping]] = ...) -> None: ...

class List(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, items: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class Map(_message.Message):
    __slots__ = ("items",)
    class ItemsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.MessageMap[str, Value]
    def __init__(self, items: _Optional[_Mapping[str, Value]] = ...) -> None: ...

class Space(_message.Message):
    __slots__ = ("box", "discrete", "multi_discrete", "multi_binary", "text", "dict", "tuple")
    BOX_FIELD_NUMBER: _ClassVar[int]
    DISCRETE_FIELD_NUMBER: _ClassVar[int]
    MULTI_DISCRETE_FIELD_NUMBER: _ClassVar[int]
    MULTI_BINARY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DICT_FIELD_NUMBER: _ClassVar[int]
    TUPLE_FIELD_NUMBER: _ClassVar[int]
    box: Box
    discrete: Discrete
    multi_discrete: MultiDiscrete
    multi_binary: MultiBinary
    text: Text
    dict: DictSpace
    tuple: TupleSpace
    def __init__(self, box: _Optional[_Union[Box, _Mapping]] = ..., discrete: _Optional[_Union[Discrete, _Mapping]] = ..., multi_discrete: _Optional[_Union[MultiDiscrete, _Mapping]] = ..., multi_binary: _Optional[_Union[MultiBinary, _Mapping]] = ..., text: _Optional[_Union[Text, _Mapping]] = ..., dict: _Optional[_Union[DictSpace, _Mapping]] = ..., tuple: _Optional[_Union[TupleSpace, _Mapping]] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("dtype", "shape", "low", "high")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    low: Array
    high: Array
    def __init__(self, dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., low: _Optional[_Union[Array, _Mapping]] = ..., high: _Optional[_Union[Array, _Mapping]] = ...) -> None: ...

class Discrete(_message.Message):
    __slots__ = ("start", "n", "dtype")
    START_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    start: int
    n: int
    dtype: str
    def __init__(self, start: _Optional[int] = ..., n: _Optional[int] = ..., dtype: _Optional[str] = ...) -> None: ...

class MultiDiscrete(_message.Message):
    __slots__ = ("nvec", "start", "dtype")
    NVEC_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    nvec: Array
    start: Array
    dtype: str
    def __init__(self, nvec: _Optional[_Union[Array, _Mapping]] = ..., start: _Optional[_Union[Array, _Mapping]] = ..., dtype: _Optional[str] = ...) -> None: ...

class MultiBinary(_message.Message):
    __slots__ = ("shape",)
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Text(_message.Message):
    __slots__ = ("min_length", "max_length", "charset")
    MIN_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHARSET_FIELD_NUMBER: _ClassVar[int]
    min_length: int
    max_length: int
    charset: str
    def __init__(self, min_length: _Optional[int] = ..., max_length: _Optional[int] = ..., charset: _Optional[str] = ...) -> None: ...

class DictSpace(_message.Message):
    __slots__ = ("keys", "spaces")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    SPACES_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    spaces: _containers.RepeatedCompositeFieldContainer[Space]
    def __init__(self, keys: _Optional[_Iterable[str]] = ..., spaces: _Optional[_Iterable[_Union[Space, _Mapping]]] = ...) -> None: ...

class TupleSpace(_message.Message):
    __slots__ = ("spaces",)
    SPACES_FIELD_NUMBER: _ClassVar[int]
    spaces: _containers.RepeatedCompositeFieldContainer[Space]
    def __init__(self, spaces: _Optional[_Iterable[_Union[Space, _Mapping]]] = ...) -> None: ...
