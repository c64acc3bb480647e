// Goal: docs/checkpoint_format.md is true. Method: its worked example is read by the code, gives the same text and the id beside it.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "store/manifest.hpp"

namespace drover::store::test {
namespace {

TEST(CheckpointFormat, TheWorkedExampleIsAManifestWithThatId) {
  std::ifstream file(std::string(DROVER_SOURCE_DIR) + "/docs/checkpoint_format.md");
  std::stringstream all;
  all << file.rdbuf();
  const std::string page = all.str();
  const auto id_at = page.find("whose id is `");
  const auto begin = page.find("```json\n", id_at), end = page.find("```", begin + 8);
  ASSERT_TRUE(id_at != std::string::npos && begin != std::string::npos && end != std::string::npos);
  const std::string text = page.substr(begin + 8, end - begin - 8);
  const auto manifest = parse_manifest(text);
  ASSERT_TRUE(manifest.has_value()) << manifest.error().what();
  EXPECT_EQ(text_of(*manifest), text);
  EXPECT_EQ(id_of(*manifest), page.substr(id_at + 13, 64));
  EXPECT_EQ(manifest->fingerprint.features.size(), 2u);
}

}  // namespace
}  // namespace drover::store::test
