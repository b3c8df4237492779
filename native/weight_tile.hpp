// Some rows of weights and their blocks, taken apart so that one column of all rows is a vector.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "products.hpp"
#include "scalar_blocks.hpp"

namespace snug {

/// One number for each row of a tile.
template <typename T>
struct alignas(64) Lanes : std::array<T, n_lanes> {};

/// What a tile's rows share for one group of columns: weight = scale * level - minimum.
struct GroupLanes {
    Lanes<float> scale;
    Lanes<float> minimum;
    Lanes<float> inverse;  // of the scale; 0 for a scale of 0
};

class WeightTile {
   public:
    /// `rows` [n_rows * n_cols] and `blocks` [n_rows * row_bytes]; `n_lanes` rows at most.
    WeightTile(const BlockType &type, std::span<const float> rows,
               std::span<const std::uint8_t> blocks, std::size_t n_rows);

    void read(std::span<const std::uint8_t> blocks);
    void write(std::span<std::uint8_t> blocks) const;
    /// Computes the scales of a block's groups again, after its halves or integers changed.
    void update_groups(std::size_t block) noexcept;

    float *row(std::size_t lane) noexcept { return rows.data() + lane * stride; }
    /// The level of each code, and the value that it stands for, in one column.
    void levels_of(std::size_t column, Lanes<float> &levels) const noexcept;
    void values_of(std::size_t column, Lanes<float> &values) const noexcept;
    /// Sets the codes of a column to those nearest to `targets`, and `values` to what they hold.
    void round(std::size_t column, const Lanes<float> &targets, Lanes<std::uint8_t> &nearest,
               Lanes<float> &values) const noexcept;
    const GroupLanes &group_of(std::size_t column) const noexcept {
        return groups[column / type.group_size];
    }

    const BlockType &type;
    std::size_t n_rows;
    std::size_t n_cols;
    std::size_t stride;       // of a row of numbers; no power of two, which a cache cannot hold
    std::vector<float> rows;  // [n_lanes][stride], the weights; rows beyond `n_rows` are 0
    std::vector<Lanes<std::uint8_t>> codes;     // [n_cols]
    std::vector<Lanes<std::int16_t>> scales;    // [n_groups]
    std::vector<Lanes<std::int16_t>> minimums;  // [n_groups]
    std::vector<Lanes<float>> d;                // [n_blocks]
    std::vector<Lanes<float>> d_minimum;        // [n_blocks]
    std::vector<GroupLanes> groups;             // [n_groups]
};

}  // namespace snug
