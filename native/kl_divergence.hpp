// How far one model's next-token distribution is from another's, straight from their logits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace snug {

struct Divergence {
    double kld;            // KL(reference || test), nats
    double nll_reference;  // -log softmax(reference)[target], nats
    double nll_test;       // -log softmax(test)[target], nats
    bool same_top;         // both rank the same token first
};

// Compares two rows of `n_vocab` logits, to about 1e-7 nats. A logit of -inf is a token of
// probability 0; in the KL divergence so is one more than 87 below the top, the range of float. NaN
// or +inf anywhere in a row, or a row of nothing but -inf, gives NaN. `target` must lie in the row.
Divergence compare_row(std::span<const float> reference, std::span<const float> test,
                       std::size_t target) noexcept;

// One row-major matrix of logits per model, and where the figures of each row go.
struct Comparison {
    std::size_t n_vocab;
    std::span<const float> reference;        // [n_rows * n_vocab]
    std::span<const float> test;             // [n_rows * n_vocab]
    std::span<const std::int32_t> targets;   // [n_rows], each in [0, n_vocab)
    std::span<double> kld;                   // [n_rows]
    std::span<double> nll_reference;         // [n_rows]
    std::span<double> nll_test;              // [n_rows]
    std::span<bool> same_top;                // [n_rows]
};

// Compares all rows on `n_threads` threads (0: one for each logical core).
void compare_rows(const Comparison &rows, unsigned n_threads);

}  // namespace snug
