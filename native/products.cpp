#include "products.hpp"

#include <algorithm>
#include <vector>

#include "parallel.hpp"

namespace snug {
namespace {

// Eight terms for two rows at a time: sixteen multiplications for twelve loads and stores.
constexpr std::size_t n_together = 8;
// So many columns of all rows and of eight terms stay in the first-level cache.
constexpr std::size_t n_chunk = 192;

template <typename T>
void add_eight(const T *left, const T *right, std::size_t right_stride, T *out_0, T *out_1,
               std::size_t n_cols) noexcept {
    const T *const r0 = right;
    const T *const r1 = right + right_stride;
    const T *const r2 = right + 2 * right_stride;
    const T *const r3 = right + 3 * right_stride;
    const T *const r4 = right + 4 * right_stride;
    const T *const r5 = right + 5 * right_stride;
    const T *const r6 = right + 6 * right_stride;
    const T *const r7 = right + 7 * right_stride;
    const auto a = [left](std::size_t j) { return left[j * n_lanes]; };
    const auto b = [left](std::size_t j) { return left[j * n_lanes + 1]; };
    const T a0 = a(0), a1 = a(1), a2 = a(2), a3 = a(3), a4 = a(4), a5 = a(5), a6 = a(6), a7 = a(7);
    const T b0 = b(0), b1 = b(1), b2 = b(2), b3 = b(3), b4 = b(4), b5 = b(5), b6 = b(6), b7 = b(7);
#pragma omp simd
    for (std::size_t k = 0; k < n_cols; ++k) {
        const T u0 = r0[k];
        const T u1 = r1[k];
        const T u2 = r2[k];
        const T u3 = r3[k];
        const T u4 = r4[k];
        const T u5 = r5[k];
        const T u6 = r6[k];
        const T u7 = r7[k];
        T x = out_0[k];
        T y = out_1[k];
        x += a0 * u0;
        y += b0 * u0;
        x += a1 * u1;
        y += b1 * u1;
        x += a2 * u2;
        y += b2 * u2;
        x += a3 * u3;
        y += b3 * u3;
        x += a4 * u4;
        y += b4 * u4;
        x += a5 * u5;
        y += b5 * u5;
        x += a6 * u6;
        y += b6 * u6;
        x += a7 * u7;
        y += b7 * u7;
        out_0[k] = x;
        out_1[k] = y;
    }
}

template <typename T>
void add_one(T factor, const T *right, T *out, std::size_t n_cols) noexcept {
#pragma omp simd
    for (std::size_t k = 0; k < n_cols; ++k) out[k] += factor * right[k];
}

}  // namespace

template <typename T>
void add_products(const T *left, std::size_t n_terms, const T *right, std::size_t right_stride,
                  T *out, std::size_t out_stride, std::size_t n_cols) noexcept {
    for (std::size_t start = 0; start < n_cols; start += n_chunk) {
        const std::size_t n = std::min(n_chunk, n_cols - start);
        std::size_t j = 0;
        for (; j + n_together <= n_terms; j += n_together)
            for (std::size_t r = 0; r < n_lanes; r += 2) {
                T *const row = out + r * out_stride + start;
                add_eight(left + j * n_lanes + r, right + j * right_stride + start, right_stride,
                          row, row + out_stride, n);
            }
        for (; j < n_terms; ++j)
            for (std::size_t r = 0; r < n_lanes; ++r)
                add_one(left[j * n_lanes + r], right + j * right_stride + start,
                        out + r * out_stride + start, n);
    }
}

template void add_products<float>(const float *, std::size_t, const float *, std::size_t, float *,
                                  std::size_t, std::size_t) noexcept;
template void add_products<double>(const double *, std::size_t, const double *, std::size_t,
                                   double *, std::size_t, std::size_t) noexcept;

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
