#include "lattice.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "floats.hpp"

namespace snug {
namespace {

constexpr std::size_t block_size = 32;
// So many weights are compared before a look whether one differs: a vector at a time.
constexpr std::size_t step_size = 8;
constexpr std::uint16_t largest_half = 0x7BFF;

using Codes = std::array<float, block_size>;

// A block: scale * code + minimum, with scales as halves, or as a power of two (MXFP4).
struct Block {
    float scale = 0;
    float minimum = 0;
    std::uint8_t exponent = 0;
    Codes codes{};
};

// Of a positive, finite half.
float float_of(std::uint16_t half) noexcept {
    const auto bits = static_cast<std::uint32_t>(half) << 13;
    return std::bit_cast<float>(bits) * 0x1p112F;
}

std::uint16_t half_of(float number) noexcept {
    std::uint16_t half = 0;
    float_to_half({&number, 1}, {&half, 1});
    return half;
}

// How numbers were rounded when they were stored; `reach` is how many halves lie between a number
// and the ends of what is rounded to the same one, at most, `slack` how far the quotient of two such
// numbers may be off, with a margin.
struct RoundToF32 {
    static constexpr int reach = 0;
    static constexpr float slack = 0x1p-20F;
    static float round(float number) noexcept { return number; }
};

struct RoundToF16 {
    static constexpr int reach = 1;
    static constexpr float slack = 0x1p-9F;
    static float round(float number) noexcept {
        const auto bits = std::bit_cast<std::uint32_t>(number);
        const std::uint32_t rounded = (bits + 0x0FFF + ((bits >> 13) & 1)) & 0xFFFFE000;
        const float subnormal = std::nearbyint(number * 0x1p24F) * 0x1p-24F;
        return std::fabs(number) < 0x1p-14F ? subnormal : std::bit_cast<float>(rounded);
    }
};

struct RoundToBf16 {
    static constexpr int reach = 8;
    static constexpr float slack = 0x1p-6F;
    static float round(float number) noexcept {
        const auto bits = std::bit_cast<std::uint32_t>(number);
        return std::bit_cast<float>((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000);
    }
};

// Whether every weight is scale * code + minimum, rounded, for a code in [lowest, highest].
template <typename Stored>
bool holds(const float *values, float scale, float minimum, float lowest, float highest,
           Codes &codes) noexcept {
    const float inverse = 1.0F / scale;
    for (std::size_t start = 0; start < block_size; start += step_size) {
        const float *const in = values + start;
        float *const out = codes.data() + start;
        int differs = 0;
#pragma omp simd reduction(| : differs)
        for (std::size_t i = 0; i < step_size; ++i) {
            float code = std::nearbyint((in[i] - minimum) * inverse);
            code = code > lowest ? code : lowest;  // a NaN, too
            code = code < highest ? code : highest;
            differs |= Stored::round(scale * code + minimum) != in[i] ? 1 : 0;
            out[i] = code;
        }
        if (differs != 0) return false;
    }
    return true;
}

// Whether no weight is too far from a multiple of `scale`, which is known no better than they are.
// The multiples are what to look for around: this spares most scales the trying.
template <typename Stored>
bool may_hold(const float *values, float scale, Codes &codes) noexcept {
    const float inverse = 1.0F / scale;
    for (std::size_t start = 0; start < block_size; start += step_size) {
        const float *const in = values + start;
        float *const out = codes.data() + start;
        int differs = 0;
#pragma omp simd reduction(| : differs)
        for (std::size_t i = 0; i < step_size; ++i) {
            const float quotient = in[i] * inverse;
            out[i] = std::nearbyint(quotient);
            const float off = std::fabs(quotient - out[i]);
            differs |= off > std::fabs(quotient) * Stored::slack + Stored::slack ? 1 : 0;
        }
        if (differs != 0) return false;
    }
    return true;
}

// The scale that fits weights and codes best, by least squares. The products are exact in double,
// and summed in one order on every processor.
float best_scale(const float *values, const Codes &codes) noexcept {
    std::array<double, 4> products{};
    std::array<double, 4> squares{};
    for (std::size_t i = 0; i < block_size; ++i) {
        const auto code = static_cast<double>(codes[i]);
        products[i % 4] += code * static_cast<double>(values[i]);
        squares[i % 4] += code * code;
    }
    const double sum = (products[0] + products[1]) + (products[2] + products[3]);
    const double of_squares = (squares[0] + squares[1]) + (squares[2] + squares[3]);
    return static_cast<float>(sum / of_squares);
}

// Calls `try_half(half)` for the halves around `number`, the nearest first, until it says yes.
template <typename Try>
bool any_half_near(float number, int reach, Try try_half) noexcept {
    const float sign = number < 0 ? -1.0F : 1.0F;
    const int nearest = half_of(std::fabs(number));
    for (int i = 0; i <= 2 * reach; ++i) {
        const int half = nearest + (i % 2 == 1 ? (i + 1) / 2 : -i / 2);
        if (half < 0 || half > largest_half) continue;
        if (try_half(sign * float_of(static_cast<std::uint16_t>(half)))) return true;
    }
    return false;
}

struct Range {
    float low, high;
};

// NaN is passed over.
Range range_of(const float *values) noexcept {
    float low = values[0];
    float high = values[0];
#pragma omp simd reduction(min : low) reduction(max : high)
    for (std::size_t i = 0; i < block_size; ++i) {
        low = values[i] < low ? values[i] : low;
        high = values[i] > high ? values[i] : high;
    }
    return {low, high};
}

bool are_all(const float *values, float wanted) noexcept {
    return std::all_of(values, values + block_size, [=](float value) { return value == wanted; });
}

// `block` has the scale of the block before, which its neighbour often shares.
template <typename Stored>
bool find_symmetric(const float *values, int lowest, int highest, Block &block) noexcept {
    const auto holds_with = [&](float scale) noexcept {
        block.scale = scale;
        return scale != 0 && holds<Stored>(values, scale, 0.0F, static_cast<float>(lowest),
                                           static_cast<float>(highest), block.codes);
    };
    if (holds_with(block.scale)) return true;
    const auto [low, high] = range_of(values);
    const float top = high > -low ? high : low;
    if (top == 0) {
        block = {};
        return are_all(values, 0);
    }
    for (int code = -lowest; code > 0; --code) {
        // Beyond the highest code it can only be the lowest one, where the scale turns the sign.
        const float scale = code > highest ? -top / static_cast<float>(code)
                                           : std::fabs(top) / static_cast<float>(code);
        if (may_hold<Stored>(values, scale, block.codes) &&
            any_half_near(best_scale(values, block.codes), 2 * Stored::reach, holds_with))
            return true;
    }
    return false;
}

// The lowest weight is the minimum, and the highest one has one of the codes 15 to 1.
template <typename Stored>
bool find_asymmetric(const float *values, Block &block) noexcept {
    constexpr float highest_code = 15;
    const auto holds_with = [&](float scale, float minimum) noexcept {
        block.scale = scale;
        block.minimum = minimum;
        return scale > 0 &&
               holds<Stored>(values, scale, minimum, 0.0F, highest_code, block.codes);
    };
    if (holds_with(block.scale, block.minimum)) return true;
    const auto [low, high] = range_of(values);
    if (low == high) {
        block = {};
        return are_all(values, low) && any_half_near(low, Stored::reach, [&](float minimum) {
                   block.minimum = minimum;
                   return Stored::round(minimum) == low;
               });
    }
    if (!std::isfinite(high - low)) return false;
    const float magnitude = std::max(std::fabs(low), std::fabs(high));
    const float uncertainty = std::min(magnitude / (high - low), 8.0F);
    const int reach = static_cast<int>(std::ceil(static_cast<float>(Stored::reach) * uncertainty));
    for (float code = highest_code; code > 0; --code) {
        const bool is_found = any_half_near(low, Stored::reach, [&](float minimum) noexcept {
            return any_half_near((high - minimum) / code, reach, [&](float scale) noexcept {
                return holds_with(scale, minimum);
            });
        });
        if (is_found) return true;
    }
    return false;
}

// Twice the magnitudes of E2M1, by code, and the other way round.
constexpr std::array<int, 8> doubled = {0, 1, 2, 3, 4, 6, 8, 12};
constexpr std::array<std::uint8_t, 13> halved = {0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7};
constexpr std::uint32_t doubled_bits = 0x115F;

// Codes become twice the magnitudes, with their signs.
bool holds_mxfp4(const float *values, float half_scale, Codes &codes) noexcept {
    const float inverse = 1.0F / half_scale;
    int differs = 0;
#pragma omp simd reduction(| : differs)
    for (std::size_t i = 0; i < block_size; ++i) {
        float code = std::nearbyint(values[i] * inverse);
        code = code > -12.0F ? code : -12.0F;
        code = code < 12.0F ? code : 12.0F;
        const auto magnitude = static_cast<int>(std::fabs(code));
        const auto is_known = static_cast<int>(doubled_bits >> magnitude & 1);
        differs |= code * half_scale != values[i] ? 1 : 1 - is_known;
        codes[i] = code;
    }
    return differs == 0;
}

bool find_mxfp4(const float *values, Block &block) noexcept {
    const auto [low, high] = range_of(values);
    const float top = std::max(high, -low);
    if (top == 0) {
        block = {};
        return are_all(values, 0);
    }
    for (std::size_t code = doubled.size() - 1; code > 0; --code) {
        int exponent = 0;  // of the scale
        if (std::frexp(top / static_cast<float>(doubled[code]), &exponent) != 0.5F) continue;
        const int stored = exponent + 127;
        if (stored < 1 || stored > 254) continue;
        block.exponent = static_cast<std::uint8_t>(stored);
        if (holds_mxfp4(values, std::ldexp(1.0F, exponent - 1), block.codes)) return true;
    }
    return false;
}

template <typename Stored>
bool find(const float *values, Lattice lattice, Block &block) noexcept {
    switch (lattice) {
        case Lattice::mxfp4: return find_mxfp4(values, block);
        case Lattice::q4_0: return find_symmetric<Stored>(values, -8, 7, block);
        case Lattice::q4_1: return find_asymmetric<Stored>(values, block);
        case Lattice::q5_0: return find_symmetric<Stored>(values, -16, 15, block);
        case Lattice::q8_0: return find_symmetric<Stored>(values, -128, 127, block);
    }
    return false;
}

// As in ggml-common.h: halves first, then the codes, counted from 0.
void write(const Block &block, Lattice lattice, std::uint8_t *out) noexcept {
    const auto append_half = [&out](float number) noexcept {
        const std::uint16_t half = half_of(number);
        std::memcpy(out, &half, sizeof half);
        out += sizeof half;
    };
    if (lattice == Lattice::mxfp4)
        *out++ = block.exponent;
    else
        append_half(block.scale);
    if (lattice == Lattice::q8_0) {
        for (std::size_t i = 0; i < block_size; ++i)
            out[i] = static_cast<std::uint8_t>(static_cast<int>(block.codes[i]));
        return;
    }
    if (lattice == Lattice::q4_1) append_half(block.minimum);
    const int offset = lattice == Lattice::q4_0 ? 8 : lattice == Lattice::q5_0 ? 16 : 0;
    std::array<std::uint32_t, block_size> codes;
    for (std::size_t i = 0; i < block_size; ++i)
        codes[i] = static_cast<std::uint32_t>(static_cast<int>(block.codes[i]) + offset);
    if (lattice == Lattice::mxfp4)
        for (std::size_t i = 0; i < block_size; ++i) {
            const std::uint32_t sign = block.codes[i] < 0 ? 8 : 0;
            codes[i] = halved[static_cast<std::size_t>(std::fabs(block.codes[i]))] | sign;
        }
    if (lattice == Lattice::q5_0) {
        std::uint32_t fifth_bits = 0;
        for (std::size_t i = 0; i < block_size; ++i) fifth_bits |= (codes[i] >> 4) << i;
        std::memcpy(out, &fifth_bits, sizeof fifth_bits);
        out += sizeof fifth_bits;
    }
    for (std::size_t i = 0; i < block_size / 2; ++i)
        out[i] = static_cast<std::uint8_t>((codes[i] & 15) | (codes[i + block_size / 2] & 15) << 4);
}

template <typename Stored>
std::size_t fit(std::span<const float> values, std::size_t n_cols, Lattice lattice,
                std::uint8_t *out) noexcept {
    const std::size_t n_rows = values.size() / n_cols;
    for (std::size_t row = 0; row < n_rows; ++row) {
        Block block;
        for (std::size_t col = 0; col < n_cols; col += block_size) {
            if (!find<Stored>(values.data() + row * n_cols + col, lattice, block)) return row;
            write(block, lattice, out);
            out += block_bytes(lattice);
        }
    }
    return n_rows;
}

}  // namespace

std::size_t block_bytes(Lattice lattice) noexcept {
    constexpr std::array<std::size_t, 5> bytes = {17, 18, 20, 22, 34};
    return bytes[static_cast<std::size_t>(lattice)];
}

std::size_t fit_rows(std::span<const float> values, std::size_t n_cols, StoredFloat stored,
                     Lattice lattice, std::span<std::uint8_t> blocks) noexcept {
    if (values.empty()) return 0;
    switch (stored) {
        case StoredFloat::f32: return fit<RoundToF32>(values, n_cols, lattice, blocks.data());
        case StoredFloat::f16: return fit<RoundToF16>(values, n_cols, lattice, blocks.data());
        case StoredFloat::bf16: return fit<RoundToBf16>(values, n_cols, lattice, blocks.data());
    }
    return 0;
}

}  // namespace snug
