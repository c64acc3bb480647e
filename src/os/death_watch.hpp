#pragma once
/// Tells within a fraction of a millisecond that a worker's main thread is gone, whatever its memory size: a pidfd becomes
/// readable only after the kernel has freed the memory (100 ms per GiB). A *hint*: it also fires on exec and when only the
/// main thread ended, so the hinted incarnation is SIGKILLed and its pidfd is the proof.
///
/// How: each worker owns a robust futex word in memory it shares with the supervisor; the kernel marks it (FUTEX_OWNER_DIED)
/// first thing in its exit. One thread of ours sleeps on all words at once (futex_waitv, Linux 5.16). The words are written
/// by workers, who may lie: a false hint costs only the liar, and a word that keeps changing is dropped from the watch.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "drover/types/error.hpp"

namespace drover {

/// What the word needs in the shared memory: the 4-byte word first, the rest is the kernel's and libc's list link. Nothing
/// else may live there, and the worker may never unmap it. Aligned to 64.
inline constexpr std::size_t kDeathWordRoom = 64;

/// Supervisor's side. add/remove/take from the loop thread.
class DeathWatch {
 public:
  static constexpr std::size_t kWordsMax = 127;

  /// ErrorCode::unavailable on kernels without futex_waitv: go on with pidfds alone.
  static Result<std::unique_ptr<DeathWatch>> start();
  virtual ~DeathWatch() = default;  ///< wakes and joins the thread

  /// Watches `word` (0 until the worker holds it) and hints `token` once. ErrorCode::no_space beyond kWordsMax words.
  virtual Result<void> add(const std::atomic<std::uint32_t>* word, std::uint64_t token) = 0;
  /// On return the word is not read any more and may be unmapped; a hint of it not yet taken is forgotten.
  virtual void remove(std::uint64_t token) = 0;
  /// Readable while hints wait to be taken.
  virtual int fd() const = 0;
  /// Appends the tokens hinted since the last call.
  virtual void take(std::vector<std::uint64_t>& tokens) = 0;
};

/// Worker's side, once, from its main thread: `word` begins kDeathWordRoom zeroed bytes of shared memory. Appends to the
/// thread's robust list, which stays libc's. The word then holds gettid() as seen in here, and FUTEX_WAITERS.
Result<void> hold_death_word(std::atomic<std::uint32_t>* word);

}  // namespace drover
