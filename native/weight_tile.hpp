// Some rows of weights and their blocks, taken apart so that one column of all rows is a vector.
#pragma once

#include <array>
#include <cmath>
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

/// A row of numbers for each lane.
class LaneRows {
   public:
    /// The stride is no power of two, which would map all rows onto one place in a cache.
    explicit LaneRows(std::size_t n_cols)
        : stride((n_cols + 15) / 16 * 16 + 16), numbers(stride) {}
    float *row(std::size_t lane) noexcept { return numbers[0].data() + lane * stride; }
    const float *row(std::size_t lane) const noexcept { return numbers[0].data() + lane * stride; }

    std::size_t stride;

   private:
    std::vector<Lanes<float>> numbers;  // of `stride` times `n_lanes` numbers
};

/// What a tile's rows share for one group of columns: weight = scale * level - minimum.
struct GroupLanes {
    Lanes<float> scale;
    Lanes<float> minimum;
    Lanes<float> inverse;  // of the scale; 0 for a scale of 0

    void set(std::size_t lane, float new_scale, float new_minimum) noexcept {
        scale[lane] = new_scale;
        minimum[lane] = new_minimum;
        const float reciprocal = 1.0F / new_scale;
        inverse[lane] = std::isfinite(reciprocal) ? reciprocal : 0.0F;
    }
};

/// The codes nearest to `targets`, and the values that they stand for.
void round_to(const BlockType &type, const GroupLanes &group, const Lanes<float> &targets,
              Lanes<std::uint8_t> &nearest, Lanes<float> &values) noexcept;

/// The numbers rounded to halves.
Lanes<float> as_halves(const Lanes<float> &numbers) noexcept;

class WeightTile {
   public:
    /// `rows` [n_rows * n_cols] and `blocks` [n_rows * row_bytes]; `n_lanes` rows at most.
    WeightTile(const BlockType &type, std::span<const float> rows,
               std::span<const std::uint8_t> blocks, std::size_t n_rows);

    void read(std::span<const std::uint8_t> blocks);
    void write(std::span<std::uint8_t> blocks) const;
    /// Computes the scales of a block's groups again, after its halves or integers changed.
    void update_groups(std::size_t block) noexcept;

    /// The level of each code, and the value that it stands for, in one column.
    void levels_of(std::size_t column, Lanes<float> &levels) const noexcept;
    void values_of(std::size_t column, Lanes<float> &values) const noexcept;
    const GroupLanes &group_of(std::size_t column) const noexcept {
        return groups[column / type.group_size];
    }

    const BlockType &type;
    std::size_t n_rows;
    std::size_t n_cols;
    LaneRows rows;  // the weights; 0 beyond `n_rows`
    std::vector<Lanes<std::uint8_t>> codes;     // [n_cols]
    std::vector<Lanes<std::int16_t>> scales;    // [n_groups]
    std::vector<Lanes<std::int16_t>> minimums;  // [n_groups]
    std::vector<Lanes<float>> d;                // [n_blocks]
    std::vector<Lanes<float>> d_minimum;        // [n_blocks]
    std::vector<GroupLanes> groups;             // [n_groups]
};

}  // namespace snug
