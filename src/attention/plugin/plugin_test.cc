// Backends by others that do not keep to the page: each is refused with one sentence.
#include "attention/plugin/plugin.h"

#include <gtest/gtest.h>

#include <cstring>

namespace lockstep {
namespace {

// A backend that is right in everything; each test spoils one thing.
constexpr lockstep_field kField{.size = sizeof(lockstep_field),
                                .feed = LOCKSTEP_BY_ADDRESS,
                                .freeze = LOCKSTEP_EXACT,
                                .reserved = 0,
                                .name = "seq_lens",
                                .unit = "tokens",
                                .form = "per sequence",
                                .extent = "padded",
                                .space = "global"};
constexpr lockstep_use kUse{.size = sizeof(lockstep_use),
                            .tensor = LOCKSTEP_OUT,
                            .access = LOCKSTEP_WRITE,
                            .strides = LOCKSTEP_ANY_STRIDES,
                            .pads = LOCKSTEP_PADS_ZERO,
                            .rows = LOCKSTEP_ALL_ROWS,
                            .index_bits = 64,
                            .reserved = 0};
constexpr lockstep_stage kStage{.size = sizeof(lockstep_stage),
                                .num_uses = 1,
                                .name = "attend",
                                .uses = &kUse,
                                .parallel = 1,
                                .reserved = 0};

int prepare(void*, const lockstep_prepare*, void*, char*) { return LOCKSTEP_OK; }
int run(void*, const lockstep_run*, char*) { return LOCKSTEP_OK; }
void destroy(void*) {}

template <auto Spoil>
int describe(void*, lockstep_description* out, char*) {
  *out = {};
  out->size = sizeof(*out);
  out->name = "spoilt";
  out->fields = &kField;
  out->num_fields = 1;
  out->stages = &kStage;
  out->num_stages = 1;
  out->cache_dtypes = 1u << LOCKSTEP_F32;
  Spoil(*out);
  return LOCKSTEP_OK;
}

// An entry whose verbs and whose description may each be spoilt.
constexpr auto kNothing = [](auto&) {};
template <auto SpoilVerbs, auto SpoilDescription>
int entry(uint32_t, lockstep_backend* out) {
  *out = {};
  out->size = sizeof(*out);
  out->abi = LOCKSTEP_BACKEND_ABI;
  out->describe = describe<SpoilDescription>;
  out->prepare = prepare;
  out->run = run;
  out->destroy = destroy;
  SpoilVerbs(*out);
  return LOCKSTEP_OK;
}

template <auto SpoilVerbs>
std::string with_verbs() {
  return make_plugin("x.so", entry<SpoilVerbs, kNothing>).status().message();
}
template <auto SpoilDescription>
std::string with_description() {
  return make_plugin("x.so", entry<kNothing, SpoilDescription>).status().message();
}

TEST(Plugin, IsTakenWhenItKeepsToThePage) {
  const auto plugin = make_plugin("x.so", entry<kNothing, kNothing>);
  ASSERT_TRUE(plugin.ok()) << plugin.status().message();
  EXPECT_EQ((*plugin)->spec().name, "spoilt");
  ASSERT_EQ((*plugin)->spec().fields.size(), 1u);
  EXPECT_EQ((*plugin)->spec().fields[0].field, FieldId::seq_lens);
  EXPECT_EQ((*plugin)->spec().fields[0].argument, "*.seq_lens");
  ASSERT_EQ((*plugin)->spec().ops.size(), 1u);
  EXPECT_EQ((*plugin)->spec().ops[0]->name, "spoilt.attend");
  EXPECT_EQ((*plugin)->serves(DType::kF32, 64).message(), "");
  EXPECT_EQ((*plugin)->serves(DType::kBF16, 64).message(),
            "backend spoilt: serves no cache of bf16; choose another --dtype or another backend");
}

TEST(Plugin, OfAnotherAbiSizeOrWithoutAVerbIsRefused) {
  EXPECT_EQ(with_verbs<[](lockstep_backend& b) { b.abi = 7; }>(), "backend x.so: is of ABI 7; expected 1");
  EXPECT_EQ(with_verbs<[](lockstep_backend& b) { b.size = 12; }>(),
            "backend x.so: lockstep_backend has a size of 12 bytes; expected 48, as in "
            "include/lockstep/backend.h");
  EXPECT_EQ(with_verbs<[](lockstep_backend& b) { b.run = nullptr; }>(),
            "backend x.so: has no run; expected describe, prepare, run and destroy");
  EXPECT_EQ(with_verbs<[](lockstep_backend& b) { b.destroy = nullptr; }>(),
            "backend x.so: has no destroy; expected describe, prepare, run and destroy");
  const PluginEntry other = [](uint32_t, lockstep_backend*) -> int { return LOCKSTEP_UNIMPLEMENTED; };
  EXPECT_EQ(make_plugin("x.so", other).status().message(),
            "backend x.so: answers code 3 to ABI 1; expected a backend built for that version of "
            "include/lockstep/backend.h");
}

TEST(Plugin, OfAFieldThatThePlanDoesNotHaveOrThatIsSomethingElseIsRefused) {
  EXPECT_EQ((with_description<[](lockstep_description& d) {
              static constexpr lockstep_field kLens{.size = sizeof(lockstep_field), .name = "context_lens"};
              d.fields = &kLens;
            }>()),
            "backend x.so: field 0 is context_lens; expected a field of the step plan, as in docs/fields.md");
  EXPECT_EQ((with_description<[](lockstep_description& d) {
              static constexpr lockstep_field kLens{
                  .size = sizeof(lockstep_field), .name = "seq_lens", .unit = "pages"};
              d.fields = &kLens;
            }>()),
            "backend x.so: takes seq_lens for unit \"pages\"; expected \"tokens\"");
  EXPECT_EQ((with_description<[](lockstep_description& d) {
              static constexpr lockstep_field kTwice[] = {kField, kField};
              d.fields = kTwice;
              d.num_fields = 2;
            }>()),
            "backend x.so: declares seq_lens twice; expected each field once");
  EXPECT_EQ((with_description<[](lockstep_description& d) { d.num_fields = 4000000000u; }>()),
            "backend x.so: declares 4000000000 fields; expected at most 16");
}

TEST(Plugin, WhoseStagesDoNotHoldTogetherIsRefused) {
  EXPECT_EQ((with_description<[](lockstep_description& d) { d.num_stages = 0; }>()),
            "backend x.so: has 0 stages; expected 1 to 4");
  EXPECT_EQ(
      (with_description<[](lockstep_description& d) {
        static constexpr lockstep_use kWrites{
            .size = sizeof(lockstep_use), .tensor = LOCKSTEP_K, .access = LOCKSTEP_WRITE, .index_bits = 64};
        static constexpr lockstep_stage kBad{
            .size = sizeof(lockstep_stage), .num_uses = 1, .name = "attend", .uses = &kWrites};
        d.stages = &kBad;
      }>()),
      "backend x.so: attend: use 0 writes an input; expected writes to out, cache and workspace");
  EXPECT_EQ(
      (with_description<[](lockstep_description& d) { d.name = "a name\n"; }>()),
      "backend x.so: its name is empty, too long or holds other characters; expected at most 63 letters, "
      "digits, _ and -");
  EXPECT_EQ((with_description<[](lockstep_description& d) { d.workspace_fixed = -1; }>()),
            "backend x.so: asks for -1 + 0 * D bytes of workspace; expected 0 to 2^40 and 0 to 2^30");
}

TEST(Plugin, WhoseMessageHasNoEndIsQuotedUpToWhereItMustEnd) {
  const PluginEntry endless = [](uint32_t, lockstep_backend* out) -> int {
    *out = {.size = sizeof(*out),
            .abi = LOCKSTEP_BACKEND_ABI,
            .instance = nullptr,
            .describe = [](void*, lockstep_description*, char* message) -> int {
              std::memset(message, '\t', LOCKSTEP_MESSAGE_BYTES);
              std::memset(message, 'x', 3);
              return 99;
            },
            .prepare = prepare,
            .run = run,
            .destroy = destroy};
    return LOCKSTEP_OK;
  };
  const Status status = make_plugin("x.so", endless).status();
  EXPECT_EQ(status.message(), "backend x.so: describe: xxx" + std::string(LOCKSTEP_MESSAGE_BYTES - 4, ' '));
  EXPECT_EQ(status.code(), Code::kInternal);
}

TEST(Plugin, ThatIsNoModuleIsNotFound) {
  const Status status = load_plugin("/nowhere/backend.so").status();
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_EQ(
      status.message(),
      "backend /nowhere/backend.so: /nowhere/backend.so: cannot open shared object file: No such file or "
      "directory; expected a shared module");
}

}  // namespace
}  // namespace lockstep
