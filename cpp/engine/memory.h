// Large blocks of memory, on huge pages where the system grants them: random reads then miss fewer page tables.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <utility>

namespace recblr::engine {

class Memory {
 public:
  Memory() = default;
  // The bytes are zero, and take no memory before they are written.
  explicit Memory(std::size_t bytes) : size_((bytes + kSmallPage - 1) / kSmallPage * kSmallPage) {
    if (size_ == 0) return;
    // Room for the start to be moved to the next whole huge page.
    void* all =
        mmap(nullptr, size_ + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) throw std::bad_alloc();
    char* const begin = static_cast<char*>(all);
    const std::size_t before = (kPage - reinterpret_cast<std::size_t>(begin) % kPage) % kPage;
    if (before) munmap(begin, before);
    if (before < kPage) munmap(begin + before + size_, kPage - before);
    data_ = begin + before;
#if defined(MADV_HUGEPAGE)
    // Not the rest beyond the last whole huge page, which would take a huge page of its own.
    if (size_ >= kPage) madvise(data_, size_ / kPage * kPage, MADV_HUGEPAGE);
#endif
  }
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Memory() {
    if (data_) munmap(data_, size_);
  }
  char* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  static constexpr std::size_t kPage = std::size_t{2} << 20, kSmallPage = 65536;  // a multiple of the small pages
  char* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace recblr::engine
