# The compiler of llama.cpp on Windows, as its own packages have it: Microsoft's leaves out five
# generations of processors. It takes headers and libraries from Visual Studio (vcvarsall.bat).
set(CMAKE_C_COMPILER clang)
set(CMAKE_CXX_COMPILER clang++)
# ggml's own threads: the OpenMP library that Visual Studio has for clang may not be handed on.
set(GGML_OPENMP OFF CACHE BOOL "")
