#include "solve/hash.hpp"

#include <openssl/evp.h>

#include <new>

namespace drover::solve {

struct Sha256::Impl {
  EVP_MD_CTX* context = nullptr;
  ~Impl() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {
  impl_->context = EVP_MD_CTX_new();
  if (impl_->context == nullptr || EVP_DigestInit_ex(impl_->context, EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::add(BytesView bytes) { EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()); }
void Sha256::add(std::string_view text) { add(std::as_bytes(std::span(text.data(), text.size()))); }

Hash256 Sha256::finish() {
  Hash256 out{};
  unsigned int length = 0;
  EVP_DigestFinal_ex(impl_->context, out.data(), &length);
  return out;
}

Hash256 sha256(BytesView bytes) {
  Sha256 hasher;
  hasher.add(bytes);
  return hasher.finish();
}

Hash256 sha256(std::string_view text) { return sha256(std::as_bytes(std::span(text.data(), text.size()))); }

std::string hex(const Hash256& hash) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(hash.size() * 2);
  for (const std::uint8_t byte : hash) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace drover::solve
