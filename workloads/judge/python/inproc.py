# Tests in the candidate's own interpreter; see inproc.hpp. Writes a line a test, before the next begins.
import json, os, sys

from_json = json.JSONDecoder().decode


def read_file(name):  # without io: each page that a run touches first is a fault of its own
    file, parts = os.open(name, os.O_RDONLY), []
    while part := os.read(file, 1 << 24):
        parts.append(part)
    os.close(file)
    return b"".join(parts).decode("utf-8", "surrogatepass")


def run(code, source, test):
    if "random" in source or "random" in test:
        import random
        random.seed(0)
    scope = {"__name__": "__main__", "__builtins__": __builtins__}
    try:
        exec(code or compile(source, "candidate.py", "exec"), scope)
    except BaseException as error:
        return "load " + type(error).__name__
    try:
        exec(compile(test, "test.py", "exec"), scope)
    except AssertionError:
        return "fail"
    except BaseException as error:
        return "error " + type(error).__name__
    return "pass"


def main():
    out = os.open("results", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    source, tests = read_file("candidate.py"), from_json(read_file("tests.json"))
    sys.setrecursionlimit(10000)
    try:
        code = compile(source, "candidate.py", "exec")
    except BaseException:
        code = None  # each test is told what is wrong with it
    for test in tests:
        os.write(out, (run(code, source, test) + "\n").encode("utf-8", "replace"))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
