#include "store/hash.hpp"

#include <openssl/evp.h>
#include <xxhash.h>

#include <cstring>

#include "base/assert.hpp"
#include "base/bytes.hpp"
#include "base/hash.hpp"

namespace drover::store {

std::string hex_of(const Sha256& hash) { return drover::hex_of(std::as_bytes(std::span(hash.bytes))); }

std::optional<Sha256> parse_sha256(std::string_view hex) {
  if (hex.size() != 64) return std::nullopt;
  const auto bytes = bytes_of_hex(hex);
  if (!bytes) return std::nullopt;
  Sha256 hash;
  for (std::size_t i = 0; i < hash.bytes.size(); ++i) hash.bytes[i] = std::to_integer<std::uint8_t>((*bytes)[i]);
  return hash;
}

struct Sha256Stream::Impl {
  EVP_MD_CTX* context = nullptr;
  Impl() : context(EVP_MD_CTX_new()) { DROVER_ASSERT(context != nullptr && EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1); }
  ~Impl() { EVP_MD_CTX_free(context); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
};

Sha256Stream::Sha256Stream() : impl_(std::make_unique<Impl>()) {}
Sha256Stream::~Sha256Stream() = default;
Sha256Stream::Sha256Stream(Sha256Stream&&) noexcept = default;
Sha256Stream& Sha256Stream::operator=(Sha256Stream&&) noexcept = default;

void Sha256Stream::update(std::span<const std::byte> bytes) {
  DROVER_ASSERT(EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()) == 1);
}

Sha256 Sha256Stream::finish() {
  Sha256 hash;
  unsigned int size = 0;
  DROVER_ASSERT(EVP_DigestFinal_ex(impl_->context, hash.bytes.data(), &size) == 1 && size == hash.bytes.size(), size);
  return hash;
}

Sha256 sha256_of(std::span<const std::byte> bytes) {
  Sha256Stream stream;
  stream.update(bytes);
  return stream.finish();
}
Sha256 sha256_of(std::string_view text) { return sha256_of(bytes_of(text)); }

std::uint64_t xxh3_64(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

namespace {
Xxh128 canonical(XXH128_hash_t hash) {
  XXH128_canonical_t text;
  XXH128_canonicalFromHash(&text, hash);
  Xxh128 out;
  std::memcpy(out.data(), text.digest, out.size());
  return out;
}
XXH3_state_t* state_in(void* state) { return static_cast<XXH3_state_t*>(state); }
}  // namespace

Xxh128 xxh3_128(std::span<const std::byte> bytes) { return canonical(XXH3_128bits(bytes.data(), bytes.size())); }

Xxh128Stream::Xxh128Stream() : state_(XXH3_createState()) { DROVER_ASSERT(state_ != nullptr && XXH3_128bits_reset(state_in(state_)) == XXH_OK); }
Xxh128Stream::~Xxh128Stream() { XXH3_freeState(state_in(state_)); }
void Xxh128Stream::update(std::span<const std::byte> bytes) { DROVER_ASSERT(XXH3_128bits_update(state_in(state_), bytes.data(), bytes.size()) == XXH_OK); }
Xxh128 Xxh128Stream::finish() { return canonical(XXH3_128bits_digest(state_in(state_))); }

std::uint64_t fold_of(TaskId task, std::uint64_t spec_hash) { return hash_combine(task.value, spec_hash); }

}  // namespace drover::store
