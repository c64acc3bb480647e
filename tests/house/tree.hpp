#pragma once
// The checkout as the house's tests see it: its own text files, by path from the root, read line by line.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace drover::test::house {

namespace fs = std::filesystem;

inline const fs::path& root() {
  static const fs::path path = DROVER_SOURCE_DIR;
  return path;
}

inline std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(std::move(line));
  return lines;
}

struct File {
  std::string path;  // from the root, with '/'
  std::vector<std::string> lines;
  bool under(std::string_view folder) const { return path.starts_with(folder) && path.size() > folder.size() && path[folder.size()] == '/'; }
  bool is_cpp() const { return path.ends_with(".hpp") || path.ends_with(".cpp") || path.ends_with(".h") || path.ends_with(".c"); }
};

/// Every text file of ours, sorted by path: no builds, no job directories, nothing hidden but .ci.
inline const std::vector<File>& files() {
  static const std::vector<File> all = [] {
    std::vector<File> found;
    const std::set<std::string> skipped = {"build", "drover-jobs"};
    for (auto it = fs::recursive_directory_iterator(root()); it != fs::recursive_directory_iterator(); ++it) {
      const std::string name = it->path().filename();
      if (it->is_directory()) {
        const bool ours = it.depth() > 0 || (!skipped.contains(name) && (name[0] != '.' || name == ".ci"));
        if (!ours || name == "__pycache__") it.disable_recursion_pending();
        continue;
      }
      if (!it->is_regular_file() || it->file_size() > (1u << 22)) continue;
      const std::string text = read(it->path());
      if (text.find('\0') != std::string::npos) continue;
      found.push_back({fs::relative(it->path(), root()).generic_string(), lines_of(text)});
    }
    std::ranges::sort(found, {}, &File::path);
    return found;
  }();
  return all;
}

/// "path:12: line", the form a compiler and an editor understand.
inline std::string at(const File& file, std::size_t index) { return file.path + ":" + std::to_string(index + 1) + ": " + file.lines[index]; }

}  // namespace drover::test::house
