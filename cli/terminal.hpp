#pragma once
/// Our own small terminal: a block of lines redrawn in place. Cursor up, clear, write, inside synchronised-output marks so that
/// nothing flickers; clipped to the width; the cursor is hidden only by `whole` and restored by the destructor.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "drover/types/time.hpp"

namespace drover::cli {

class Screen {
 public:
  enum class Use : unsigned char {
    below,   ///< redraws a block below what was printed before; the last block stays
    whole,   ///< the alternate screen, as `top`
  };
  Screen(int fd, Use use);
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  bool is_terminal() const { return terminal_; }
  std::size_t width() const;    ///< 80 when not a terminal
  std::size_t height() const;   ///< 24 when not a terminal
  void draw(const std::vector<std::string>& lines);
  void draw_text(std::string_view text);
  void clear();                 ///< takes the block away, so that other text can be printed in its place

 private:
  int fd_;
  Use use_;
  bool terminal_;
  bool opened_ = false;
  std::size_t drawn_ = 0;
};

/// Waits; a signal ends it early.
void pause_for(Nanos duration);
/// `1.23 M`, `980`, `45.1 k`.
std::string short_number(double value);

}  // namespace drover::cli
