// Included inside an instruction set's namespace, never alone (see recurrence-inl.h).
//
// Float32 kernels treat denormals as zero while they run.  A decaying state reaches denormals, and arithmetic on them
// is a hundred times slower.  The caller's mode is restored.

template <typename T>
struct FlushDenormals {};  // float64, real and complex, keeps denormals

template <>
struct FlushDenormals<float> {
#if defined(__x86_64__)
  unsigned mode = __builtin_ia32_stmxcsr();
  FlushDenormals() { __builtin_ia32_ldmxcsr(mode | 0x8040u); }  // FTZ and DAZ
  ~FlushDenormals() { __builtin_ia32_ldmxcsr(mode); }
#elif defined(__aarch64__)
  unsigned long mode;
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(mode));
    asm volatile("msr fpcr, %0" ::"r"(mode | (1ul << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(mode)); }
#else
  FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};
template <>
struct FlushDenormals<Complex<float>> : FlushDenormals<float> {};
