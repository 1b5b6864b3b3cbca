#pragma once
// Figures and report are drawn by Python from the CSV files alone (plots/report.py).

#include <string>
#include <vector>

namespace attn {

/// The interpreters tried, in order: $ATTNBENCH_PYTHON alone where it is set; else python3 on PATH, the
/// system's, and the one of the checkout's .venv.
std::vector<std::string> python_candidates();
/// The first candidate that imports matplotlib, pandas, SciPy and Jinja2; throws std::runtime_error that says
/// what to install where there is none.
std::string find_python();

/// Draws DIR/figures and DIR/report.html, says which interpreter was used, returns the path of the report.
/// Throws UsageError where DIR holds no campaign, std::runtime_error where drawing fails.
std::string run_report(const std::string& dir);

}  // namespace attn
