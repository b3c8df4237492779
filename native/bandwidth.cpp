#include "bandwidth.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace snug {
namespace {

constexpr int n_rounds = 4;  // the first one brings the pages in

std::uint64_t sum(const std::uint64_t *first, const std::uint64_t *last) {
    std::uint64_t total = 0;
    for (; first != last; ++first) total += *first;
    return total;
}

}  // namespace

double read_bandwidth(unsigned n_threads, std::size_t n_bytes) {
    n_threads = std::max(n_threads, 1U);
    const std::size_t n_words = std::max<std::size_t>(n_bytes / sizeof(std::uint64_t), n_threads);
    const std::vector<std::uint64_t> memory(n_words, 1);
    std::atomic<std::uint64_t> kept{0};  // or the compiler would leave the reading out
    double best = 0;
    for (int round = 0; round < n_rounds; ++round) {
        const auto started = std::chrono::steady_clock::now();
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < n_threads; ++i)
            threads.emplace_back([&, i] {
                const auto *begin = memory.data() + n_words * i / n_threads;
                const auto *end = memory.data() + n_words * (i + 1) / n_threads;
                kept += sum(begin, end);
            });
        for (auto &thread : threads) thread.join();
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - started;
        best = std::max(best, static_cast<double>(n_words * sizeof(std::uint64_t)) / took.count());
    }
    return best;
}

}  // namespace snug
