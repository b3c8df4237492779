#include "floats.hpp"

#include <bit>
#include <cstddef>

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace snug {

namespace {

std::uint16_t bf16_of(float number) {
    const auto bits = std::bit_cast<std::uint32_t>(number);
    // A quiet NaN: rounding could make it infinite.
    const std::uint32_t nan = (bits >> 16) | 64;
    const std::uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
    return static_cast<std::uint16_t>((bits & 0x7FFFFFFF) > 0x7F800000 ? nan : rounded);
}

// Without branches and with the rounding of the processor: F. Giesen, "Half to float done quickly"
// and its inverse; the numbers that are subnormal in F16 are aligned by an addition.
float float_of_half(std::uint16_t half) {
    const std::uint32_t shifted = static_cast<std::uint32_t>(half & 0x7FFF) << 13;
    const float scaled = std::bit_cast<float>(shifted) * 0x1p112F;
    auto bits = std::bit_cast<std::uint32_t>(scaled);
    if ((half & 0x7C00) == 0x7C00)
        bits = shifted | 0x7F800000 | (half & 0x03FF ? 0x00400000U : 0U);
    return std::bit_cast<float>(bits | static_cast<std::uint32_t>(half & 0x8000) << 16);
}

std::uint16_t half_of(float number) {
    const auto bits = std::bit_cast<std::uint32_t>(number);
    const std::uint32_t sign = bits >> 16 & 0x8000;
    const std::uint32_t magnitude = bits & 0x7FFFFFFF;
    std::uint32_t half;
    if (magnitude > 0x7F800000) {
        half = 0x7E00 | (magnitude >> 13 & 0x03FF);  // a quiet NaN
    } else if (magnitude >= 0x477FF000) {
        half = 0x7C00;  // 65520 and more round to infinity
    } else if (magnitude < 0x38800000) {
        // Adding 0.5 leaves the bits of a subnormal at the end, rounded.
        const float aligned = std::bit_cast<float>(magnitude) + 0.5F;
        half = std::bit_cast<std::uint32_t>(aligned) - 0x3F000000;
    } else {
        half = (magnitude - 0x38000000 + 0x0FFF + (magnitude >> 13 & 1)) >> 13;
    }
    return static_cast<std::uint16_t>(sign | half);
}

}  // namespace

void bf16_to_float(std::span<const std::uint16_t> in, std::span<float> out) {
    for (std::size_t i = 0; i < in.size(); ++i)
        out[i] = std::bit_cast<float>(static_cast<std::uint32_t>(in[i]) << 16);
}

void half_to_float(std::span<const std::uint16_t> in, std::span<float> out) {
    std::size_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= in.size(); i += 8) {
        const auto *eight = reinterpret_cast<const __m128i *>(in.data() + i);
        _mm256_storeu_ps(out.data() + i, _mm256_cvtph_ps(_mm_loadu_si128(eight)));
    }
#endif
    for (; i < in.size(); ++i)
        out[i] = float_of_half(in[i]);
}

void float_to_bf16(std::span<const float> in, std::span<std::uint16_t> out) {
    for (std::size_t i = 0; i < in.size(); ++i)
        out[i] = bf16_of(in[i]);
}

void float_to_half(std::span<const float> in, std::span<std::uint16_t> out) {
    std::size_t i = 0;
#if defined(__F16C__)
    for (; i + 8 <= in.size(); i += 8) {
        const __m128i eight =
            _mm256_cvtps_ph(_mm256_loadu_ps(in.data() + i), _MM_FROUND_TO_NEAREST_INT);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out.data() + i), eight);
    }
#endif
    for (; i < in.size(); ++i)
        out[i] = half_of(in[i]);
}

}  // namespace snug
