// Tells the processor what memory is needed soon; nothing, where the compiler has no word for it.
#pragma once

namespace snug {

inline void expect_to_read([[maybe_unused]] const void *address) noexcept {
#ifdef __GNUC__
    __builtin_prefetch(address);
#endif
}

inline void expect_to_write([[maybe_unused]] const void *address) noexcept {
#ifdef __GNUC__
    __builtin_prefetch(address, 1);
#endif
}

}  // namespace snug
