// Checks the offsets of packed sequences, with the same messages for every interface.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace recblr {

// Returns an empty string, or the problem of offsets[0, count).  They must run from 0 to rows and must not decrease.
inline std::string offsets_problem(const std::int64_t* offsets, std::size_t count, std::int64_t rows) {
  if (offsets[0] != 0) return "offsets must start with 0, but starts with " + std::to_string(offsets[0]);
  for (std::size_t i = 1; i < count; ++i)
    if (offsets[i] < offsets[i - 1])
      return "offsets must not decrease, but offsets[" + std::to_string(i) + "] is " + std::to_string(offsets[i]) +
             " after " + std::to_string(offsets[i - 1]);
  if (offsets[count - 1] != rows)
    return "offsets must end with the number of rows " + std::to_string(rows) + ", but ends with " +
           std::to_string(offsets[count - 1]);
  return {};
}

}  // namespace recblr
