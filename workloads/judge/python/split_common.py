# What the test process and the candidate process say to each other: frames of JSON over descriptor 3, values as plain data.
#
# Only values of exact builtin types (and a few of the standard library) travel by value, each under a tag; anything else stays where it
# is and travels as a handle: {"h": n} an object of the sender, {"g": n} one of the receiver. No pickle, no class and no code crosses.
# Caps: 16 MiB a frame, depth 64, 1,000,000 nodes, integers of 65,536 bits; what breaks one is Broken.
import builtins, collections, importlib, json, os, struct, sys

FRAME_MAX, DEPTH_MAX, NODES_MAX, INT_HEX_MAX = 16 << 20, 64, 1000000, 16384


def set_caps(frame, int_hex):
    """What a message may hold, as the submission's limits say; the candidate's half is told, the tests' half enforces it."""
    global FRAME_MAX, NODES_MAX, INT_HEX_MAX
    FRAME_MAX, NODES_MAX, INT_HEX_MAX = frame, frame // 16, int_hex


class Broken(Exception):
    """The other side does not keep to the protocol, or a cap is reached."""


class Unsupported(Exception):
    """An object of a test that can be neither carried nor called."""


class Gone(BaseException):
    """The other side has ended. Not an Exception: no test may catch it by the way."""


def library(module, name):
    """A type of the standard library for a value's tag. Loaded when it is first needed: starting is what costs."""
    return getattr(importlib.import_module(module), name)


class NamedTuple(tuple):
    """A named tuple of the other side: its values, and its fields by name."""

    fields = {}

    def __getattr__(self, name):
        try:
            return self[self.fields[name]]
        except KeyError:
            raise AttributeError(name) from None


# Made once, where a run does not pay for it; text is read without io: each page that a run touches first is a fault of its own.
to_json, from_json = json.JSONEncoder(separators=(",", ":")).encode, json.JSONDecoder().decode


def read_file(name):
    file, parts = os.open(name, os.O_RDONLY), []
    while part := os.read(file, 1 << 24):
        parts.append(part)
    os.close(file)
    return b"".join(parts).decode("utf-8", "surrogatepass")


def write_all(data):
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(3, view):]
        except OSError:
            raise Gone from None


def read_exactly(size):
    parts = []
    while size:
        try:
            part = os.read(3, min(size, 1 << 20))
        except OSError:
            raise Gone from None
        if not part:
            raise Gone
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def send(message):
    data = to_json(message).encode("ascii")
    if len(data) > FRAME_MAX:
        raise Broken("frame")
    write_all(struct.pack("<I", len(data)) + data)


def receive():
    (size,) = struct.unpack("<I", read_exactly(4))
    if size > FRAME_MAX:
        raise Broken("frame")
    try:
        message = from_json(read_exactly(size).decode("utf-8"))
    except (ValueError, RecursionError):
        raise Broken("json") from None
    if type(message) is not dict:
        raise Broken("message")
    return message


BUILTIN_TYPES = {name: value for name, value in vars(builtins).items() if isinstance(value, type)}
ERRORS = {name: value for name, value in BUILTIN_TYPES.items() if issubclass(value, BaseException)}
SINGLETONS = {"Ellipsis": Ellipsis, "NotImplemented": NotImplemented}


