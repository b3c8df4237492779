#include "second_moment.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <thread>
#include <vector>

#include "parallel.hpp"
#include "prefetch.hpp"

namespace snug {
namespace {

// A tile of n_tile_rows x n_tile_cols sums stays in registers while rows go by. The columns are
// copied into panels of n_panel, in which one row after the other lies side by side.
#ifdef __AVX512F__
constexpr std::size_t n_panel = 32;
constexpr std::size_t n_tile_rows = 8;
constexpr std::size_t n_tile_cols = 32;
#else
constexpr std::size_t n_panel = 48;
constexpr std::size_t n_tile_rows = 6;
constexpr std::size_t n_tile_cols = 16;
#endif
// So many rows of a panel fit into the fastest cache, and so many panels into the next one.
constexpr std::size_t n_rows_at_once = 4096 / n_panel;
constexpr std::size_t n_panels_of_strip = 4;

constexpr std::size_t products_per_thread = 1U << 20U;
constexpr std::size_t n_squares_at_once = 1U << 16U;
constexpr std::size_t n_lanes_of_squares = 16;

using Tile = std::array<std::array<float, n_tile_cols>, n_tile_rows>;

// left points at n_tile_rows columns of a panel, right at n_tile_cols; rows are added in order.
inline void multiply(const float *left, const float *right, std::size_t n_rows,
                     Tile &tile) noexcept {
    Tile sums{};
    for (std::size_t row = 0; row < n_rows; ++row, left += n_panel, right += n_panel) {
#pragma GCC unroll 8
        for (std::size_t i = 0; i < n_tile_rows; ++i) {
            const float x = left[i];
#pragma omp simd
            for (std::size_t j = 0; j < n_tile_cols; ++j) sums[i][j] += x * right[j];
        }
    }
    tile = sums;
}

// The panels of one block of columns, and the sums of that block.
class Block {
  public:
    Block(const OuterProducts &all, std::span<const std::size_t> rows_that_count, std::size_t start)
        : products_(all),
          kept_(rows_that_count),
          first_(start),
          n_(std::min(all.n_block, all.n_cols - start)),
          n_rows_(kept_.size()),
          n_block_(all.n_block),
          n_panels_((n_ + n_panel - 1) / n_panel),
          // Its memory comes from the system when it is written to, on all threads.
          panels_(new float[n_panels_ * n_rows_ * n_panel]),
          sums_(all.sums.data() + start * all.n_block) {}

    std::size_t n_panels() const { return n_panels_; }

    // Copies the rows' columns of one panel, and adds them to the totals.
    void fill(std::size_t panel) noexcept {
        const std::size_t first = first_ + panel * n_panel;
        const std::size_t n_cols = width(panel);
        std::array<double, n_panel> totals{};
        float *out = at(panel, 0);
        for (const std::size_t row : kept_) {
            const float *const x = products_.rows.data() + row * products_.n_cols + first;
            const float count = products_.counts[row];
#pragma omp simd
            for (std::size_t j = 0; j < n_cols; ++j) {
                totals[j] += static_cast<double>(x[j]);
                out[j] = x[j] * count;
            }
            std::fill(out + n_cols, out + n_panel, 0.0F);
            out += n_panel;
        }
        if (products_.totals.empty()) return;
        for (std::size_t j = 0; j < n_cols; ++j) products_.totals[first + j] += totals[j];
    }

    std::size_t n_strips() const { return (n_panels_ + n_panels_of_strip - 1) / n_panels_of_strip; }

    // Adds to the sums of a few panels of columns, with all that are not left of them.
    void add_strip(std::size_t strip) noexcept {
        const std::size_t first = strip * n_panels_of_strip;
        const std::size_t last = std::min(first + n_panels_of_strip, n_panels_);
        for (std::size_t row = 0; row < n_rows_; row += n_rows_at_once) {
            const std::size_t n = std::min(n_rows_at_once, n_rows_ - row);
            for (std::size_t right = first; right < n_panels_; ++right)
                for (std::size_t left = first; left < std::min(last, right + 1); ++left)
                    add_panels(left, right, row, n);
        }
    }

