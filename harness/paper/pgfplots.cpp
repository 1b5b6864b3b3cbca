#include "harness/paper/pgfplots.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>

#include "harness/paper/format.h"
#include "harness/results/append_file.h"

namespace attn {
namespace {

struct Panel {
  std::string setting;
  std::vector<const Series*> curves;
};

std::string axis_label(Axis axis) {
  switch (axis) {
    case Axis::n:
      return "sequence length $n$";
    case Axis::d:
      return "head width $d$";
    case Axis::h_fixed_width:
      return "heads $h$, model width held";
    case Axis::h_fixed_head:
      return "heads $h$, head width held";
    case Axis::density:
      return "density";
    case Axis::d_o:
      return "layer width $d_o$";
  }
  return "";
}

std::string cell(const Number& value) { return value ? fmt::format("{}", *value) : "nan"; }

Number difference(const Number& a, const Number& b) { return a && b ? Number(*a - *b) : Number(); }

/// Columns: x, then value, distance to the interval's lower and upper end per curve; nan where there is none.
std::string data_file(const Panel& panel, Quantity quantity) {
  std::string text = "x";
  std::set<double> all;
  for (size_t k = 0; k < panel.curves.size(); ++k) {
    text += fmt::format(" y{0} minus{0} plus{0}", k + 1);
    for (const Point& point : panel.curves[k]->points) all.insert(point.x);
  }
  text += '\n';
  for (const double x : all) {
    text += fmt::format("{}", x);
    for (const Series* curve : panel.curves) {
      const auto found = std::find_if(curve->points.begin(), curve->points.end(),
                                      [&](const Point& point) { return point.x == x; });
      Number value, minus, plus;
      if (found != curve->points.end() && found->row->status == Status::ok) {
        const ResultRow& row = *found->row;
        value = measured_value(row, quantity);
        if (quantity == Quantity::time) {
          minus = difference(value, row.time_s_ci_low);
          plus = difference(row.time_s_ci_high, value);
        }
      }
      // An absent interval is one of no width: pgfplots would drop the point.
      text += fmt::format(" {} {} {}", cell(value), cell(value ? minus.value_or(0) : minus),
                          cell(value ? plus.value_or(0) : plus));
    }
    text += '\n';
  }
  return text;
}

std::string fitted_curve(const Series& series, Quantity quantity) {
  const FitRow fit = fit_series(series, quantity);
  if (!fit.coefficient || !fit.from || !fit.to) return "";
  return fmt::format("\\addplot[forget plot, dashed, gray, domain={}:{}] {{{} + {}*x^({})}};\n", *fit.from,
                     *fit.to, fit.offset.value_or(0), *fit.coefficient, *fit.exponent);
}

std::string plots_of(const Panel& panel, Quantity quantity, const std::string& data) {
  std::string text;
  for (size_t k = 0; k < panel.curves.size(); ++k) {
    const std::string errors =
        quantity == Quantity::time ? fmt::format(", error bars/.cd, y dir=both, y explicit", k + 1) : "";
    text += fmt::format(
        "\\addplot+[unbounded coords=discard{}] table[x=x, y=y{}{}] {{{}}};\n", errors, k + 1,
        errors.empty() ? "" : fmt::format(", y error minus=minus{0}, y error plus=plus{0}", k + 1), data);
    text += fmt::format("\\addlegendentry{{{}}}\n", latex_escaped(panel.curves[k]->variant));
    text += fitted_curve(*panel.curves[k], quantity);
  }
  return text;
}

std::string title_of(const std::string& setting) {
  std::string text = latex_escaped(setting);
  for (size_t at = 0; (at = text.find(',', at)) != std::string::npos; at += 2) text.replace(at, 1, ", ");
  return text;
}

class Figure {
 public:
  Figure(Axis axis, Quantity quantity, std::string folder)
      : axis_(axis), quantity_(quantity), folder_(std::move(folder)) {}

  /// Nothing where the campaign holds no such sweep.
  std::optional<std::string> write(const std::vector<Series>& sweeps) const {
    std::vector<Panel> panels;
    for (const Series& series : sweeps) {
      if (series.axis != axis_ || !has_values(series)) continue;
      if (panels.empty() || panels.back().setting != series.setting) panels.push_back({series.setting, {}});
      panels.back().curves.push_back(&series);
    }
    if (panels.empty()) return {};
    const std::string path = fmt::format("{}/{}.tex", folder_, name());
    replace_file(path, document(panels));
    return path;
  }

 private:
  std::string name() const {
    return fmt::format("{}_vs_{}", quantity_ == Quantity::time ? "time" : "memory", to_text(axis_));
  }

  bool has_values(const Series& series) const {
    return std::any_of(series.points.begin(), series.points.end(), [&](const Point& point) {
      return point.row->status == Status::ok && measured_value(*point.row, quantity_).value_or(0) > 0;
    });
  }

  std::string document(const std::vector<Panel>& panels) const {
    std::string text = fmt::format(
        "\\documentclass{{standalone}}\n\\usepackage{{pgfplots}}\n\\usepgfplotslibrary{{groupplots}}\n"
        "\\pgfplotsset{{compat=1.16}}\n\\begin{{document}}\n\\begin{{tikzpicture}}\n"
        "\\begin{{groupplot}}[group style={{group size=1 by {}, vertical sep=2.2cm}}, width=12cm, "
        "height=7cm, "
        "xmode=log, ymode=log, log basis x=2, xlabel={{{}}}, ylabel={{{}}}, title "
        "style={{font=\\scriptsize}}, "
        "legend pos=north west, legend style={{font=\\scriptsize}}, legend cell align=left]\n",
        panels.size(), axis_label(axis_),
        quantity_ == Quantity::time ? "time (s)" : "operands and workspace (bytes)");
    for (size_t k = 0; k < panels.size(); ++k) {
      const std::string data = fmt::format("{}_{}.dat", name(), k + 1);
      replace_file(folder_ + "/" + data, data_file(panels[k], quantity_));
      text += fmt::format("\\nextgroupplot[title={{{}}}]\n", title_of(panels[k].setting));
      text += plots_of(panels[k], quantity_, data);
    }
    return text + "\\end{groupplot}\n\\end{tikzpicture}\n\\end{document}\n";
  }

  Axis axis_;
  Quantity quantity_;
  std::string folder_;
};

}  // namespace

std::vector<std::string> export_pgfplots(const CampaignData& campaign, const std::string& folder) {
  const std::vector<Series> sweeps =
      group_series(campaign.rows, campaign.samples, memory_levels(campaign.environment));
  std::filesystem::create_directories(folder);
  std::vector<std::string> paths;
  for (const Axis axis : kGrowthAxes) {
    for (const Quantity quantity : {Quantity::time, Quantity::total_memory}) {
      if (const auto path = Figure(axis, quantity, folder).write(sweeps)) paths.push_back(*path);
    }
  }
  return paths;
}

}  // namespace attn
