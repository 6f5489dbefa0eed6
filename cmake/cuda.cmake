# CUDA for NVIDIA Hopper GPUs: compute capability 9.0 with the instructions of that architecture alone.
find_program(CMAKE_CUDA_COMPILER nvcc PATHS /usr/local/cuda/bin REQUIRED)
set(CMAKE_CUDA_ARCHITECTURES OFF)  # the flag below says it: CMake 3.25 knows no 90a
enable_language(CUDA)
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)  # unknown to CMake 3.25 for this compiler
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_EXTENSIONS OFF)
if(LOCKSTEP_CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${LOCKSTEP_CCACHE})
endif()
find_package(CUDAToolkit REQUIRED)
# NCCL's header is optional: without it there are no ranks on GPUs. Its library is opened at run time.
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
# No contraction, as in the vector kernels: fused multiply-adds are asked for by name.
set(LOCKSTEP_CUDA_FLAGS -gencode=arch=compute_90a,code=sm_90a -fmad=false --expt-relaxed-constexpr -lineinfo
  -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Werror,-Wno-sign-conversion,-Wno-missing-field-initializers,-Wno-psabi)
add_custom_target(cuda_objects)  # all that this preset compiles beyond the others
