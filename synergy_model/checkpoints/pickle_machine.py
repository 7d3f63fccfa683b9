"""Interpret pickles without Python's unpickler: only named functions are called, in time bounded by the file's size.

Python's unpickler hashes, compares and allocates whatever a file names: a few bytes can occupy it for ever. Here
containers are built, never hashed or printed; keys are plain values; numbers are small.
"""

from __future__ import annotations

import codecs
import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from synergy.runtime.text import printable

MAX_OPCODES = 1 << 21  # of one pickle; the file of a ResNet-152 has about 100,000
MAX_NUMBER = 1 << 80  # the magic number of old PyTorch files has 77 bits
MAX_DIMS = 32  # of an array
MAX_SIZE = 1 << 63
SHOWN = 80  # characters of a name in a message
OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
KEY_TYPES = (str, int, float, bytes, type(None))

# opcodes that push their argument, by name
VALUES = ("INT", "LONG", "FLOAT", "STRING", "BYTES", "UNICODE", "BYTEARRAY")
PUSHED = frozenset(
    opcode.name for opcode in pickletools.opcodes if opcode.arg and any(kind in opcode.name for kind in VALUES)
) - {"LONG_BINPUT", "LONG_BINGET"}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLE_SIZES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class PickleError(ValueError):
    """The pickle is damaged, too large, or refers to something that is not admitted."""

    def __init__(self, text: str) -> None:
        """Control characters and line ends in `text`, which can come from the file, are escaped."""
        super().__init__(printable(text))


class Stateful(Protocol):
    """An object that takes the argument of the opcode BUILD."""

    def set_state(self, state: Any) -> None:
        """Check and keep the state."""


@dataclass(frozen=True)
class Named:
    """A name that the file may refer to; `call`: the function behind it, None if it is only an argument."""

    name: str
    call: Callable[..., Any] | None = None


class PickleMachine:
    """Loads pickles, one after the other, from `stream`.

    admitted: what a module and a name stand for; other names are refused. persistent: called with the argument of a
    persistent reference, as PyTorch uses for storages.
    """

    def __init__(
        self,
        stream: io.BytesIO,
        admitted: Mapping[tuple[str, str], Named],
        persistent: Callable[[Any], Any],
    ) -> None:
        self.stream = stream
        self.admitted = admitted
        self.persistent = persistent

    def load(self) -> Any:
        """The next pickle. Raises PickleError, or ValueError, TypeError, IndexError or KeyError for a damaged one."""
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        for _ in range(MAX_OPCODES):
            opcode = OPCODES.get(self.stream.read(1))
            if opcode is None:
                raise PickleError("it ends too early, or is no pickle")
            argument = self._argument(opcode)
            if opcode.name == "STOP":
                return self.stack.pop()
            self._run(opcode.name, argument)
        raise PickleError(f"it has more than {MAX_OPCODES:,} steps")

    def _argument(self, opcode: pickletools.OpcodeInfo) -> Any:
        if opcode.arg is None:
            return None
        if opcode.name == "STRING":  # of Python 2: bytes, kept as text with one character per byte
            quoted = self.stream.readline().strip()
            return codecs.escape_decode(quoted[1:-1])[0].decode("latin-1")
        argument = opcode.arg.reader(self.stream)
        if isinstance(argument, int) and abs(argument) >= MAX_NUMBER:
            raise PickleError("it holds a number that is too large")
        return argument

    def _run(self, name: str, argument: Any) -> None:
        if name in PUSHED:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in TUPLE_SIZES:
            self.stack.append(tuple(self._pop(TUPLE_SIZES[name])))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[int(argument)])
        else:
            step = getattr(self, f"_{name.lower()}", None)
            if step is None:
                raise PickleError(f"its step {name} is refused: it occurs in no file of tensors or arrays")
            step(*(() if argument is None else (argument,)))

    def _pop(self, count: int) -> list[Any]:
        if count > len(self.stack) - (self.marks[-1] if self.marks else 0):
            raise PickleError("it takes more values than it has")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def _pop_to_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _mark(self) -> None:
        self.marks.append(len(self.stack))

    def _pop_mark(self) -> None:
        self._pop_to_mark()

    def _proto(self, _: int) -> None:
        pass

    def _frame(self, _: int) -> None:
        pass

    def _memoize(self) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _empty_list(self) -> None:
        self.stack.append([])

    def _empty_dict(self) -> None:
        self.stack.append({})

    def _list(self) -> None:
        self.stack.append(self._pop_to_mark())

    def _tuple(self) -> None:
        self.stack.append(tuple(self._pop_to_mark()))

    def _dict(self) -> None:
        self.stack.append(_pairs({}, self._pop_to_mark()))

    def _append(self) -> None:
        _expect(list, self.stack[-2]).append(self.stack.pop())

    def _appends(self) -> None:
        items = self._pop_to_mark()
        _expect(list, self.stack[-1]).extend(items)

    def _setitem(self) -> None:
        items = self._pop(2)
        _pairs(_expect(dict, self.stack[-1]), items)

    def _setitems(self) -> None:
        items = self._pop_to_mark()
        _pairs(_expect(dict, self.stack[-1]), items)

    def _global(self, text: str) -> None:
        module, _, name = text.partition(" ")
        self._named(module, name)

    def _stack_global(self) -> None:
        module, name = self._pop(2)
        self._named(_expect(str, module), _expect(str, name))

    def _named(self, module: str, name: str) -> None:
        if (module, name) not in self.admitted:
            raise PickleError(
                f"it refers to {module[:SHOWN]}.{name[:SHOWN]}, which is neither a tensor nor a plain container: "
                "refused, nothing was run. Save the state_dict alone "
                "(torch.save({'state_dict': model.state_dict()}))"
            )
        self.stack.append(self.admitted[module, name])

    def _reduce(self) -> None:
        function, arguments = self._pop(2)
        call = _expect(Named, function).call
        if call is None:
            raise PickleError(f"it calls {function.name}: refused")
        self.stack.append(call(*_expect(tuple, arguments)))

    def _build(self) -> None:
        target, state = self._pop(2)
        if not isinstance(target, dict):  # attributes of an OrderedDict are not needed
            if not hasattr(target, "set_state"):
                raise PickleError("it sets attributes of something other than an array: refused")
            target.set_state(state)
        self.stack.append(target)

    def _binpersid(self) -> None:
        self.stack.append(self.persistent(self.stack.pop()))


def ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    """What a pickled OrderedDict becomes. Raises PickleError unless `pairs` are keys with values."""
    content: dict[Any, Any] = {}
    for pair in _expect((list, tuple), pairs):
        if len(_expect((list, tuple), pair)) != 2:
            raise PickleError("an item of a dictionary is not a key with a value")
        _pairs(content, list(pair))
    return content


def are_sizes(*values: Any) -> bool:
    """Whether all are tuples of few, plain, non-negative numbers."""
    return all(
        isinstance(value, tuple)
        and len(value) <= MAX_DIMS
        and all(type(number) is int and 0 <= number < MAX_SIZE for number in value)
        for value in values
    )


def _pairs(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    keys = items[::2]
    if len(items) % 2 or not all(isinstance(key, KEY_TYPES) for key in keys):
        raise PickleError("a key of a dictionary is not a plain value")
    target.update(zip(keys, items[1::2], strict=True))
    return target


def _expect(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise PickleError("it does something to a value of another type: refused")
    return value
