// Tells which level of x86-64 this processor has. Compiled for any of them, unlike the kernels.
#include <nanobind/nanobind.h>

#if defined(_MSC_VER) && defined(_M_X64)
#include <immintrin.h>
#include <intrin.h>

#include <array>
#endif

namespace {

// As the psABI of x86-64 has them: 3 with AVX2, 4 with AVX-512, less than that 1; 0 elsewhere.
int level() noexcept {
#if defined(_MSC_VER) && defined(_M_X64)
    const auto has = [](const std::array<int, 4> &words, std::size_t word,
                        std::initializer_list<int> bits) {
        for (const int bit : bits)
            if ((static_cast<unsigned>(words[word]) >> bit & 1U) == 0) return false;
        return true;
    };
    std::array<int, 4> basic;
    std::array<int, 4> more;
    std::array<int, 4> beyond;
    __cpuid(basic.data(), 1);
    __cpuidex(more.data(), 7, 0);
    __cpuid(beyond.data(), static_cast<int>(0x80000001U));
    // FMA, XSAVE by the system, AVX, F16C; BMI1, AVX2, BMI2; LZCNT
    if (!has(basic, 2, {12, 27, 28, 29}) || !has(more, 1, {3, 5, 8}) || !has(beyond, 2, {5}))
        return 1;
    const auto kept = _xgetbv(0);  // the registers that the system saves
    if ((kept & 0x06) != 0x06) return 1;
    // AVX-512 F, DQ, CD, BW, VL
    return (kept & 0xE6) == 0xE6 && has(more, 1, {16, 17, 28, 30, 31}) ? 4 : 3;
#elif defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
        !__builtin_cpu_supports("f16c") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("lzcnt"))
        return 1;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl")
               ? 4
               : 3;
#else
    return 0;
#endif
}

}  // namespace

NB_MODULE(processor, m) { m.def("level", &level); }
