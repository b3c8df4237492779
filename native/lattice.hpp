// Finds weights that are, to the last bit, what the blocks of a ggml type hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace snug {

/// The float type that weights were rounded to (nearest, ties to even) when they were stored.
enum class StoredFloat : std::uint8_t { f32, f16, bf16 };

/// The types that are tried, with blocks of 32.
enum class Lattice : std::uint8_t { mxfp4, q4_0, q4_1, q5_0, q8_0 };

std::size_t block_bytes(Lattice lattice) noexcept;

/// Writes the blocks, [n_rows * n_cols / 32], whose values are `values` [n_rows * n_cols] once they
/// are rounded to `stored`; only the sign of a zero is lost. Returns how many rows were written: it
/// stops at the first one with a block that the lattice does not hold. The same row gives the same
/// bytes.
///
/// The scale follows from the largest weight, once for each code that this may have; all halves are
/// tried that rounding to `stored` leaves open, and one is taken only if it gives every weight back.
std::size_t fit_rows(std::span<const float> values, std::size_t n_cols, StoredFloat stored,
                     Lattice lattice, std::span<std::uint8_t> blocks) noexcept;

}  // namespace snug
