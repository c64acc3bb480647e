#pragma once
/// SHA-256 of texts, as 64 lower-case hex digits.

#include <string>
#include <string_view>

namespace drover::judge {

std::string sha256_hex(std::string_view text);

/// The hash of a sequence: each text is hashed together with what came before.
class HashChain {
 public:
  void add(std::string_view text) { hash_ = sha256_hex(hash_ + sha256_hex(text)); }
  const std::string& hex() const { return hash_; }

 private:
  std::string hash_;
};

}  // namespace drover::judge
