#include "kl_divergence.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <future>
#include <limits>
#include <thread>
#include <vector>

namespace snug {
namespace {

// Terms are computed a block at a time in float, where the compiler vectorises them, and summed in
// double: a sum in float would lose small probabilities beside a confident token's 1.
constexpr std::size_t block_size = 256;

// Starting a thread costs as much as comparing some ten thousand logits.
constexpr std::size_t logits_per_thread = 1U << 17U;

// exp(x) for x <= 0, to about 1 unit in the last place; below the smallest normal float it is 0.
// Cody-Waite reduction to |r| <= log(2) / 2 and the Taylor polynomial of degree 7, branch-free so
// that loops over it vectorise. NaN stays NaN.
inline float exp_of_negative(float x) noexcept {
    constexpr float lowest = -87.0F;
    constexpr float log2_e = 1.44269504088896341F;
    constexpr float log_2_high = 0.693359375F;  // few bits: its product with an exponent is exact
    constexpr float log_2_low = -2.12194440e-4F;
    constexpr float round_to_int = 12582912.0F;  // 1.5 * 2^23: its low bits become the integer

    const float clamped = x < lowest ? lowest : x;
    const float shifted = clamped * log2_e + round_to_int;
    const float exponent = shifted - round_to_int;
    const float r = (clamped - exponent * log_2_high) - exponent * log_2_low;
    float p = 1.0F / 5040.0F;
    p = p * r + 1.0F / 720.0F;
    p = p * r + 1.0F / 120.0F;
    p = p * r + 1.0F / 24.0F;
    p = p * r + 1.0F / 6.0F;
    p = p * r + 0.5F;
    p = p * (r * r) + r;
    const auto bits = std::bit_cast<std::uint32_t>(shifted) << 23U;
    const auto scale = std::bit_cast<float>(bits + std::bit_cast<std::uint32_t>(1.0F));
    const float y = p * scale + scale;
    return x < lowest ? 0.0F : y;
}

float maximum(std::span<const float> row) noexcept {
    float top = -std::numeric_limits<float>::infinity();
    const float *const logits = row.data();
#pragma omp simd reduction(max : top)
    for (std::size_t i = 0; i < row.size(); ++i) top = logits[i] > top ? logits[i] : top;
    return top;
}

// With m = max(row):  a sum of exp(r - m_r) over the vocabulary for each model, and
// sum of exp(r - m_r) * ((r - m_r) - (t - m_t)), the KL divergence but for its normalisation.
struct Sums {
    double reference = 0.0;
    double test = 0.0;
    double weighted = 0.0;
};

// Adds floats in fours, two roundings at most, before the conversion to double, which costs most.
double sum_block(const std::array<float, block_size> &terms) noexcept {
    constexpr std::size_t quarter = block_size / 4;
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (std::size_t i = 0; i < quarter; ++i)
        sum += static_cast<double>((terms[i] + terms[i + quarter]) +
                                   (terms[i + 2 * quarter] + terms[i + 3 * quarter]));
    return sum;
}

Sums sum_row(std::span<const float> reference, std::span<const float> test, float max_reference,
             float max_test) noexcept {
    Sums sums;
    std::array<float, block_size> p;
    std::array<float, block_size> q;
    std::array<float, block_size> weighted;
    for (std::size_t start = 0; start < reference.size(); start += block_size) {
        const std::size_t n = std::min(block_size, reference.size() - start);
        const float *const r = reference.data() + start;
        const float *const t = test.data() + start;
        if (n < block_size) {
            p.fill(0.0F);
            q.fill(0.0F);
            weighted.fill(0.0F);
        }
#pragma omp simd
        for (std::size_t i = 0; i < n; ++i) {
            const float x = r[i] - max_reference;
            const float y = t[i] - max_test;
            p[i] = exp_of_negative(x);
            q[i] = exp_of_negative(y);
            // 0 * log 0 = 0, also where the logits are -inf.
            weighted[i] = p[i] > 0.0F ? p[i] * (x - y) : 0.0F;
        }
        sums.reference += sum_block(p);
        sums.test += sum_block(q);
        sums.weighted += sum_block(weighted);
    }
    return sums;
}

// Whole blocks are asked first whether they hold `value`: that vectorises, a plain search does not.
std::size_t first_index(std::span<const float> row, float value) noexcept {
    std::size_t start = 0;
    for (; start + block_size <= row.size(); start += block_size) {
        const float *const logits = row.data() + start;
        int is_here = 0;
#pragma omp simd reduction(| : is_here)
        for (std::size_t i = 0; i < block_size; ++i) is_here |= logits[i] == value ? 1 : 0;
        if (is_here != 0) break;
    }
    const auto rest = row.subspan(start);
    const auto place = std::find(rest.begin(), rest.end(), value) - rest.begin();
    return start + static_cast<std::size_t>(place);
}

}  // namespace

Divergence compare_row(std::span<const float> reference, std::span<const float> test,
                       std::size_t target) noexcept {
    const float max_reference = maximum(reference);
    const float max_test = maximum(test);
    const Sums sums = sum_row(reference, test, max_reference, max_test);
    const double log_sum_reference = std::log(sums.reference);
    const double log_sum_test = std::log(sums.test);
    const double target_reference = static_cast<double>(reference[target]) - max_reference;
    const double target_test = static_cast<double>(test[target]) - max_test;
    const double kld = sums.weighted / sums.reference - (log_sum_reference - log_sum_test);
    return {
        .kld = kld,
        .nll_reference = log_sum_reference - target_reference,
        .nll_test = log_sum_test - target_test,
        .same_top = !std::isnan(kld) &&
                    first_index(reference, max_reference) == first_index(test, max_test),
    };
}

void compare_rows(const Comparison &rows, unsigned n_threads) {
    const std::size_t n_rows = rows.targets.size();
    std::atomic<std::size_t> next{0};
    const auto work = [&]() noexcept {
        for (std::size_t i = next.fetch_add(1); i < n_rows; i = next.fetch_add(1)) {
            const Divergence d = compare_row(rows.reference.subspan(i * rows.n_vocab, rows.n_vocab),
                                             rows.test.subspan(i * rows.n_vocab, rows.n_vocab),
                                             static_cast<std::size_t>(rows.targets[i]));
            rows.kld[i] = d.kld;
            rows.nll_reference[i] = d.nll_reference;
            rows.nll_test[i] = d.nll_test;
            rows.same_top[i] = d.same_top;
        }
    };
    const std::size_t wanted = n_threads > 0 ? n_threads : std::thread::hardware_concurrency();
    const std::size_t useful = rows.reference.size() / logits_per_thread;
    const std::size_t n_helpers = std::max<std::size_t>(std::min({wanted, useful, n_rows}), 1) - 1;
    std::vector<std::future<void>> helpers;  // joined by their destructors, also on an exception
    helpers.reserve(n_helpers);
    for (std::size_t i = 0; i < n_helpers; ++i)
        helpers.push_back(std::async(std::launch::async, work));
    work();
}

}  // namespace snug
