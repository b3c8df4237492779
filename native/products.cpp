#include "products.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "parallel.hpp"
#include "prefetch.hpp"

namespace snug {
namespace {

// A tile of sums, of so many rows and columns, stays in registers while terms go by.
constexpr std::size_t n_tile_rows = 2;
#ifdef __AVX512F__
constexpr std::size_t n_tile_cols = 128;
#else
constexpr std::size_t n_tile_cols = 32;
#endif
constexpr std::size_t n_line = 16;  // numbers in a line of a cache
// So many terms of a tile's columns are copied side by side, into the fastest cache.
constexpr std::size_t n_terms_at_once = 64;

// out[r][k] += sum over j of left[j][r] * right[j][k] for one tile; `right` is [n_terms][n_cols].
void add_tile(const float *left, const float *right, std::size_t n_terms, float *out,
              std::size_t out_stride) noexcept {
    constexpr std::size_t n_cols = n_tile_cols;
    std::array<std::array<float, n_cols>, n_tile_rows> sums;
    for (std::size_t r = 0; r < n_tile_rows; ++r)
        std::copy_n(out + r * out_stride, n_cols, sums[r].data());
    for (std::size_t j = 0; j < n_terms; ++j, left += n_lanes, right += n_cols)
        for (std::size_t r = 0; r < n_tile_rows; ++r) {
            const float factor = left[r];
#pragma omp simd
            for (std::size_t k = 0; k < n_cols; ++k) sums[r][k] += factor * right[k];
        }
    for (std::size_t r = 0; r < n_tile_rows; ++r)
        std::copy_n(sums[r].data(), n_cols, out + r * out_stride);
}

// The same for fewer columns than a tile has.
void add_few(const float *left, std::size_t n_terms, const float *right, std::size_t right_stride,
             float *out, std::size_t out_stride, std::size_t n_cols) noexcept {
    for (std::size_t j = 0; j < n_terms; ++j)
        for (std::size_t r = 0; r < n_lanes; ++r) {
            const float factor = left[j * n_lanes + r];
            const float *const terms = right + j * right_stride;
            float *const row = out + r * out_stride;
#pragma omp simd
            for (std::size_t k = 0; k < n_cols; ++k) row[k] += factor * terms[k];
        }
}

}  // namespace

void add_products(const float *left, std::size_t n_terms, const float *right,
                  std::size_t right_stride, float *out, std::size_t out_stride,
                  std::size_t n_cols) noexcept {
    constexpr std::size_t width = n_tile_cols;
    alignas(64) std::array<float, n_terms_at_once * width> panel;
    const std::size_t n_whole = n_cols / width * width;
    for (std::size_t first = 0; first < n_terms; first += n_terms_at_once) {
        const std::size_t n = std::min(n_terms_at_once, n_terms - first);
        const float *const some = left + first * n_lanes;
        const float *const terms = right + first * right_stride;
        for (std::size_t start = 0; start < n_whole; start += width) {
            for (std::size_t j = 0; j < n; ++j)
                std::copy_n(terms + j * right_stride + start, width, panel.data() + j * width);
            for (std::size_t r = 0; r < n_lanes; r += n_tile_rows) {
                // The next tile's columns come from memory meanwhile, some terms at a time.
                for (std::size_t j = r * n / n_lanes; j < (r + n_tile_rows) * n / n_lanes; ++j)
                    for (std::size_t k = 0; k < width; k += n_line)
                        expect_to_read(terms + j * right_stride + start + width + k);
                add_tile(some + r, panel.data(), n, out + r * out_stride + start, out_stride);
            }
        }
        add_few(some, n, terms + n_whole, right_stride, out + n_whole, out_stride,
                n_cols - n_whole);
    }
}

void multiply(std::span<const float> left, std::span<const float> right, std::size_t n_terms,
              std::size_t n_cols, std::span<float> out, unsigned n_threads) {
    const std::size_t n_rows = out.size() / std::max<std::size_t>(n_cols, 1);
    const auto tile = [&](std::size_t i) {
        const std::size_t first = i * n_lanes;
        const std::size_t n = std::min(n_lanes, n_rows - first);
        std::vector<float> lanes(n_terms * n_lanes);
        std::vector<float> sums(n_lanes * n_cols);
        for (std::size_t r = 0; r < n; ++r)
            for (std::size_t j = 0; j < n_terms; ++j)
                lanes[j * n_lanes + r] = left[(first + r) * n_terms + j];
        add_products(lanes.data(), n_terms, right.data(), n_cols, sums.data(), n_cols, n_cols);
        std::copy_n(sums.data(), n * n_cols, out.data() + first * n_cols);
    };
    for_each_piece((n_rows + n_lanes - 1) / n_lanes, n_threads, tile);
}

}  // namespace snug
