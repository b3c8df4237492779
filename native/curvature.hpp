// The factor of a second moment that tells how a rounding error is made up for by later columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace snug {

/// The second moment E[x x^T] of the inputs that n columns of weights are multiplied with.
struct Curvature {
    std::span<const float> moment;        // [n * n], in the order of the columns
    std::span<const std::int32_t> order;  // [n], in which columns are rounded
    std::span<const float> feedback;      // [n * n], in that order, of `factor_moment`
    std::span<const float> pivots;        // [n]

    std::size_t n() const noexcept { return order.size(); }
    const float *moment_row(std::size_t i) const noexcept { return moment.data() + i * n(); }
    const float *feedback_row(std::size_t i) const noexcept { return feedback.data() + i * n(); }
};

/// Writes F and D of moment[order, order] = F diag(D) F^T, F upper triangular with ones on its
/// diagonal: `feedback` [n * n] is F and, below the diagonal, F^T; `pivots` [n] is D. False if the moment is not positive definite, to the
/// precision of float. F[i][j] is what an error in column i adds to the target of a later column j
/// (LDLQ of QuIP, arXiv 2307.13304, the same as -inv(H)'s row of GPTQ, arXiv 2210.17323).
bool factor_moment(std::span<const float> moment, std::span<const std::int32_t> order,
                   std::span<float> feedback, std::span<float> pivots, unsigned n_threads);

/// Makes a symmetric matrix `whole` [n * n] of one of which only what is on and right of the diagonal
/// counts, and whose rows are `stride` apart.
void mirror(std::span<const float> upper, std::size_t stride, std::size_t n,
            std::span<float> whole) noexcept;

}  // namespace snug
