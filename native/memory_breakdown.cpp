#include "memory_breakdown.hpp"

#include <map>

namespace snug {
namespace {

// llama_memory_breakdown_data
struct Data {
    std::size_t model, context, compute;
};

}  // namespace

std::vector<BufferBytes> memory_breakdown(std::uintptr_t function, std::uintptr_t context) {
    using Breakdown = std::map<const void *, Data>;
    const auto ask = reinterpret_cast<Breakdown (*)(const void *)>(function);
    std::vector<BufferBytes> found;
    for (const auto &[type, bytes] : ask(reinterpret_cast<const void *>(context)))
        found.push_back({reinterpret_cast<std::uintptr_t>(type), bytes.model, bytes.context,
                         bytes.compute});
    return found;
}

}  // namespace snug
