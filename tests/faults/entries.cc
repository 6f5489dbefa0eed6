#include "faults/entries.h"

#include <array>

#include "faults/reports/models/entries.h"

namespace lockstep::faults {
namespace {

constexpr auto kAll = std::to_array<const Entry*>(
    {&kA1,           &kA4,      &kA6,           &kA7,      &kA8,           &kA9,      &kA10,
     &kA11,          &kA11b,    &kA13,          &kA14,     &kB1,           &kB2,      &kB3,
     &kB4,           &kB5,      &kB6,           &kB7,      &kB8,           &kC1,      &kC2,
     &kC4,           &kC6,      &kD1,           &kD3,      &kD4,           &kD5,      &kD6,
     &kD8,           &kD9,      &kD10,          &kD11,     &kD12,          &kD13,     &kD14,
     &kD15,          &kD16,     &kE1,           &kE2,      &kE3,           &kE4,      &kE5,
     &kE6,           &kE7,      &kF1,           &kF5,      &kF7,           &kF8,      &kG1f,
     &kG2f,          &kG3f,     &kG4f,          &kG5f,     &kG6f,          &kG8f,     &kG9f,
     &kG10f,         &kG11f,    &kG12f,         &kH2,      &kH3,           &kH4,      &kH5,
     &kH6,           &kH7,      &kH8,           &kI2,      &kI3,           &kI5,      &kI6,
     &kI7,           &kI8,      &kJ2,           &kJ3,      &kJ4,           &kJ5,      &kJ8,
     &kJ9,           &kJ10,     &kJ11,          &kJ12,     &kJ13,          &kK1,      &kK2,
     &kK3,           &kK4,      &kK5,           &kL2m,     &kL3m,          &kL4m,     &kM1,
     &kM2,           &kM3,      &kM5,           &kN1t,     &kN2t,          &kN3t,     &kN4t,
     &kN5t,          &kX1,      &kX4,           &kReport1, &kReport1Model, &kReport2, &kReport3,
     &kReport3Model, &kReport4, &kReport4Model, &kReport5, &kReport5Model});

constexpr auto kUnnamed = std::to_array<const Entry*>({&kX2, &kX3, &kX5});

}  // namespace

std::span<const Entry* const> all_entries() { return kAll; }
std::span<const Entry* const> unnamed_entries() { return kUnnamed; }

}  // namespace lockstep::faults
