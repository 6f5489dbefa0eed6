// Memory that others own too: pages and states, and kernels that go where they should not.
#include "guard/launch_memory.h"
#include "guard/test_step.h"
#include "kernels/kv_cache/kv_cache.h"

namespace lockstep::guard_test {
namespace {

constexpr KvGeometry kGeometry{
    .dtype = DType::kF32, .num_pages = 12, .page_tokens = 4, .heads = 2, .head_dim = 3};

KvView make_cache(TestStep& step, const KvLayout& layout) {
  const TensorView bytes = step.allocate("cache", DType::kU8, {kv_cache_bytes(layout, kGeometry)});
  std::fill_n(bytes.as<uint8_t>(), bytes.elements(), uint8_t{1});
  return make_kv_view(bytes.data, layout, kGeometry);
}

std::vector<KvLayout> layouts() {
  return {{.planes = KvPlanes::kApart, .order = KvOrder::kTokenMajor},
          {.planes = KvPlanes::kInterleaved, .order = KvOrder::kHeadMajor}};
}

// --- pages that are written
// ---------------------------------------------------------------------------------

void store(const StoreKvArgs& args, int64_t shift, int64_t rows) {
  const auto* slots = static_cast<const int64_t*>(args.slot_mapping.data);
  for (int64_t t = 0; t < rows; ++t) {
    if (slots[t] < 0) continue;
    const int64_t slot = slots[t] + shift;
    for (int64_t head = 0; head < 2; ++head) {
      for (int64_t d = 0; d < 3; ++d) {
        const int64_t at = t * 6 + head * 3 + d;
        static_cast<float*>(args.cache.k.data)[args.cache.k.offset(slot / 4, head, slot % 4, d)] =
            args.k.as<const float>()[at];
        static_cast<float*>(args.cache.v.data)[args.cache.v.offset(slot / 4, head, slot % 4, d)] =
            args.v.as<const float>()[at];
      }
    }
  }
}
void stores(const StoreKvArgs& args, Worker) { store(args, 0, kLive); }
void stores_one_page_on(const StoreKvArgs& args, Worker) { store(args, 4, kLive); }
void stores_one_token_on(const StoreKvArgs& args, Worker) { store(args, 1, kLive); }
void stores_all_but_the_last_row(const StoreKvArgs& args, Worker) { store(args, 0, kLive - 1); }
void clears_the_pad_page(const StoreKvArgs& args, Worker worker) {
  stores(args, worker);
  static_cast<float*>(args.cache.v.data)[1] = 0;
}

std::string store_said(const KvLayout& layout, Kernel<StoreKvArgs> kernel) {
  TestStep step;
  const TensorView k = step.rows("k"), v = step.rows("v");
  const Status status = step.run(kStoreKvSpec, kernel,
                                 StoreKvArgs{.k = k.reshaped({kRows, 2, 3}),
                                             .v = v.reshaped({kRows, 2, 3}),
                                             .slot_mapping = step.field(FieldId::slot_mapping),
                                             .cache = make_cache(step, layout),
                                             .num_rows = step.scalar(field::num_rows)});
  return status.message();
}

TEST(Pages, TakeWhatThePlanSaysAndNothingElse) {
  for (const KvLayout& layout : layouts()) {
    EXPECT_EQ(store_said(layout, stores), "") << layout;
    EXPECT_EQ(store_said(layout, clears_the_pad_page).substr(0, 47),
              "step 9: L4 store_kv (stage, layer 0): cache[0] ")
        << layout;
    EXPECT_EQ(store_said(layout, stores_one_page_on).substr(0, 47),
              "step 9: L4 store_kv (stage, layer 0): cache[4] ")
        << layout;
  }
  // Sequence 1's token goes to slot 1 of page 6; slot 2 of that page is not its own.
  EXPECT_EQ(
      store_said(layouts()[0], stores_one_token_on),
      "step 9: L4 store_kv (stage, layer 0): cache[3] is overwritten with byte 0; expected unchanged, 1");
  EXPECT_EQ(store_said(layouts()[0], stores_all_but_the_last_row),
            "step 9: L3 store_kv (stage, layer 0): cache[3] is not written at element 0 of 3; expected every "
            "element written");
}

// --- pages that are read
// ------------------------------------------------------------------------------------

// out[t] = the sum over the keys of its sequence, of head 0, element 0.
struct SumKeysArgs {
  KvView cache;
  TensorView page_table;
  TensorView table_rows;
  TensorView query_start_loc;
  TensorView seq_lens;
  TensorView out;  // [T, E]
  const LiveRows* num_rows = nullptr;
  const LiveSeqs* num_seqs = nullptr;
};
constexpr OpArg kSumKeysArgs[] = {
    {LS_ARG(SumKeysArgs, cache), .access = Access::kRead, .dims = "PKBD", .rows = RowsTouched::kOwned,
     .any_stride = true},
    {LS_ARG(SumKeysArgs, page_table), .access = Access::kRead, .dims = "RM", .rows = RowsTouched::kOwned},
    {LS_ARG(SumKeysArgs, table_rows), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(SumKeysArgs, query_start_loc), .access = Access::kRead, .dims = "S1", .rows = RowsTouched::kLive},
    {LS_ARG(SumKeysArgs, seq_lens), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(SumKeysArgs, out), .access = Access::kWrite, .dims = "TE"},
    {LS_ARG(SumKeysArgs, num_rows), .rows = RowsTouched::kNone},
    {LS_ARG(SumKeysArgs, num_seqs), .rows = RowsTouched::kNone},
};
constexpr OpSpec kSumKeys{.name = "sum_keys", .args = kSumKeysArgs, .args_bytes = sizeof(SumKeysArgs)};

void sum_keys(const SumKeysArgs& args, int64_t more, int64_t sequences) {
  std::fill_n(args.out.as<float>(), args.out.elements(), 0.0f);
  const auto at = [](const TensorView& view, int64_t i) { return static_cast<const int32_t*>(view.data)[i]; };
  for (int64_t s = 0; s < sequences; ++s) {
    float sum = 0;
    for (int64_t token = 0; token < at(args.seq_lens, s) + more; ++token) {
      const int64_t page = at(args.page_table, at(args.table_rows, s) * 4 + token / 4);
      if (page < 12)
        sum += static_cast<float*>(args.cache.k.data)[args.cache.k.offset(page, 0, token % 4, 0)];
    }
    for (int64_t t = at(args.query_start_loc, s); t < at(args.query_start_loc, s + 1); ++t)
      for (int64_t i = 0; i < kWidth; ++i) args.out.as<float>()[t * kWidth + i] = sum;
  }
}
void sums(const SumKeysArgs& args, Worker) { sum_keys(args, 0, args.num_seqs->get()); }
void sums_one_token_more(const SumKeysArgs& args, Worker) { sum_keys(args, 1, args.num_seqs->get()); }
void sums_for_pads_too(const SumKeysArgs& args, Worker) { sum_keys(args, 0, args.seq_lens.dim(0)); }

std::string sums_said(const KvLayout& layout, Kernel<SumKeysArgs> kernel) {
  TestStep step;
  const Status status = step.run(kSumKeys, kernel,
                                 SumKeysArgs{.cache = make_cache(step, layout),
                                             .page_table = step.page_table(),
                                             .table_rows = step.field(FieldId::table_rows),
                                             .query_start_loc = step.field(FieldId::query_start_loc),
                                             .seq_lens = step.field(FieldId::seq_lens),
                                             .out = step.rows("out"),
                                             .num_rows = step.scalar(field::num_rows),
                                             .num_seqs = step.scalar(field::num_seqs)});
  return status.message();
}

TEST(Pages, AreReadUpToTheEndOfTheirSequenceOnly) {
  for (const KvLayout& layout : layouts()) {
    EXPECT_EQ(sums_said(layout, sums), "") << layout;
    EXPECT_EQ(sums_said(layout, sums_one_token_more).substr(0, 78),
              "step 9: N1 sum_keys (stage, layer 0): out[0] is nan when what must not enter i")
        << layout;
    EXPECT_EQ(sums_said(layout, sums_for_pads_too).substr(0, 43),
              "step 9: N1 sum_keys (stage, layer 0): out[4")
        << layout;
  }
}

// --- states
// -------------------------------------------------------------------------------------------------

// state[write slot of the last row] = (initial state or 0) + 1, per sequence.
struct CountUpArgs {
  TensorView state;  // [N, E]
  TensorView query_start_loc;
  TensorView state_read_slot;
  TensorView state_write_slots;
  TensorView has_initial_state;
  const LiveSeqs* num_seqs = nullptr;
};
constexpr OpArg kCountUpArgs[] = {
    {LS_ARG(CountUpArgs, state), .access = Access::kReadWrite, .dims = "NE", .rows = RowsTouched::kOwned,
     .pad = PadRows::kUntouched},
    {LS_ARG(CountUpArgs, query_start_loc), .access = Access::kRead, .dims = "S1", .rows = RowsTouched::kLive},
    {LS_ARG(CountUpArgs, state_read_slot), .access = Access::kRead, .dims = "S", .rows = RowsTouched::kLive},
    {LS_ARG(CountUpArgs, state_write_slots), .access = Access::kRead, .dims = "T",
     .rows = RowsTouched::kLive},
    {LS_ARG(CountUpArgs, has_initial_state), .access = Access::kRead, .dims = "S",
     .rows = RowsTouched::kLive},
    {LS_ARG(CountUpArgs, num_seqs), .rows = RowsTouched::kNone},
};
constexpr OpSpec kCountUp{.name = "count_up", .args = kCountUpArgs, .args_bytes = sizeof(CountUpArgs)};

void count_up(const CountUpArgs& args, bool trusts_every_state, int64_t sequences) {
  const auto at = [](const TensorView& view, int64_t i) { return static_cast<const int32_t*>(view.data)[i]; };
  for (int64_t s = 0; s < sequences; ++s) {
    const bool has = trusts_every_state || at(args.has_initial_state, s) != 0;
    const int64_t from = at(args.state_read_slot, s);
    const int64_t row = at(args.query_start_loc, s + 1) - 1;
    const int64_t to = s < args.num_seqs->get() ? at(args.state_write_slots, row) : from;
    for (int64_t i = 0; i < kWidth; ++i) {
      float* state = args.state.as<float>();
      state[to * kWidth + i] = (has ? state[from * kWidth + i] : 0.0f) + 1;
    }
  }
}
void counts_up(const CountUpArgs& args, Worker) { count_up(args, false, args.num_seqs->get()); }
void counts_up_from_what_is_there(const CountUpArgs& args, Worker) {
  count_up(args, true, args.num_seqs->get());
}
void counts_up_for_pads(const CountUpArgs& args, Worker) {
  counts_up(args, {});
  args.state.as<float>()[0] += 1;
}
void counts_up_the_neighbour(const CountUpArgs& args, Worker) {
  counts_up(args, {});
  for (int64_t slot = 0; slot < 6; ++slot) {
    if (slot != 2 && slot != 4) args.state.as<float>()[slot * kWidth] = 9;
  }
}

std::string states_said(Kernel<CountUpArgs> kernel) {
  TestStep step;
  const TensorView state = step.allocate("state", DType::kF32, {6, kWidth});
  const Status status = step.run(kCountUp, kernel,
                                 CountUpArgs{.state = state,
                                             .query_start_loc = step.field(FieldId::query_start_loc),
                                             .state_read_slot = step.field(FieldId::state_read_slot),
                                             .state_write_slots = step.field(FieldId::state_write_slots),
                                             .has_initial_state = step.field(FieldId::has_initial_state),
                                             .num_seqs = step.scalar(field::num_seqs)});
  EXPECT_EQ(state.as<float>()[4 * kWidth], 1.0f);  // as the launch left it
  return status.message();
}

TEST(States, EnterWhereThereIsOneAndLeaveWhereThePlanSays) {
  EXPECT_EQ(states_said(counts_up), "");
  EXPECT_EQ(
      states_said(counts_up_from_what_is_there),
      "step 9: N1 count_up (stage, layer 0): state[2] is nan when what must not enter is NaN; expected 1");
  EXPECT_EQ(
      states_said(counts_up_for_pads),
      "step 9: L4 count_up (stage, layer 0): state[0] is overwritten with byte 128; expected unchanged, 0");
  EXPECT_EQ(states_said(counts_up_the_neighbour).substr(0, 47),
            "step 9: L4 count_up (stage, layer 0): state[0] ");
}

}  // namespace
}  // namespace lockstep::guard_test
