// W adjacent elements of an array in the type that they are computed in.  Where that is the type they are
// stored in, the row itself; else a buffer beside it.
//
// Included inside an instruction set's namespace (see recurrence.h).

template <int W, typename T>
struct ReadRow {
  const T* __restrict at;
  explicit RECBLR_HD ReadRow(const T* row) : at(row) {}
};
template <int W, typename T>
struct WriteRow {
  T* __restrict at;
  explicit RECBLR_HD WriteRow(T* row) : at(row) {}
  RECBLR_HD void done() {}
};

template <int W, typename T>
struct ReadConverted {
  float at[W];
  explicit RECBLR_HD ReadConverted(const T* __restrict row) {
    widen_row<W>(row, at);
  }
};
template <int W, typename T>
struct WriteConverted {
  T* __restrict row;
  float at[W];
  explicit RECBLR_HD WriteConverted(T* row) : row(row) {}
  RECBLR_HD void done() {
    put_row<W>(row, at);
  }
};

template <int W>
struct ReadRow<W, Bfloat16> : ReadConverted<W, Bfloat16> {
  using ReadConverted<W, Bfloat16>::ReadConverted;
};
template <int W>
struct ReadRow<W, Float16> : ReadConverted<W, Float16> {
  using ReadConverted<W, Float16>::ReadConverted;
};
template <int W>
struct WriteRow<W, Bfloat16> : WriteConverted<W, Bfloat16> {
  using WriteConverted<W, Bfloat16>::WriteConverted;
};
template <int W>
struct WriteRow<W, Float16> : WriteConverted<W, Float16> {
  using WriteConverted<W, Float16>::WriteConverted;
};
