#include "second_moment.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <future>
#include <thread>
#include <vector>

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
    Block(const OuterProducts &products, std::size_t first)
        : n_(std::min(products.n_block, products.n_cols - first)),
          n_rows_(products.rows.size() / products.n_cols),
          n_block_(products.n_block),
          n_panels_((n_ + n_panel - 1) / n_panel),
          panels_(n_panels_ * n_rows_ * n_panel),
          sums_(products.sums.data() + first * products.n_block) {
        for (std::size_t row = 0; row < n_rows_; ++row) {
            const float *const x = products.rows.data() + row * products.n_cols + first;
            for (std::size_t panel = 0; panel < n_panels_; ++panel)
                std::copy_n(x + panel * n_panel, width(panel), at(panel, row));
        }
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
        return panels_.data() + (panel * n_rows_ + row) * n_panel;
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

    std::size_t n_, n_rows_, n_block_, n_panels_;
    std::vector<float> panels_;  // [n_panels][n_rows][n_panel], zero beyond the last column
    float *sums_;
};

}  // namespace

void add_outer_products(const OuterProducts &products, unsigned n_threads) {
    const std::size_t wanted = n_threads > 0 ? n_threads : std::thread::hardware_concurrency();
    const std::size_t useful = products.rows.size() * products.n_block / products_per_thread;
    for (std::size_t first = 0; first < products.n_cols; first += products.n_block) {
        Block block(products, first);
        const std::size_t n_strips = block.n_strips();
        std::atomic<std::size_t> next{0};
        const auto work = [&]() noexcept {
            for (std::size_t i = next.fetch_add(1); i < n_strips; i = next.fetch_add(1))
                block.add_strip(i);
        };
        const std::size_t n_helpers = std::max<std::size_t>(std::min({wanted, useful, n_strips}), 1) - 1;
        std::vector<std::future<void>> helpers;  // joined by their destructors, also on an exception
        helpers.reserve(n_helpers);
        for (std::size_t i = 0; i < n_helpers; ++i)
            helpers.push_back(std::async(std::launch::async, work));
        work();
    }
}

}  // namespace snug
