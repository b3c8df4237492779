// Tells which level of x86-64 this processor has. Compiled for any of them, unlike the kernels.
#include <nanobind/nanobind.h>

#include <array>
#include <initializer_list>

#if defined(_M_X64)
#include <immintrin.h>
#include <intrin.h>
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

namespace {

#if defined(_M_X64) || defined(__x86_64__)

using Words = std::array<unsigned, 4>;  // eax, ebx, ecx, edx

Words ask(unsigned leaf) noexcept {
    Words words{};
#if defined(_M_X64)
    std::array<int, 4> found;
    __cpuidex(found.data(), static_cast<int>(leaf), 0);
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<unsigned>(found[i]);
#else
    __get_cpuid_count(leaf, 0, &words[0], &words[1], &words[2], &words[3]);  // else zeros stay
#endif
    return words;
}

// Which registers the system keeps for each program.
unsigned kept_registers() noexcept {
#if defined(_M_X64)
    return static_cast<unsigned>(_xgetbv(0));
#else
    unsigned low = 0;
    unsigned high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
#endif
}

bool has(unsigned word, std::initializer_list<int> bits) noexcept {
    for (const int bit : bits)
        if ((word >> bit & 1U) == 0) return false;
    return true;
}

// As the psABI of x86-64 has them: 4 with AVX-512, 3 with AVX2, less than that 1.
int level() noexcept {
    const Words basic = ask(1);
    const Words more = ask(7);
    // FMA, MOVBE, XSAVE by the system, AVX, F16C; BMI1, AVX2, BMI2; LZCNT
    if (!has(basic[2], {12, 22, 27, 28, 29}) || !has(more[1], {3, 5, 8}) ||
        !has(ask(0x80000001U)[2], {5}))
        return 1;
    const unsigned kept = kept_registers();
    if ((kept & 0x06U) != 0x06U) return 1;
    // AVX-512 F, DQ, CD, BW, VL
    return (kept & 0xE6U) == 0xE6U && has(more[1], {16, 17, 28, 30, 31}) ? 4 : 3;
}

#else

int level() noexcept { return 0; }

#endif

}  // namespace

NB_MODULE(processor, m) { m.def("level", &level); }
