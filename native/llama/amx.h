// What GCC's own header gets wrong about Intel's matrix instructions (AMX), put before ggml's files.
//
// It says that `_tile_loadconfig` reads 8 bytes of the 64, and that `_tile_loadd` reads no memory. GCC
// leaves out what ggml_tile_config_init stores behind the 8 bytes, no tile has a row, and the first
// instruction on one is illegal: a model in Q4_K, Q8_0 and others ends the engine on a Xeon from Sapphire
// Rapids on. Seen with GCC 12; ggml-org/llama.cpp pull request 26954 tells of the same.
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

#define _tile_loadconfig(config) \
    __asm__ volatile("ldtilecfg\t%X0" : : "m"(*(const char (*)[64])(config)))

#undef _tile_loadd
#define _tile_loadd(tile, base, stride) snug_tile_loadd(tile, base, stride)  // names of tiles are macros
#define snug_tile_loadd(tile, base, stride)                                                        \
    __asm__ volatile("{tileloadd\t(%0,%1,1), %%tmm" #tile "|tileloadd\t%%tmm" #tile ", [%0+%1*1]}" \
                     :                                                                             \
                     : "r"((const void *)(base)), "r"((long)(stride))                              \
                     : "memory")
#endif
