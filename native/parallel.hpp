// Independent pieces of work on several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <future>
#include <thread>
#include <vector>

namespace snug {

/// Calls `work(i)` for every i below `n_pieces`, on `n_threads` threads (0: one for each logical
/// core) that each took a copy of `work`. What it throws is thrown here.
template <typename Work>
void for_each_piece(std::size_t n_pieces, unsigned n_threads, const Work &work) {
    std::atomic<std::size_t> next{0};
    const auto run = [&next, n_pieces](Work mine) {
        for (std::size_t i = next.fetch_add(1); i < n_pieces; i = next.fetch_add(1)) mine(i);
    };
    const std::size_t wanted = n_threads > 0 ? n_threads : std::thread::hardware_concurrency();
    const std::size_t n_helpers = std::max<std::size_t>(std::min(wanted, n_pieces), 1) - 1;
    std::vector<std::future<void>> helpers;  // joined by their destructors, also on an exception
    helpers.reserve(n_helpers);
    for (std::size_t i = 0; i < n_helpers; ++i)
        helpers.push_back(std::async(std::launch::async, run, work));
    run(work);
    for (std::future<void> &helper : helpers) helper.get();
}

}  // namespace snug
