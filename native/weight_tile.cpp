#include "weight_tile.hpp"

#include <algorithm>
#include <cmath>

#include "floats.hpp"

namespace snug {
namespace {

float float_of(std::uint16_t half) noexcept {
    float number = 0;
    half_to_float({&half, 1}, {&number, 1});
    return number;
}

std::uint16_t half_of(float number) noexcept {
    std::uint16_t half = 0;
    float_to_half({&number, 1}, {&half, 1});
    return half;
}

}  // namespace

Lanes<float> as_halves(const Lanes<float> &numbers) noexcept {
    Lanes<std::uint16_t> halves;
    Lanes<float> rounded;
    float_to_half(numbers, halves);
    half_to_float(halves, rounded);
    return rounded;
}

WeightTile::WeightTile(const BlockType &block_type, std::span<const float> weights,
                       std::span<const std::uint8_t> blocks, std::size_t rows_in_use)
    : type(block_type),
      n_rows(rows_in_use),
      n_cols(weights.size() / rows_in_use),
      rows(n_cols),
      codes(n_cols),
      scales(n_cols / type.group_size),
      minimums(scales.size()),
      d(n_cols / type.n_elements),
      d_minimum(d.size()),
      groups(scales.size()) {
    for (std::size_t r = 0; r < n_rows; ++r)
        std::ranges::copy(weights.subspan(r * n_cols, n_cols), rows.row(r));
    read(blocks);
}

void WeightTile::read(std::span<const std::uint8_t> blocks) {
    const std::size_t n_groups = type.n_groups();
    Block block;
    for (std::size_t r = 0; r < n_rows; ++r)
        for (std::size_t b = 0; b < d.size(); ++b) {
            unpack_block(type, blocks.data() + (r * d.size() + b) * type.n_bytes, block);
            d[b][r] = float_of(block.d);
            d_minimum[b][r] = float_of(block.d_minimum);
            for (std::size_t g = 0; g < n_groups; ++g) {
                scales[b * n_groups + g][r] = block.scales[g];
                minimums[b * n_groups + g][r] = block.minimums[g];
            }
            for (std::size_t i = 0; i < type.n_elements; ++i)
                codes[b * type.n_elements + i][r] = block.codes[i];
        }
    for (std::size_t b = 0; b < d.size(); ++b) update_groups(b);
}

void WeightTile::write(std::span<std::uint8_t> blocks) const {
    const std::size_t n_groups = type.n_groups();
    Block block;
    for (std::size_t r = 0; r < n_rows; ++r)
        for (std::size_t b = 0; b < d.size(); ++b) {
            block.d = half_of(d[b][r]);
            block.d_minimum = half_of(d_minimum[b][r]);
            for (std::size_t g = 0; g < n_groups; ++g) {
                block.scales[g] = scales[b * n_groups + g][r];
                block.minimums[g] = minimums[b * n_groups + g][r];
            }
            for (std::size_t i = 0; i < type.n_elements; ++i)
                block.codes[i] = codes[b * type.n_elements + i][r];
            pack_block(type, block, blocks.data() + (r * d.size() + b) * type.n_bytes);
        }
}

void WeightTile::update_groups(std::size_t block) noexcept {
    const std::size_t n_groups = type.n_groups();
    for (std::size_t g = block * n_groups; g < (block + 1) * n_groups; ++g) {
        GroupLanes &group = groups[g];
        for (std::size_t r = 0; r < n_lanes; ++r)
            group.set(r, d[block][r] * static_cast<float>(scales[g][r]),
                      d_minimum[block][r] * static_cast<float>(minimums[g][r]));
    }
}

void WeightTile::levels_of(std::size_t column, Lanes<float> &levels) const noexcept {
    const Lanes<std::uint8_t> &column_codes = codes[column];
    if (type.table.empty()) {
        const int lowest = type.lowest_level;
#pragma omp simd
        for (std::size_t r = 0; r < n_lanes; ++r)
            levels[r] = static_cast<float>(static_cast<int>(column_codes[r]) + lowest);
    } else {
        for (std::size_t r = 0; r < n_lanes; ++r)
            levels[r] = static_cast<float>(type.table[column_codes[r]]);
    }
}

void WeightTile::values_of(std::size_t column, Lanes<float> &values) const noexcept {
    const GroupLanes &group = group_of(column);
    Lanes<float> levels;
    levels_of(column, levels);
#pragma omp simd
    for (std::size_t r = 0; r < n_lanes; ++r)
        values[r] = group.scale[r] * levels[r] - group.minimum[r];
}

void round_to(const BlockType &type, const GroupLanes &group, const Lanes<float> &targets,
              Lanes<std::uint8_t> &nearest, Lanes<float> &values) noexcept {
    if (type.table.empty()) {
        const auto offset = static_cast<float>(type.lowest_level);
        const auto lowest = static_cast<float>(type.lowest_level + type.lowest_code);
        const auto highest = static_cast<float>(type.lowest_level + type.highest_code);
#pragma omp simd
        for (std::size_t r = 0; r < n_lanes; ++r) {
            float level = std::nearbyint((targets[r] + group.minimum[r]) * group.inverse[r]);
            level = level > lowest ? level : lowest;
            level = level < highest ? level : highest;
            nearest[r] = static_cast<std::uint8_t>(static_cast<int>(level - offset));
            values[r] = group.scale[r] * level - group.minimum[r];
        }
        return;
    }
    Lanes<std::int32_t> indices{};
    for (std::size_t i = 0; i + 1 < type.table.size(); ++i) {
        const float middle = 0.5F * static_cast<float>(type.table[i] + type.table[i + 1]);
#pragma omp simd
        for (std::size_t r = 0; r < n_lanes; ++r)
            indices[r] += targets[r] * group.inverse[r] > middle ? 1 : 0;
    }
    for (std::size_t r = 0; r < n_lanes; ++r) {
        nearest[r] = static_cast<std::uint8_t>(indices[r]);
        values[r] = group.scale[r] * static_cast<float>(type.table[nearest[r]]);
    }
}

}  // namespace snug
