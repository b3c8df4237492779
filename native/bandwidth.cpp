#include "bandwidth.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace snug {
namespace {

constexpr int n_rounds = 10;  // the first one brings the pages in, others may be disturbed

// As a half, a bfloat16 and a float this is an ordinary number: with others arithmetic is slow.
constexpr std::uint64_t pattern = 0x3c3c3c3c3c3c3c3c;

/// The best of several rounds in which `n_threads` threads share `n_items` of `item_bytes`;
/// `work(first, last)` goes through some of them and returns what must not be left out.
template <typename Work>
double best_bandwidth(unsigned n_threads, std::size_t n_items, std::size_t item_bytes, Work work) {
    std::atomic<std::uint64_t> kept{0};
    double best = 0;
    for (int round = 0; round < n_rounds; ++round) {
        const auto started = std::chrono::steady_clock::now();
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < n_threads; ++i)
            threads.emplace_back([&, i] {
                kept += work(n_items * i / n_threads, n_items * (i + 1) / n_threads);
            });
        for (auto &thread : threads) thread.join();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
        best = std::max(best, static_cast<double>(n_items * item_bytes) / took.count());
    }
    return best;
}

}  // namespace

double read_bandwidth(unsigned n_threads, std::size_t n_bytes) {
    n_threads = std::max(n_threads, 1U);
    const std::size_t n_words = std::max<std::size_t>(n_bytes / sizeof(std::uint64_t), n_threads);
    const std::vector<std::uint64_t> memory(n_words, pattern);
    return best_bandwidth(n_threads, n_words, sizeof(std::uint64_t),
                          [&](std::size_t first, std::size_t last) {
                              std::uint64_t total = 0;
                              for (; first != last; ++first) total += memory[first];
                              return total;
                          });
}

double dot_bandwidth(DotProduct dot, unsigned n_threads, std::size_t n_bytes, int n_cols,
                     std::size_t row_bytes, std::size_t vector_bytes) {
    n_threads = std::max(n_threads, 1U);
    const std::size_t n_rows = std::max<std::size_t>(n_bytes / row_bytes, n_threads);
    const std::vector<std::uint64_t> rows(n_rows * row_bytes / sizeof(std::uint64_t) + 1, pattern);
    const std::vector<std::uint64_t> vector(vector_bytes / sizeof(std::uint64_t) + 1, 0);
    const auto *memory = reinterpret_cast<const std::byte *>(rows.data());
    return best_bandwidth(n_threads, n_rows, row_bytes, [&](std::size_t first, std::size_t last) {
        float result = 0;
        for (; first != last; ++first)
            dot(n_cols, &result, 0, memory + first * row_bytes, 0, vector.data(), 0, 1);
        return static_cast<std::uint64_t>(result == 1);
    });
}

}  // namespace snug
