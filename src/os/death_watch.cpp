#include "os/death_watch.hpp"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <thread>

#include "base/assert.hpp"
#include "os/event_fd.hpp"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

namespace drover {
namespace {

/// linux/futex.h of older distributions lacks it.
struct FutexWaiter {
  std::uint64_t expected;
  std::uint64_t address;
  std::uint32_t flags;
  std::uint32_t reserved;
};
constexpr std::uint32_t kFutex32 = 2;
constexpr std::uint32_t kFutexPrivate = 128;

long futex_waitv(const FutexWaiter* waiters, std::size_t count) {
  return ::syscall(SYS_futex_waitv, waiters, static_cast<unsigned>(count), 0u, nullptr, CLOCK_MONOTONIC);
}

class FutexDeathWatch final : public DeathWatch {
 public:
  explicit FutexDeathWatch(EventFd bell) : bell_(std::move(bell)), thread_([this] { run(); }) {}

  ~FutexDeathWatch() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_thread();
    thread_.join();
  }

  Result<void> add(const std::atomic<std::uint32_t>* word, std::uint64_t token) override {
    {
      const std::lock_guard lock(mutex_);
      if (watched_.size() >= kWordsMax)
        return fail(ErrorCode::no_space, "watch a worker's death word: " + std::to_string(kWordsMax) + " are watched already");
      watched_.push_back({word, token, word->load(std::memory_order_relaxed), 0});
    }
    wake_thread();
    return {};
  }

  void remove(std::uint64_t token) override {
    {
      const std::lock_guard lock(mutex_);
      std::erase_if(watched_, [token](const Watched& one) { return one.token == token; });
      std::erase(hinted_, token);
    }
    // The thread may still sleep on the word's address, which the kernel then no longer maps to anything of ours: harmless,
    // it dereferences words under the lock only. But it should not hold a place for nothing.
    wake_thread();
  }

  int fd() const override { return bell_.fd(); }

  void take(std::vector<std::uint64_t>& tokens) override {
    (void)bell_.drain();
    const std::lock_guard lock(mutex_);
    tokens.insert(tokens.end(), hinted_.begin(), hinted_.end());
    hinted_.clear();
  }

 private:
  struct Watched {
    const std::atomic<std::uint32_t>* word;
    std::uint64_t token;
    std::uint32_t last_seen;
    std::uint32_t changes;
  };
  /// An honest word changes twice in its life. One that keeps changing or ringing would keep us awake: it is dropped.
  static constexpr std::uint32_t kChangesMax = 16;

  void wake_thread() {
    generation_.fetch_add(1, std::memory_order_release);
    ::syscall(SYS_futex, &generation_, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
  }

  void run() {
    sigset_t all;  // a host's handlers run on the host's threads
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
    std::array<FutexWaiter, kWordsMax + 1> waiters;
    std::array<std::uint64_t, kWordsMax + 1> tokens;
    long woken = -1;
    for (;;) {
      std::size_t count = 0;
      bool hint = false;
      std::array<std::uint64_t, kWordsMax + 1> tokens_next{};
      // Taken before the set is read: a change after this line makes the wait return at once.
      waiters[count++] = {generation_.load(std::memory_order_acquire), reinterpret_cast<std::uint64_t>(&generation_),
                          kFutex32 | kFutexPrivate, 0};
      {
        const std::lock_guard lock(mutex_);
        if (stopping_) return;
        for (auto one = watched_.begin(); one != watched_.end();) {
          const std::uint32_t value = one->word->load(std::memory_order_acquire);
          const bool rang = woken > 0 && tokens[static_cast<std::size_t>(woken)] == one->token;
          if (value != one->last_seen || rang) ++one->changes;
          one->last_seen = value;
          if ((value & FUTEX_OWNER_DIED) != 0) {
            hinted_.push_back(one->token);
            hint = true;
            one = watched_.erase(one);
          } else if (one->changes > kChangesMax) {
            one = watched_.erase(one);
          } else {
            tokens_next[count] = one->token;
            waiters[count++] = {value, reinterpret_cast<std::uint64_t>(one->word), kFutex32, 0};
            ++one;
          }
        }
      }
      if (hint) bell_.ring();
      tokens = tokens_next;
      woken = futex_waitv(waiters.data(), count);
      if (woken < 0 && errno == EFAULT) {
        // An address that left between the lock and the wait; its removal has rung already, so the next turn is clean.
        std::this_thread::yield();
      }
    }
  }

  EventFd bell_;
  std::atomic<std::uint32_t> generation_{0};
  std::mutex mutex_;
  std::vector<Watched> watched_;       // guarded by mutex_
  std::vector<std::uint64_t> hinted_;  // guarded by mutex_
  bool stopping_ = false;              // guarded by mutex_
  std::thread thread_;                 // last: starts when everything above is there
};

}  // namespace

Result<std::unique_ptr<DeathWatch>> DeathWatch::start() {
  std::uint32_t word = 0;
  const FutexWaiter probe{1, reinterpret_cast<std::uint64_t>(&word), kFutex32 | kFutexPrivate, 0};
  if (futex_waitv(&probe, 1) < 0 && errno != EAGAIN)  // EAGAIN: it compared, so it is there
    return fail(ErrorCode::unavailable, "watch for deaths: this kernel has no futex_waitv (Linux 5.16)");
  DROVER_TRY(EventFd bell, EventFd::create());
  return std::make_unique<FutexDeathWatch>(std::move(bell));
}

Result<void> hold_death_word(std::atomic<std::uint32_t>* word) {
  robust_list_head* head = nullptr;
  std::size_t head_bytes = 0;
  if (::syscall(SYS_get_robust_list, 0, &head, &head_bytes) != 0) return fail_errno(errno, "find the robust list");
  if (head == nullptr) {  // a libc that registers none: then it is ours alone
    static thread_local robust_list_head own{{&own.list}, 0, nullptr};
    own.futex_offset = -16;
    if (::syscall(SYS_set_robust_list, &own, sizeof own) != 0) return fail_errno(errno, "register a robust list");
    head = &own;
  }
  // The kernel finds the word of an entry at entry + futex_offset, and libc keeps a back pointer just before the entry.
  auto* const begin = reinterpret_cast<std::byte*>(word);
  std::byte* const entry_at = begin - head->futex_offset;
  constexpr std::size_t kBackPointer = sizeof(void*);
  if (entry_at < begin + sizeof *word + kBackPointer || entry_at + sizeof(robust_list) > begin + kDeathWordRoom)
    return fail(ErrorCode::unavailable, "hold the death word: this libc lays out its robust list in an unknown way");

  auto* const entry = reinterpret_cast<robust_list*>(entry_at);
  robust_list* last = &head->list;
  const auto next_of = [](robust_list* one) {
    return reinterpret_cast<robust_list*>(reinterpret_cast<std::uintptr_t>(one->next) & ~std::uintptr_t{1});
  };
  for (int i = 0; next_of(last) != &head->list; ++i) {
    if (i == 2048) return fail(ErrorCode::unavailable, "hold the death word: the robust list does not end");
    last = next_of(last);
  }
  entry->next = &head->list;
  *reinterpret_cast<robust_list**>(entry_at - kBackPointer) = last;
  word->store(static_cast<std::uint32_t>(::syscall(SYS_gettid)) | FUTEX_WAITERS, std::memory_order_release);
  std::atomic_signal_fence(std::memory_order_seq_cst);  // the entry is complete before the kernel can find it
  last->next = entry;
  return {};
}

}  // namespace drover
