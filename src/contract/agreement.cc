#include "contract/agreement.h"

#include <algorithm>
#include <iomanip>
#include <vector>

#include "base/check.h"
#include "plan/step_plan.h"

namespace lockstep {
namespace {

// One thing that every rank says something about. Two ranks say the same when the texts are equal.
struct Topic {
  std::string name;
  bool must_agree = true;
  bool always_shown = false;
  bool is_digest = false;         // that two differ is all it says: of no use where they may
  std::vector<std::string> said;  // [ranks]
};

using Facts = std::span<const RankFacts>;

template <typename Say>
Topic topic(std::string name, Facts facts, Say say) {
  Topic made{.name = std::move(name), .said = {}};
  for (const RankFacts& rank : facts) made.said.push_back(say(rank));
  return made;
}

std::string hex(uint64_t value) {
  std::ostringstream out;
  out << std::hex << value;
  return std::move(out).str();
}

bool must_agree(const FieldInfo& info, RankGroup group) {
  switch (group) {
    case RankGroup::kTensor: return true;
    case RankGroup::kContext: return info.share == Share::kAll;
    case RankGroup::kData: return info.id == FieldId::epoch || info.form == Form::kPerRank;
  }
  return true;
}

bool has_value(const FieldInfo& info) { return info.form == Form::kScalar && info.scope == Scope::kPlan; }

std::string text_of(const FieldInfo& info, uint64_t fact) {
  return has_value(info) ? concat(static_cast<int64_t>(fact)) : concat("digest ", hex(fact));
}

Topic topic_of(const FieldInfo& info, Facts facts, RankGroup group) {
  Topic made = topic(std::string(info.name), facts,
                     [&](const RankFacts& rank) { return text_of(info, rank.field(info.id)); });
  made.must_agree = must_agree(info, group);
  made.is_digest = !has_value(info);
  made.always_shown =
      info.id == FieldId::epoch || info.id == FieldId::num_rows || info.id == FieldId::num_rows_padded;
  return made;
}

std::string text_of(const CollectiveFact& fact) {
  return concat(fact.op.view(), " in ", fact.group.view(), " of ",
                fact.any_count ? std::string("its own count") : concat(fact.count), " ", name_of(fact.dtype));
}

std::string text_of(Role role) {
  switch (role) {
    case Role::kAll: return "all";
    case Role::kSends: return "sends";
    case Role::kReceives: return "receives";
  }
  return "unknown";
}

void add_capacities(Facts facts, std::vector<Topic>& topics) {
  for (size_t c = 0; c < RankFacts::kCapacities; ++c) {
    const auto has = [c](const RankFacts& rank) { return static_cast<int64_t>(c) < rank.num_capacities; };
    const auto one = std::find_if(facts.begin(), facts.end(), has);
    if (one == facts.end()) return;
    const FactName name = one->capacities[c].name;
    topics.push_back(topic(std::string(name.view()), facts, [&](const RankFacts& rank) {
      if (!has(rank)) return std::string("nothing");
      const CapacityFact& fact = rank.capacities[c];
      return fact.name == name ? concat(fact.value) : concat(fact.name.view(), " ", fact.value);
    }));
  }
}

// Of a rooted collective one rank alone is the source. Said as one topic, so that the table shows the roles.
Topic roles_of(Facts facts, size_t c, const std::string& name) {
  Topic roles = topic(name + ".role", facts, [c](const RankFacts& rank) {
    return static_cast<int64_t>(c) < rank.num_collectives ? text_of(rank.collectives[c].role)
                                                          : std::string("nothing");
  });
  roles.must_agree = false;
  return roles;
}

void add_collectives(Facts facts, std::vector<Topic>& topics) {
  for (size_t c = 0; c < RankFacts::kCollectives; ++c) {
    const auto has = [c](const RankFacts& rank) { return static_cast<int64_t>(c) < rank.num_collectives; };
    if (std::none_of(facts.begin(), facts.end(), has)) break;
    const std::string name = concat("collectives[", c, "]");
    topics.push_back(topic(name, facts, [&](const RankFacts& rank) {
      return has(rank) ? text_of(rank.collectives[c]) : std::string("nothing");
    }));
    topics.push_back(roles_of(facts, c, name));
  }
  topics.push_back(
      topic("num_collectives", facts, [](const RankFacts& rank) { return concat(rank.num_collectives); }));
  topics.push_back(topic("collectives", facts, [](const RankFacts& rank) {
    return concat("digest ", hex(rank.collectives_digest));
  }));
}

// In the order in which a person looks for a cause: is it the same step, were the ranks set up alike, do they
// count alike, do they plan alike, and only then what follows from that.
std::vector<Topic> topics_of(Facts facts, RankGroup group) {
  std::vector<Topic> topics;
  topics.push_back(topic("participation", facts,
                         [](const RankFacts& rank) { return std::string(name_of(rank.participation)); }));
  topics.back().must_agree = group != RankGroup::kData;
  topics.back().always_shown = true;
  topics.push_back(topic_of(info_of(FieldId::epoch), facts, group));
  topics.push_back(
      topic("config", facts, [](const RankFacts& rank) { return concat("digest ", hex(rank.config)); }));
  add_capacities(facts, topics);
  for (const bool scalars : {true, false}) {
    for (const FieldInfo& info : kFields) {
      if (info.id != FieldId::epoch && has_value(info) == scalars)
        topics.push_back(topic_of(info, facts, group));
    }
  }
  topics.push_back(topic("graph_key", facts, [](const RankFacts& rank) {
    return rank.graph_key == 0 ? std::string("eager") : concat("graph ", hex(rank.graph_key));
  }));
  topics.back().always_shown = true;
  topics.push_back(topic("sampled_tokens", facts,
                         [](const RankFacts& rank) { return concat("digest ", hex(rank.sampled_tokens)); }));
  topics.back().must_agree = group != RankGroup::kData;
  topics.back().is_digest = true;
  add_collectives(facts, topics);
  return topics;
}

}  // namespace

Digest agreement_digest(const RankFacts& facts, RankGroup group) {
  Digest digest = static_cast<Digest>(group);
  for (const FieldInfo& info : kFields) {
    if (must_agree(info, group)) digest = mix64(digest, facts.field(info.id));
  }
  if (group != RankGroup::kData)
    digest = mix64(digest ^ static_cast<uint64_t>(facts.participation), facts.sampled_tokens);
  digest = mix64(digest ^ facts.config, facts.graph_key);
  digest = mix64(digest ^ static_cast<uint64_t>(facts.num_collectives), facts.collectives_digest);
  for (int64_t c = 0; c < facts.num_capacities; ++c) {
    const CapacityFact& capacity = facts.capacities[static_cast<size_t>(c)];
    digest = digest_bytes(capacity.name.view().data(), capacity.name.view().size(), digest);
    digest = mix64(digest, static_cast<uint64_t>(capacity.value));
  }
  return digest;
}

namespace {

bool differs(const Topic& topic) {
  return std::any_of(topic.said.begin(), topic.said.end(),
                     [&](const std::string& said) { return said != topic.said[0]; });
}

// What most say; on a tie, what the first of them says.
const std::string& most_said(const Topic& topic) {
  const auto votes = [&](const std::string& said) {
    return std::count(topic.said.begin(), topic.said.end(), said);
  };
  return *std::max_element(topic.said.begin(), topic.said.end(),
                           [&](const std::string& a, const std::string& b) { return votes(a) < votes(b); });
}

struct Disagreement {
  std::string field;
  int32_t rank = 0;
  std::string expected;
  std::string found;
};

Status refuse(Facts facts, RankGroup group, Disagreement what) {
  Fault fault{.check = "G1",
              .moment = Moment::kGroup,
              .consumer = "",
              .field = std::move(what.field),
              .row = -1,
              .rank = what.rank,
              .step = facts[0].field(FieldId::epoch),
              .expected = std::move(what.expected),
              .found = std::move(what.found)};
  if (!rule_is_on(fault.check)) return {};
  std::string message = concat(fault.message(), "\n", disagreement_table(facts, group));
  return {Code::kInternal, std::move(message), std::make_shared<const Fault>(std::move(fault))};
}

Status check_roles(Facts facts, RankGroup group) {
  for (size_t c = 0; c < RankFacts::kCollectives && static_cast<int64_t>(c) < facts[0].num_collectives; ++c) {
    if (facts[0].collectives[c].role == Role::kAll) continue;
    const auto sends = [c](const RankFacts& rank) { return rank.collectives[c].role == Role::kSends; };
    const auto sources = std::count_if(facts.begin(), facts.end(), sends);
    if (sources == 1) continue;
    const auto first = std::find_if(facts.begin(), facts.end(), sends);
    return refuse(
        facts, group,
        {concat("collectives[", c, "]"), first == facts.end() ? facts[0].rank : first->rank,
         "one rank that sends", concat(facts[0].collectives[c].op.view(), " that ", sources, " ranks send")});
  }
  return {};
}

}  // namespace

std::string_view name_of(RankGroup group) {
  switch (group) {
    case RankGroup::kTensor: return "tensor-parallel";
    case RankGroup::kContext: return "context-parallel";
    case RankGroup::kData: return "data-parallel";
  }
  return "unknown";
}

std::string_view name_of(Participation participation) {
  switch (participation) {
    case Participation::kActiveDecode: return "active-decode";
    case Participation::kActiveOther: return "active-other";
    case Participation::kIdle: return "idle";
  }
  return "unknown";
}

void RankFacts::add(const CollectiveFact& collective) {
  if (num_collectives < static_cast<int64_t>(kCollectives))
    collectives[static_cast<size_t>(num_collectives)] = collective;
  ++num_collectives;
  struct {
    FactName op, group;
    DType dtype;
    int64_t count;
  } const equal{collective.op, collective.group, collective.dtype,
                collective.any_count ? -1 : collective.count};
  static_assert(std::has_unique_object_representations_v<decltype(equal)>);
  collectives_digest = digest_bytes(&equal, sizeof(equal), collectives_digest);
}

void RankFacts::add(const CapacityFact& capacity) {
  LS_CHECK(num_capacities < static_cast<int64_t>(kCapacities), "more than ", kCapacities, " capacities");
  capacities[static_cast<size_t>(num_capacities++)] = capacity;
}

RankFacts facts_of(const StepPlan& plan, int32_t rank) {
  RankFacts facts{.rank = rank};
  for (const FieldInfo& info : kFields) {
    uint64_t& fact = facts.fields[static_cast<size_t>(info.id)];
    const ImageLayout::Place& place = plan.layout().place(info.id);
    if (has_value(info)) {
      std::memcpy(&fact, plan.image().data() + place.offset, static_cast<size_t>(info.element_bytes));
      continue;
    }
    const int32_t groups = info.scope == Scope::kPlan ? 1 : plan.layout().num_groups();
    for (int32_t g = 0; g < groups; ++g) fact = mix64(fact, plan.field_digest(info.id, GroupId(g)));
  }
  const auto phase = static_cast<Phase>(plan.scalar(field::phase));
  facts.participation = phase == Phase::kIdle     ? Participation::kIdle
                        : phase == Phase::kDecode ? Participation::kActiveDecode
                                                  : Participation::kActiveOther;
  return facts;
}

Status agree(std::span<const RankFacts> facts, RankGroup group) {
  if (facts.empty()) return {};
  const Digest first = agreement_digest(facts[0], group);
  const bool all_same = std::all_of(facts.begin() + 1, facts.end(), [&](const RankFacts& rank) {
    return agreement_digest(rank, group) == first;
  });
  if (all_same) return check_roles(facts, group);
  for (const Topic& topic : topics_of(facts, group)) {
    if (!topic.must_agree || !differs(topic)) continue;
    const std::string& expected = most_said(topic);
    const auto other = std::find_if(topic.said.begin(), topic.said.end(),
                                    [&](const std::string& said) { return said != expected; });
    const auto agreeing = std::find(topic.said.begin(), topic.said.end(), expected);
    const RankFacts& odd = facts[static_cast<size_t>(other - topic.said.begin())];
    const RankFacts& even = facts[static_cast<size_t>(agreeing - topic.said.begin())];
    return refuse(facts, group,
                  {topic.name, odd.rank, concat(expected, ", as on rank ", even.rank),
                   concat(*other, " on rank ", odd.rank)});
  }
  return check_roles(facts, group);
}

std::string disagreement_table(std::span<const RankFacts> facts, RankGroup group) {
  const std::vector<Topic> topics = topics_of(facts, group);
  size_t name_width = 0;
  std::vector<size_t> widths;
  for (const RankFacts& rank : facts) widths.push_back(concat("rank ", rank.rank).size());
  const auto shown = [](const Topic& topic) {
    return topic.always_shown || (differs(topic) && (topic.must_agree || !topic.is_digest));
  };
  for (const Topic& topic : topics) {
    if (!shown(topic)) continue;
    name_width = std::max(name_width, topic.name.size());
    for (size_t r = 0; r < facts.size(); ++r) widths[r] = std::max(widths[r], topic.said[r].size());
  }
  const auto line = [&](std::string_view name, std::string_view mark, const auto& column) {
    std::ostringstream out;
    out << std::left << std::setw(static_cast<int>(name_width)) << name;
    for (size_t r = 0; r < facts.size(); ++r)
      out << "  " << std::setw(static_cast<int>(widths[r])) << column(r);
    const std::string text = concat(out.str(), mark);
    return text.substr(0, text.find_last_not_of(' ') + 1);
  };
  std::string table = line(name_of(group), "", [&](size_t r) { return concat("rank ", facts[r].rank); });
  for (const Topic& topic : topics) {
    if (!shown(topic)) continue;
    const std::string_view mark = topic.must_agree && differs(topic) ? "  differs" : "";
    table += concat("\n", line(topic.name, mark, [&](size_t r) { return topic.said[r]; }));
  }
  return table;
}

}  // namespace lockstep
