// attnbench plan: what a sweep would measure, what each point costs, and which machine gets it.

#include <fmt/format.h>

#include <memory>
#include <vector>

#include "harness/campaign/share.h"
#include "harness/cli/command.h"
#include "harness/cli/sweep_options.h"
#include "harness/results/append_file.h"

namespace attn {
namespace {

struct PlanArguments {
  std::shared_ptr<SweepOptions> sweep;
  std::string out;
  int shards = 1;
};

void run_plan(const PlanArguments& arguments) {
  const PlannedCampaign campaign(*arguments.sweep);
  const double budget_s = campaign.options.budget_s;
  const std::string table = plan_table(campaign.plan, budget_s, arguments.shards);
  if (arguments.out.empty()) {
    fmt::print("{}", table);
    return;
  }
  replace_file(arguments.out, table);
  fmt::print("{} points, {} rows in {}\n", campaign.plan.points.size(), campaign.plan.rows(), arguments.out);
  struct Share {
    size_t points = 0;
    double total_s = 0;
  };
  std::vector<Share> shares(static_cast<size_t>(arguments.shards));
  const std::vector<int> dealt = deal_points(campaign.plan, budget_s, arguments.shards);
  for (size_t k = 0; k < dealt.size(); ++k) {
    Share& share = shares[static_cast<size_t>(dealt[k])];
    ++share.points;
    share.total_s += cost_s(campaign.plan.points[k], budget_s);
  }
  for (size_t k = 0; k < shares.size(); ++k) {
    fmt::print("shard {}/{}: {} points, about {:.0f} s\n", k, shares.size(), shares[k].points,
               shares[k].total_s);
  }
}

void add_plan(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand(
      "plan",
      "Writes what a sweep with the same options would measure: a line per point with memory, estimated "
      "seconds on a nominal machine, and the shard that gets it. The same on every machine.");
  auto arguments = std::make_shared<PlanArguments>();
  arguments->sweep = add_sweep_options(*command);
  command->add_option("--shards", arguments->shards, "Number of machines to deal the points to.")
      ->type_name("N")
      ->check(CLI::Range(1, kMostShards))
      ->capture_default_str();
  command->add_option("--out", arguments->out, "File to write. Default: standard output.")->type_name("FILE");
  command->callback([arguments] { run_plan(*arguments); });
}

ATTN_COMMAND(21, add_plan);

}  // namespace
}  // namespace attn
