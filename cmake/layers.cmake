# lockstep_layer(NAME DEPENDS layer... PACKAGES target...): one folder of src/ becomes one static library, its
# tests and its benchmarks. What a file is follows from its name, so that adding a file is adding a file:
#   *_test.cc          one gtest binary per layer, `<layer>_test`
#   *_bench.cc         one binary per layer, `<layer>_bench`
#   *_fuzz.cc          one libFuzzer binary per file (preset fuzz)
#   *_mpi.cc           the library, where MPI was found; *_mpi_test.cc then are `<layer>_mpi_test`, run as 4 processes
#   *.cu, *_cuda.cc    the library, in builds of the preset cuda and nowhere else; so *_cuda_test.cc
#   *_avx2.cc, *_avx512.cc, *_avx512bf16.cc   compiled for that ISA; reached only after cpuid said so
#   everything else    the library
# A layer may name only layers that stand above it in src/CMakeLists.txt; tests/arch checks the includes.
include_guard()
find_package(Threads REQUIRED)
find_package(GTest REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(MPI QUIET COMPONENTS C)  # optional: ranks as processes

add_library(lockstep_flags INTERFACE)
set(LOCKSTEP_WARNINGS -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Wno-missing-field-initializers
  -Werror $<$<CXX_COMPILER_ID:GNU>:-Wno-psabi>)
target_compile_options(lockstep_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:${LOCKSTEP_WARNINGS}>"
  "$<$<COMPILE_LANGUAGE:CUDA>:${LOCKSTEP_CUDA_FLAGS}>")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(lockstep_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)  # false alarms about std::string: GCC PR 105651
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  target_compile_options(lockstep_flags INTERFACE -Wno-deprecated-declarations)  # libstdc++ 12's own std::stable_sort
endif()
target_include_directories(lockstep_flags INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(lockstep_flags INTERFACE Threads::Threads)
if(LOCKSTEP_SANITIZE)
  target_compile_options(lockstep_flags INTERFACE -fsanitize=${LOCKSTEP_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(lockstep_flags INTERFACE -fsanitize=${LOCKSTEP_SANITIZE})
endif()
if(LOCKSTEP_FUZZ)
  target_compile_options(lockstep_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# No contraction: a product and a sum round twice wherever the compiler finds them, so that a row's bits do not
# depend on which loop it fell into. Kernels ask for fused multiply-adds by name.
set(LOCKSTEP_AVX2_FLAGS -mavx2 -mfma -mf16c -ffp-contract=off)
# GCC 12 takes the undefined sources inside AVX-512 intrinsics for uninitialized variables (bug 105593).
set(LOCKSTEP_AVX512_FLAGS ${LOCKSTEP_AVX2_FLAGS} -mavx512f -mavx512bw -mavx512dq -mavx512vl
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized>)
set(LOCKSTEP_AVX512BF16_FLAGS ${LOCKSTEP_AVX512_FLAGS} -mavx512bf16)
# Sanitizers turn unrolled vector code into minutes of compiling per file at -O2 and above, and seconds at -O1.
set(LOCKSTEP_VECTOR_OPTIMIZATION -O3)
if(LOCKSTEP_SANITIZE)
  set(LOCKSTEP_VECTOR_OPTIMIZATION -O1)
endif()

function(lockstep_layer name)
  cmake_parse_arguments(LAYER "" "" "DEPENDS;PACKAGES;TEST_DEPENDS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cc)
  if(LOCKSTEP_CUDA)
    file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cu)
    set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/${name}/registry.cc ${CMAKE_CURRENT_SOURCE_DIR}/${name}/table.cc
      PROPERTIES COMPILE_DEFINITIONS LOCKSTEP_CUDA)
  else()
    list(FILTER sources EXCLUDE REGEX "_cuda(_test)?\\.cc$")
  endif()
  set(tests ${sources})
  set(benches ${sources})
  set(fuzzers ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  set(mpi_sources ${sources})
  set(mpi_tests ${tests})
  list(FILTER mpi_sources INCLUDE REGEX "_mpi\\.cc$")
  list(FILTER mpi_tests INCLUDE REGEX "_mpi_test\\.cc$")
  list(FILTER tests EXCLUDE REGEX "_mpi_test\\.cc$")
  if(NOT MPI_C_FOUND)
    list(FILTER sources EXCLUDE REGEX "_mpi\\.cc$")
  endif()
  list(FILTER sources EXCLUDE REGEX "(_test|_bench|_fuzz|/main)\\.cc$")
  foreach(source ${sources})
    if(source MATCHES "_avx512bf16\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${LOCKSTEP_AVX512BF16_FLAGS};${LOCKSTEP_VECTOR_OPTIMIZATION}")
    elseif(source MATCHES "_avx512\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${LOCKSTEP_AVX512_FLAGS};${LOCKSTEP_VECTOR_OPTIMIZATION}")
    elseif(source MATCHES "_avx2\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${LOCKSTEP_AVX2_FLAGS};${LOCKSTEP_VECTOR_OPTIMIZATION}")
    endif()
  endforeach()
  set(links lockstep_flags)
  foreach(layer ${LAYER_DEPENDS})
    list(APPEND links lockstep_${layer})
  endforeach()
  if(sources)
    add_library(lockstep_${name} STATIC ${sources} ${cuda_sources})
    target_link_libraries(lockstep_${name} PUBLIC ${links} ${LAYER_PACKAGES})
  else()
    add_library(lockstep_${name} INTERFACE)
    target_link_libraries(lockstep_${name} INTERFACE ${links} ${LAYER_PACKAGES})
  endif()
  if(LOCKSTEP_CUDA AND name STREQUAL "device")
    target_link_libraries(lockstep_${name} PUBLIC CUDA::cudart_static CUDA::cublasLt)
  endif()
  if(mpi_sources AND MPI_C_FOUND)
    target_link_libraries(lockstep_${name} PRIVATE MPI::MPI_C)
    # The C interface alone: the C++ one is gone from the standard, and another library to link.
    target_compile_definitions(lockstep_${name} PRIVATE LOCKSTEP_MPI OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
  endif()
  if(LOCKSTEP_FUZZ)
    if(sources)  # only what a fuzzer reaches is built
      set_target_properties(lockstep_${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
    foreach(fuzzer ${fuzzers})
      get_filename_component(target ${fuzzer} NAME_WE)
      add_executable(${target} ${fuzzer})
      target_link_libraries(${target} PRIVATE lockstep_${name})
      target_link_options(${target} PRIVATE -fsanitize=fuzzer)
      set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzzers)
    endforeach()
    return()
  endif()
  if(tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE lockstep_${name} ${LAYER_TEST_DEPENDS} GTest::gtest_main)
    target_compile_definitions(${name}_test PRIVATE LOCKSTEP_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
    target_precompile_headers(${name}_test PRIVATE <gtest/gtest.h>)
    add_test(NAME ${name} COMMAND ${name}_test)
  endif()
  if(mpi_tests AND MPI_C_FOUND AND NOT LOCKSTEP_SANITIZE)  # MPI itself is not built with sanitizers
    add_executable(${name}_mpi_test ${mpi_tests})
    target_link_libraries(${name}_mpi_test PRIVATE lockstep_${name} GTest::gtest)
    add_test(NAME ${name}_mpi COMMAND ${MPIEXEC_EXECUTABLE} --allow-run-as-root --oversubscribe -n 4
      $<TARGET_FILE:${name}_mpi_test> --gtest_color=no)
    set_tests_properties(${name}_mpi PROPERTIES PROCESSORS 2)
  endif()
  if(benches)
    find_package(benchmark REQUIRED)
    add_executable(${name}_bench ${benches})
    target_link_libraries(${name}_bench PRIVATE lockstep_${name} benchmark::benchmark_main)
  endif()
endfunction()
