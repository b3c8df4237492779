# llama-cpp-python forces llama.cpp's `common` library into its cache, which Snug does not use and
# which takes half of the compile time. A normal variable beats the cache entry (policy CMP0126).
# Included through CMAKE_PROJECT_llama_cpp_INCLUDE.
set(LLAMA_BUILD_COMMON OFF)
include("${CMAKE_CURRENT_LIST_DIR}/llama/amx.cmake")
