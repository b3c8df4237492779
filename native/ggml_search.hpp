// ggml's searches for the scale of a group of weights, for many rows at a time.
//
// After ggml-quants.c of llama.cpp: its functions for one row become those for the lanes of vectors,
// each lane a row. A lane does the same operations in the same order, and none is contracted (see
// CMakeLists.txt): so it has the same bits. What only some rows do is computed for all and taken for
// these. x are weights and w what each counts, [n]; codes are [n], too.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace snug {

constexpr std::size_t n_together = 16;  // rows
constexpr float all_zero = 1e-15F;      // ggml's GROUP_MAX_EPS: less than that is nothing

template <typename T>
struct alignas(64) Each : std::array<T, n_together> {};
using Floats = Each<float>;
using Ints = Each<std::int32_t>;

/// ggml's nearest_int, with its strange results for numbers of more than 22 bits.
inline std::int32_t nearest_int(float number) noexcept {
    return (std::bit_cast<std::int32_t>(number + 12582912.0F) & 0x007FFFFF) - 0x00400000;
}

inline std::int32_t within(std::int32_t lowest, std::int32_t highest, std::int32_t i) noexcept {
    i = i < highest ? i : highest;
    return i > lowest ? i : lowest;
}

/// The number that lies furthest from zero, the first of these; `distance` is how far.
Floats outermost(const Floats *x, std::size_t n, Floats &distance) noexcept;

/// How many levels more than there are the span of a group is divided by, in turn.
struct MinimumSteps {
    float first;
    float each;
    int n;
    bool by_distance;  // errors count by their size, not by its square
};

/// A scale and a minimum so that scale * code - minimum, codes from 0 to `n_max`, is near.
void search_with_minimum(const Floats *x, const Floats *w, std::size_t n, int n_max,
                         const MinimumSteps &steps, Floats &scale, Floats &minimum,
                         Ints *codes) noexcept;

/// A scale so that scale * level, levels from -n_max to n_max - 1, is near. Codes count from the
/// lowest level.
void search_symmetric(const Floats *x, const Floats *w, std::size_t n, int n_max, Floats &scale,
                      Ints *codes) noexcept;

/// The same from the largest number's scale, by better codes one after the other; w is x * x.
void climb_symmetric(const Floats *x, std::size_t n, int n_max, Floats &scale,
                     Ints *codes) noexcept;

/// The scales of a block's groups, none below zero, as codes from 0 to `n_max`; returns their scale.
Floats search_scales(const Floats *x, const Floats *w, std::size_t n, int n_max,
                     Ints *codes) noexcept;

/// The same by the largest of them.
Floats scales_by_largest(const Floats *x, std::size_t n, int n_max, Ints *codes) noexcept;

/// Rising levels, and what lies in the middle of two.
struct Table {
    static constexpr std::size_t n_levels = 16;
    std::array<float, n_levels> levels;
    std::array<float, n_levels - 1> middles;

    explicit Table(std::span<const std::int8_t> table) noexcept;
};

/// A scale so that scale times a level of the table is near.
Floats search_in_table(const Table &table, const Floats *x, const Floats *w,
                       std::size_t n) noexcept;

/// The places of the levels that are nearest to inverse * x, the higher one of two.
void take_from_table(const Table &table, const Floats &inverse, const Floats &x,
                     Ints &codes) noexcept;

}  // namespace snug