  private:
    float *at(std::size_t panel, std::size_t row) {
        return panels_.get() + (panel * n_rows_ + row) * n_panel;
    }
    std::size_t width(std::size_t panel) const { return std::min(n_panel, n_ - panel * n_panel); }

    void add_panels(std::size_t left, std::size_t right, std::size_t row, std::size_t n) noexcept {
        for (std::size_t j = 0; j < width(right); j += n_tile_cols)
            for (std::size_t i = 0; i < width(left); i += n_tile_rows) {
                const std::size_t n_sum_rows = std::min(n_tile_rows, width(left) - i);
                const std::size_t n_sum_cols = std::min(n_tile_cols, width(right) - j);
                float *sums = sums_ + (left * n_panel + i) * n_block_ + right * n_panel + j;
                for (std::size_t k = 0; k < n_sum_rows; ++k) {
                    expect_to_write(sums + k * n_block_);
                    expect_to_write(sums + k * n_block_ + n_sum_cols - 1);
                }
                Tile tile;
                multiply(at(left, row) + i, at(right, row) + j, n, tile);
                for (std::size_t k = 0; k < n_sum_rows; ++k, sums += n_block_)
                    for (std::size_t l = 0; l < n_sum_cols; ++l) sums[l] += tile[k][l];
            }
    }

    const OuterProducts &products_;
    std::span<const std::size_t> kept_;
    std::size_t first_, n_, n_rows_, n_block_, n_panels_;
    std::unique_ptr<float[]> panels_;  // [n_panels][n_rows][n_panel], zero beyond the last column
    float *sums_;
};

}  // namespace

void add_outer_products(const OuterProducts &products, unsigned n_threads) {
    std::vector<std::size_t> kept;
    for (std::size_t row = 0; row < products.counts.size(); ++row)
        if (products.counts[row] != 0.0F) kept.push_back(row);
    const std::size_t n_products = kept.size() * products.n_cols * products.n_block;
    const unsigned wanted = n_threads > 0 ? n_threads : std::thread::hardware_concurrency();
    const unsigned useful = static_cast<unsigned>(
        std::clamp<std::size_t>(n_products / products_per_thread, 1, std::max(wanted, 1U)));
    for (std::size_t first = 0; first < products.n_cols; first += products.n_block) {
        Block block(products, kept, first);
        for_each_piece(block.n_panels(), useful, [&](std::size_t i) noexcept { block.fill(i); });
        for_each_piece(block.n_strips(), useful, [&](std::size_t i) noexcept { block.add_strip(i); });
    }
}

void sum_squares(std::span<const float> rows, std::span<double> sums, unsigned n_threads) {
    const std::size_t n_cols = rows.size() / std::max<std::size_t>(sums.size(), 1);
    const std::size_t at_once = std::max<std::size_t>(n_squares_at_once / std::max<std::size_t>(n_cols, 1), 1);
    const auto some = [&](std::size_t piece) noexcept {
        for (std::size_t row = piece * at_once; row < std::min(sums.size(), (piece + 1) * at_once);
             ++row) {
            const float *const x = rows.data() + row * n_cols;
            std::array<double, n_lanes_of_squares> lanes{};
            const std::size_t n_whole = n_cols / n_lanes_of_squares * n_lanes_of_squares;
            for (std::size_t i = 0; i < n_whole; i += n_lanes_of_squares)
#pragma omp simd
                for (std::size_t j = 0; j < n_lanes_of_squares; ++j) {
                    const auto number = static_cast<double>(x[i + j]);
                    lanes[j] += number * number;
                }
            double sum = 0.0;
            for (const double lane : lanes) sum += lane;
            for (std::size_t i = n_whole; i < n_cols; ++i)
                sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
            sums[row] = sum;
        }
    };
    for_each_piece((sums.size() + at_once - 1) / at_once, n_threads, some);
}

}  // namespace snug
