# SPDX-License-Identifier: Apache-2.0
# Bare metal: cmake -S runtime_c -B build -DCMAKE_TOOLCHAIN_FILE=devices/toolchains/arm-none-eabi-gcc.cmake -DEDGE8_CPU_FLAGS="-mcpu=cortex-m7;-mfloat-abi=hard;-mfpu=fpv5-d16"
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR arm)
set(CMAKE_C_COMPILER arm-none-eabi-gcc)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EDGE8_CPU_FLAGS)
add_compile_options(-mthumb ${EDGE8_CPU_FLAGS})
