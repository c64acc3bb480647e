# A sandbox's zygote: an interpreter that has loaded everything once and forks a locked-down child for each run. It runs no word of any
# candidate and holds nothing of one. Its parent is the warden (PID 1), which it tells each child's pid and then its end, as the kernel counted it.
#
# argv: the modules to preload, comma separated; then NAME, SOURCE, NAME, SOURCE, ... the programs a run can name: each is executed once, here,
# and a run calls its main(). Descriptor 3: the warden's socket; first message: the seccomp program. A request: words separated by NUL (uid, flags, rlimits, program, its argv) with
# descriptors stdin, stdout, stderr, words, then landlock's ruleset, the channel and the run's PID namespace as far as flagged.
import ctypes, gc, importlib, os, resource, socket, sys

sys.path[:] = [path for path in sys.path if path]  # not where it stands; before 3.11 PYTHONSAFEPATH is not known
preload, names, sources = sys.argv[1], sys.argv[2::2], sys.argv[3::2]
for module in preload.split(","):
    if module:
        try:
            importlib.import_module(module)
        except ImportError:
            pass  # a candidate that needs it is told so
programs = {}
for name, source in zip(names, sources):
    scope = {"__name__": name, "__builtins__": __builtins__}
    exec(compile(source, name, "exec"), scope)
    programs[name] = scope["main"]

LANDLOCK, CHANNEL, NO_CAPABILITIES, SECCOMP, NAMESPACE, FIRST_TO_GO = 1, 2, 4, 8, 16, 32
home = os.environ["HOME"]
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
syscall, long = libc.syscall, ctypes.c_long
x86 = os.uname().machine == "x86_64"
SYS_CAPSET, SYS_SECCOMP, SYS_LANDLOCK, SYS_SETNS = (126, 317, 446, 308) if x86 else (91, 277, 446, 268)

warden = socket.socket(fileno=3)
filter_bytes = warden.recv(1 << 16)
filter_buffer = ctypes.create_string_buffer(filter_bytes, len(filter_bytes))


class Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


program = Program(len(filter_bytes) // 8, ctypes.addressof(filter_buffer))
cap_header = (ctypes.c_uint32 * 2)(0x20080522, 0)
cap_none = (ctypes.c_uint32 * 6)()


def must(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "lockdown")


def close_range(first, last):
    if first <= last and syscall(long(436), long(first), long(last), long(0)) < 0:
        os.closerange(first, min(last + 1, 4096))


def lock_down(words, fds):
    uid, flags, cpu, file, files, memlock, stack, address, processes = map(int, words)
    for target in range(3):
        os.dup2(fds[target], target)
    at = 4
    if flags & LANDLOCK:
        ruleset, at = fds[at], at + 1
    if flags & CHANNEL:
        os.dup2(fds[at], 3)
    else:
        os.close(3)
    os.setsid()
    os.chdir(home)
    os.umask(0o077)
    if flags & FIRST_TO_GO:  # of all in its memory cgroup
        try:
            adjust = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(adjust, b"1000")
            os.close(adjust)
        except OSError:
            pass
    for what, value in ((resource.RLIMIT_CPU, cpu), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, file), (resource.RLIMIT_NOFILE, files), (resource.RLIMIT_MEMLOCK, memlock),
                        (resource.RLIMIT_MSGQUEUE, 0), (resource.RLIMIT_STACK, stack), (resource.RLIMIT_AS, address)):
        if value or what in (resource.RLIMIT_CORE, resource.RLIMIT_MSGQUEUE):
            resource.setrlimit(what, (value, value))
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
    if flags & NO_CAPABILITIES:
        must(syscall(long(SYS_CAPSET), cap_header, cap_none))
    must(libc.prctl(38, 1, 0, 0, 0))
    must(libc.prctl(4, 1, 0, 0, 0))  # readable to itself in /proc again, as after an exec
    if flags & LANDLOCK:
        must(syscall(long(SYS_LANDLOCK), long(ruleset), long(0)))
    keep = 4 if flags & CHANNEL else 3
    word = fds[3]
    close_range(keep, word - 1)
    close_range(word + 1, 0xFFFFFFFF)
    if flags & SECCOMP:
        must(syscall(long(SYS_SECCOMP), long(1), long(0), ctypes.byref(program)))
    os.close(word)  # the warden's sign that it is done


def run(message, fds):
    warden.detach()  # its descriptor is not the object's to close any more
    words = message.decode("utf-8", "surrogateescape").split("\0")
    try:
        lock_down(words[:9], fds)
    except BaseException:
        os.write(fds[3], b"x")
        os._exit(121)
    sys.argv = words[10:]
    main = programs[words[9]]
    del globals()["warden"], globals()["programs"], globals()["sources"]
    main()


# Out of the bounding set once, for all children; what it has itself it keeps, to give them their uid.
for capability in range(64):
    libc.prctl(24, capability, 0, 0, 0)
gc.collect()
gc.freeze()
warden.send(b"ready")
while True:
    message, fds, _, _ = socket.recv_fds(warden, 1 << 20, 8)
    if not message:
        os._exit(0)
    if int(message.split(b"\0", 2)[1]) & NAMESPACE:
        must(syscall(long(SYS_SETNS), long(fds[-1]), long(0x20000000)))  # of children from here on; the next run has its own
    child = os.fork()
    if child == 0:
        run(message, fds)
        sys.stdout.flush()
        os._exit(0)
    warden.send(b"%d" % child)
    for fd in fds:
        os.close(fd)
    _, status, used = os.wait4(child, 0)
    signalled = os.WIFSIGNALED(status)
    warden.send(b"%d %d %d %d %d" % (signalled, os.WTERMSIG(status) if signalled else os.WEXITSTATUS(status), used.ru_utime * 1e9, used.ru_stime * 1e9, used.ru_maxrss << 10))
