// Which instruction set's kernels run: the widest that this machine has, unless RECBLR_ISA names one.
#pragma once

namespace recblr {

enum class Isa { baseline, x86_64_v3, x86_64_v4 };

// Chosen once, at first use.  An unusable RECBLR_ISA leaves the best one; isa_error() says why.
Isa isa();
const char* isa_name(Isa);

// Null, or one sentence on why RECBLR_ISA cannot be followed.
const char* isa_error();

// The names that RECBLR_ISA may take on this machine, separated by ", ".
const char* isa_available();

}  // namespace recblr
