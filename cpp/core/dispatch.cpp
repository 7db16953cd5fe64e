#include "core/dispatch.h"

#include <cstdlib>
#include <cstring>
#include <string>

namespace recblr {
namespace {

constexpr Isa kAll[] = {Isa::baseline, Isa::x86_64_v3, Isa::x86_64_v4};

bool supported(Isa isa) {
#if defined(__x86_64__) && !defined(RECBLR_ONE_ISA)
  switch (isa) {
    case Isa::baseline: return true;
    case Isa::x86_64_v3: return __builtin_cpu_supports("x86-64-v3");
    case Isa::x86_64_v4: return __builtin_cpu_supports("x86-64-v4");
  }
#endif
  return isa == Isa::baseline;
}

struct Choice {
  Isa isa = Isa::baseline;
  std::string available, error;

  Choice() {
    for (Isa candidate : kAll) {
      if (!supported(candidate)) continue;
      isa = candidate;
      available += (available.empty() ? "" : ", ") + std::string(isa_name(candidate));
    }
    const char* wanted = std::getenv("RECBLR_ISA");
    if (!wanted || !*wanted) return;
    for (Isa candidate : kAll) {
      if (std::strcmp(wanted, isa_name(candidate)) == 0 && supported(candidate)) {
        isa = candidate;
        return;
      }
    }
    error = "RECBLR_ISA is '" + std::string(wanted) +
            "', which this machine cannot run; unset it or use one of: " + available;
  }
};

const Choice& choice() {
  static const Choice c;
  return c;
}

}  // namespace

Isa isa() { return choice().isa; }
const char* isa_available() { return choice().available.c_str(); }
const char* isa_error() { return choice().error.empty() ? nullptr : choice().error.c_str(); }

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::x86_64_v3: return "x86-64-v3";
    case Isa::x86_64_v4: return "x86-64-v4";
    case Isa::baseline: break;
  }
#if defined(RECBLR_ONE_ISA)
  return "native";
#else
  return "baseline";
#endif
}

}  // namespace recblr
