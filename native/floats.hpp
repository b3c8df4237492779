// The 16-bit floats of model files to float32 and back, rounded to nearest, ties to even.
#pragma once

#include <cstdint>
#include <span>

namespace snug {

/// `out` has as many numbers as `in`, in each of these. A NaN stays one; a number that F16 cannot
/// hold becomes infinite.
void bf16_to_float(std::span<const std::uint16_t> in, std::span<float> out);
void half_to_float(std::span<const std::uint16_t> in, std::span<float> out);
void float_to_bf16(std::span<const float> in, std::span<std::uint16_t> out);
void float_to_half(std::span<const float> in, std::span<std::uint16_t> out);

}  // namespace snug
