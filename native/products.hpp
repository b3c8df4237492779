// Products of matrices in one fixed order of additions, whatever the number of threads.
#pragma once

#include <cstddef>
#include <span>

namespace snug {

/// Rows that are worked on together.
constexpr std::size_t n_lanes = 32;

/// out[r][k] += sum over j of left[j][r] * right[j][k], j rising, for r below `n_lanes`.
/// `left` is [n_terms][n_lanes]; rows of the others lie `right_stride` and `out_stride` apart.
void add_products(const float *left, std::size_t n_terms, const float *right,
                  std::size_t right_stride, float *out, std::size_t out_stride,
                  std::size_t n_cols) noexcept;

/// out[r][k] = sum over j of left[r][j] * right[j][k], for row-major matrices.
void multiply(std::span<const float> left, std::span<const float> right, std::size_t n_terms,
              std::size_t n_cols, std::span<float> out, unsigned n_threads);

}  // namespace snug
