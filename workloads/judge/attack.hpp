#pragma once
/// `drover judge attack`: the corpus of attacks.txt against this host's sandbox, and what of it got through.

#include <string>
#include <string_view>
#include <vector>

#include "drover/types/error.hpp"
#include "judge/submission.hpp"

namespace drover::judge {

/// The caller's own things an attack may aim at; made for it.
struct Canaries {
  std::string file{}, socket{};
  int port = 0, pid = 0;
};

struct Attack {
  std::string name{};  ///< class/what
  Submission submission{};
  std::string_view kind() const { return std::string_view(name).substr(0, name.find('/')); }
};
/// The whole corpus, its placeholders replaced. An attack whose submission passes has escaped.
std::vector<Attack> attacks(const Canaries& canaries);

Result<int> attack(const std::vector<std::string>& words);

}  // namespace drover::judge
