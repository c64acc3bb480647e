# The candidate process of mode split: loads the candidate's code and does what the test process asks. It is hostile ground: nothing
# here is trusted, nothing of the tests is here but the arguments of calls.
import operator, types


class TestCallable:
    """A function of the tests that was passed to the candidate."""

    def __init__(self, number):
        object.__setattr__(self, "_number", number)

    def __call__(self, *args, **kwargs):
        send({"cb": self._number, "a": codec.encode(list(args)), "k": codec.encode(kwargs)})
        while True:
            message = receive()
            if "op" in message:
                serve(message)
                continue
            if "x" in message:
                raise codec.decode(message["x"])
            return codec.decode(message["r"])


exported, numbers = {}, {}


def handle_of(value):
    if type(value) is TestCallable:
        return {"g": value._number}
    number = numbers.get(id(value))
    if number is None or exported[number] is not value:
        number = len(exported) + 1
        exported[number] = value  # kept: its id stays its own
        numbers[id(value)] = number
    return {"h": number}


def object_of(tag, number):
    return exported[number] if tag == "g" else TestCallable(number)


codec = Codec(handle_of, object_of)

source, code = "", None
scope = {}


def describe(value):
    """How the tests may use an entry: an exception class must be one there too, to stand in an except clause."""
    if isinstance(value, type) and issubclass(value, BaseException):
        return {"e": next(one.__name__ for one in value.__mro__ if ERRORS.get(one.__name__) is one), "v": handle_of(value)}
    return {"v": codec.encode(value)}


def load(names):
    if "random" in source:
        import random
        random.seed(0)
    module = types.ModuleType("candidate")
    module.__dict__["__name__"] = "candidate"
    sys.modules["candidate"] = module
    global scope, code
    scope = module.__dict__
    if code is None:
        code = compile(source, "candidate.py", "exec")
    exec(code, scope)
    return {name: describe(scope[name]) for name in names if name in scope}


def call(function, args, kwargs):
    result = function(*args, **kwargs)
    if type(result) is types.CoroutineType:
        return {"co": handle_of(result)}
    return {"r": codec.encode(result)}


OPERATORS = {
    "len": len, "iter": iter, "next": next, "bool": bool, "hash": hash, "str": str, "repr": repr, "int": int, "float": float, "index": operator.index, "abs": abs, "neg": operator.neg,
    "pos": operator.pos, "invert": operator.invert, "round": round, "reversed": reversed, "getattr": getattr, "setattr": setattr, "delattr": delattr, "dir": dir, "isinstance": isinstance,
    "issubclass": issubclass, "format": format, "enter": lambda one: one.__enter__(), "exit": lambda one, *rest: one.__exit__(*rest), "complex": complex, "bytes": bytes,
    "await": lambda one: library("asyncio", "run")(one if type(one) is types.CoroutineType else wait_for(one)),
}
for name in ("getitem setitem delitem contains eq ne lt le gt ge add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift iadd isub imul ior iand ixor".split()):
    OPERATORS[name] = getattr(operator, name)
for name in ("add sub mul truediv floordiv mod pow matmul and_ or_ xor lshift rshift".split()):
    OPERATORS["r" + name] = lambda one, other, do=getattr(operator, name): do(other, one)


async def wait_for(one):
    return await one


def serve(message):
    op = message["op"]
    try:
        if op == "load":
            set_caps(*message["caps"])
            reply = {"names": load(message["names"])}
        else:
            args = codec.decode(message["a"])
            if op == "call":
                before = [codec.encode(one) if type(one) in (list, dict, set, bytearray) else None for one in args[1:]]
                reply = call(args[0], args[1:], codec.decode(message["k"]))
                changed = [[at, after] for at, (one, then) in enumerate(zip(args[1:], before)) if then is not None and (after := codec.encode(one)) != then]
                if changed:
                    reply["m"] = changed
            else:
                reply = {"r": codec.encode(OPERATORS[op](*args))}
    except (Gone, Broken):
        raise
    except BaseException as error:
        reply = failed(error)
    send(reply)


def failed(error):
    kind = type(error)
    known = next(one.__name__ for one in kind.__mro__ if ERRORS.get(one.__name__) is one)
    try:
        args = codec.encode([one if type(one) in (int, str, float, bool, type(None)) else str(one) for one in error.args])
        to_json(args)
    except BaseException:
        args = []
    return {"x": {"x": [known, args]}, "class": kind.__name__, "own": None if kind.__name__ == known else numbers.get(id(kind))}


def main():
    global source
    sys.setrecursionlimit(10000)
    source = read_file("candidate.py")
    try:
        while True:
            serve(receive())
    except Gone:
        os._exit(0)
    except BaseException:
        os._exit(9)


if __name__ == "__main__":
    main()
