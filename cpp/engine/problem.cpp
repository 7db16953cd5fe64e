#include "engine/problem.h"

#include <cmath>
#include <cstdio>
#include <ctime>

namespace recblr::engine {

std::string quoted(std::string_view id) {
  constexpr std::size_t kMost = 60;
  std::string text = "'";
  for (std::size_t i = 0; i < id.size(); ++i) {
    const auto byte = static_cast<unsigned char>(id[i]);
    if (i >= kMost && (byte & 0xc0) != 0x80) return text + "…' (" + std::to_string(id.size()) + " bytes)";
    if (byte < 32 || byte == 127) {
      char code[8];
      std::snprintf(code, sizeof code, "\\x%02x", byte);
      text += code;
    } else {
      text += id[i];
    }
  }
  return text + "'";
}

std::string moment_in_words(double seconds) {
  const double whole = std::floor(seconds);
  if (!(std::abs(whole) < 2e11)) return std::to_string(seconds) + " s since 1970";
  const auto time = static_cast<std::time_t>(whole);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02d-%02d %02d:%02d:%02d", parts.tm_year + 1900, parts.tm_mon + 1,
                parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec);
  std::string words = text;
  if (seconds > whole) {
    std::snprintf(text, sizeof text, "%.6f", seconds - whole);
    words += text + 1;
  }
  return words + " UTC";
}

}  // namespace recblr::engine
