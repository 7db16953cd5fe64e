// What was wrong with the input, and what to do about it: one clear sentence each.  Becomes recblr.InputError in
// Python.
#pragma once
#include <exception>
#include <string>
#include <string_view>
#include <utility>

namespace recblr::engine {

struct Problem : std::exception {
  std::string problem, remedy;

  Problem(std::string problem, std::string remedy)
      : problem(std::move(problem)), remedy(std::move(remedy)), text_(this->problem + "; " + this->remedy) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

// Parts of such a sentence.
std::string quoted(std::string_view id);      // on one line, and not longer than a line
std::string moment_in_words(double seconds);  // the date of a time in seconds since 1970

}  // namespace recblr::engine