class Codec:
    """`handle_of(value)`: the JSON of a value that cannot travel. `object_of(json)`: what a handle stands for."""

    def __init__(self, handle_of, object_of):
        self.handle_of, self.object_of = handle_of, object_of

    def encode(self, value):
        self.nodes = 0
        return self._encode(value, 0)

    def decode(self, value):
        self.nodes = 0
        try:
            return self._decode(value, 0)
        except (Broken, Gone):
            raise
        except Exception:
            raise Broken("value") from None

    def _count(self, depth):
        self.nodes += 1
        if depth > DEPTH_MAX or self.nodes > NODES_MAX:
            raise Broken("too deep or too large")

    def _encode(self, value, depth):
        self._count(depth)
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            if -(1 << 63) <= value < 1 << 63:
                return value
            if value.bit_length() > 4 * INT_HEX_MAX:
                raise Broken("integer")
            return {"i": hex(value)}
        if kind is str:
            return value
        if kind is float:
            return {"f": value.hex()}
        deeper = depth + 1
        if kind is list:
            return [self._encode(one, deeper) for one in value]
        if kind is tuple:
            return {"t": [self._encode(one, deeper) for one in value]}
        if kind is dict:
            return {"d": self._pairs(value, deeper)}
        if kind is set:
            return {"S": [self._encode(one, deeper) for one in value]}
        if kind is frozenset:
            return {"F": [self._encode(one, deeper) for one in value]}
        if kind is bytes:
            return {"b": value.hex()}
        if kind is bytearray:
            return {"B": value.hex()}
        if kind is complex:
            return {"c": [value.real.hex(), value.imag.hex()]}
        if kind is range:
            return {"R": [self._encode(part, deeper) for part in (value.start, value.stop, value.step)]}
        if kind is collections.OrderedDict:
            return {"O": self._pairs(value, deeper)}
        if kind is collections.Counter:
            return {"C": self._pairs(value, deeper)}
        if kind is collections.defaultdict:
            factory = value.default_factory
            return {"D": [factory.__name__ if factory in (int, float, str, list, dict, set, tuple, bool) else None, self._pairs(value, deeper)]}
        if kind is collections.deque:
            return {"q": [value.maxlen, [self._encode(one, deeper) for one in value]]}
        if kind.__module__ in ("decimal", "fractions", "datetime") and kind is getattr(sys.modules[kind.__module__], kind.__name__, None):
            if kind.__name__ == "Decimal":
                return {"n": str(value)}
            if kind.__name__ == "Fraction":
                return {"Q": [self._encode(value.numerator, deeper), self._encode(value.denominator, deeper)]}
            if kind.__name__ in ("date", "time") or kind.__name__ == "datetime" and (value.tzinfo is None or type(value.tzinfo).__name__ == "timezone"):
                return {"when": [kind.__name__, value.isoformat()]}
            if kind.__name__ == "timedelta":
                return {"delta": [value.days, value.seconds, value.microseconds]}
        if value is Ellipsis or value is NotImplemented:
            return {"one": str(value)}
        if isinstance(value, type) and BUILTIN_TYPES.get(value.__name__) is value:
            return {"T": value.__name__}
        if kind.__name__ in ERRORS and ERRORS[kind.__name__] is kind:
            return {"x": [kind.__name__, [self._encode(one, deeper) for one in value.args]]}
        if isinstance(value, tuple) and type(getattr(kind, "_fields", None)) is tuple and kind.__eq__ is tuple.__eq__:
            return {"N": [list(map(str, kind._fields)), [self._encode(one, deeper) for one in tuple.__iter__(value)]]}
        return self.handle_of(value)

    def _pairs(self, value, depth):
        return [[self._encode(key, depth), self._encode(one, depth)] for key, one in value.items()]

    def _decode(self, value, depth):
        self._count(depth)
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            if not -(1 << 63) <= value < 1 << 63:
                raise Broken("integer")
            return value
        deeper = depth + 1
        if kind is list:
            return [self._decode(one, deeper) for one in value]
        if kind is not dict or len(value) != 1:
            raise Broken("value")
        ((tag, body),) = value.items()
        if tag in ("h", "g"):
            if type(body) is not int:
                raise Broken("handle")
            return self.object_of(tag, body)
        if tag == "f":
            return float.fromhex(body)
        if tag == "i":
            if len(body) > INT_HEX_MAX + 3:
                raise Broken("integer")
            return int(body, 16)
        if tag in "tSF":
            items = [self._decode(one, deeper) for one in body]
            return tuple(items) if tag == "t" else set(items) if tag == "S" else frozenset(items)
        if tag in "dOC":
            made = {"d": dict, "O": collections.OrderedDict, "C": collections.Counter}[tag]()
            for key, one in body:
                made[self._decode(key, deeper)] = self._decode(one, deeper)
            return made
        if tag == "D":
            factory = BUILTIN_TYPES[body[0]] if body[0] in ("int", "float", "str", "list", "dict", "set", "tuple", "bool") else None
            made = collections.defaultdict(factory)
            for key, one in body[1]:
                made[self._decode(key, deeper)] = self._decode(one, deeper)
            return made
        if tag == "b":
            return bytes.fromhex(body)
        if tag == "B":
            return bytearray.fromhex(body)
        if tag == "c":
            return complex(float.fromhex(body[0]), float.fromhex(body[1]))
        if tag == "R":
            return range(*(self._decode(one, deeper) for one in body))
        if tag == "q":
            return collections.deque([self._decode(one, deeper) for one in body[1]], body[0])
        if tag == "n":
            if len(body) > 10000:
                raise Broken("decimal")
            return library("decimal", "Decimal")(body)
        if tag == "Q":
            return library("fractions", "Fraction")(self._decode(body[0], deeper), self._decode(body[1], deeper))
        if tag == "when":
            if body[0] not in ("date", "time", "datetime"):
                raise Broken("when")
            return library("datetime", body[0]).fromisoformat(body[1])
        if tag == "delta":
            return library("datetime", "timedelta")(*body)
        if tag == "one":
            return SINGLETONS[body]
        if tag == "T":
            return BUILTIN_TYPES[body]
        if tag == "x":
            return ERRORS[body[0]](*(self._decode(one, deeper) for one in body[1]))
        if tag == "N":
            if not all(type(name) is str for name in body[0]):
                raise Broken("fields")
            made = NamedTuple(self._decode(one, deeper) for one in body[1])
            made.fields = {name: at for at, name in enumerate(body[0])}
            return made
        raise Broken("tag")
