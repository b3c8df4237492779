// Sums of outer products of rows: the second moment of what goes into a matrix.
#pragma once

#include <cstddef>
#include <span>

namespace snug {

// Rows of `n_cols` floats, and the sums [n_cols, n_block] that they are added to. The columns are
// in blocks of `n_block`, the last of which may be smaller: sums[i][j] belongs to column i and the
// column j of the block of i. Columns of different blocks are not multiplied.
struct OuterProducts {
    std::size_t n_cols;
    std::size_t n_block;
    std::span<const float> rows;    // [n_rows * n_cols]
    std::span<const float> counts;  // [n_rows]: what each is multiplied with; 0: it is left out
    std::span<float> sums;          // [n_cols * n_block]
    std::span<double> totals;       // [n_cols], or none
};

// Adds x xT of all rows x to the sums, on and right of the diagonal; what is left of it is added to
// in part, and means nothing. To the totals go the rows that are not left out, as they are. On
// `n_threads` threads (0: one for each logical core); the result does not depend on their number.
// Throws std::bad_alloc: it takes a copy of the rows.
void add_outer_products(const OuterProducts &products, unsigned n_threads);

// The sum of the squares of each row, [n_rows]: finite if its numbers are.
void sum_squares(std::span<const float> rows, std::span<double> sums, unsigned n_threads);

}  // namespace snug
