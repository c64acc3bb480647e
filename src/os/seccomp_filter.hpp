#pragma once
/// The system calls a sandboxed program may make, as a program for seccomp(2). Default-deny, three answers:
///   allowed   files, memory, threads, fork and exec, pipes, socketpair, signals to itself, clocks, epoll: what compilers, CPython,
///             node and the JVM need;
///   refused   with the errno an honest program copes with: socket() EAFNOSUPPORT, setuid and friends EPERM, whatever is unknown
///             (clone3, io_uring, tomorrow's calls) ENOSYS;
///   killed    what only an attack asks for: ptrace, mount, unshare, setns, bpf, keyctl, userfaultfd, kexec, modules. SIGSYS is the
///             evidence.
/// Source of the names: man 2 syscalls; the fallback from clone3 to clone is glibc's own.

#include <cstddef>
#include <vector>

#include "drover/types/error.hpp"

namespace drover {

/// An array of sock_filter. Errors: unavailable (this kernel has no seccomp), system.
Result<std::vector<std::byte>> candidate_filter();

}  // namespace drover
